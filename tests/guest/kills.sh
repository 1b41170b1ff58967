#!/usr/bin/env bash
# cleaved is killed again and again below a mounted file system that fio writes to and verifies: no I/O error, the same
# node, equal plexes, a clean file system.
# smoke
# timeout: 900
. "$(dirname "$0")/cleave.sh"

kills=$(long_or 20 3)

start_daemon
step 60 cleave make v 96m -n 2
node=$(device_of v)
step 60 mkfs.ext4 -q "$node"
mount_volume v mnt

# One pass writes each block of its file once, in random order, and reads all of them back.
cat >job <<'JOB'
[global]
directory=mnt
ioengine=libaio
direct=1
rw=randwrite
verify=crc32c
verify_fatal=1
verify_backlog=64
[blocks]
size=24m
bssplit=4k/60:16k/30:64k/10
iodepth=16
[synced]
size=4m
bs=4k
fsync=8
iodepth=4
JOB
passes() {
    until [[ -e stop ]]; do
        fio --output=fio.out job || return
        echo pass >>passed
    done
}
passes &
writer=$!
kill_at_exit $writer

# completed: writes that the device has completed so far.
completed() {
    local -a stat
    read -ra stat <"/sys/block/${node##*/}/stat"
    done_writes=${stat[4]}
}
# moves_on: waits until a write completes.
moves_on() {
    local before end=$(($(now_ms) + 60000))
    completed
    before=$done_writes
    while completed && ((done_writes == before)); do
        gone $writer && die "the writer has ended: $(<fio.out)"
        (($(now_ms) < end)) || die "no write completes any more: $(tail -n 5 "$CLEAVE_TEST_LOG")"
        sleep 0.01
    done
}

pauses=()
for ((kill = 1; kill <= kills; kill++)); do
    moves_on
    # Not always at the same point of a pass.
    sleep "$((kill % 3)).$((kill * 37 % 10))"
    began=$(now_ms)
    kill_daemon
    spawn_daemon
    moves_on
    pauses+=($(($(now_ms) - began)))
    daemon_answers
    assert_eq "$node" "$(device_of v)" "the node after kill $kill"
done
echo "pauses of writes, ms, one for each of $kills kills: ${pauses[*]}"

touch stop
wait_child $writer 300 "the writer"
echo "fio passes without an error: $(wc -l <passed)"
assert_equal_plexes v 2
assert_eq ACTIVE,ACTIVE "$(cleave --json show v | jq -r '[.volumes[0].plexes[].state] | join(",")')" "the state of the plexes"
step 60 umount mnt
step 60 e2fsck -fn "$node"
calm_log
step 30 cleave stop v
