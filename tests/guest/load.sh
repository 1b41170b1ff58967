# shellcheck shell=bash
# What tests source after cleave.sh that kill the daemon below a mounted file system: fio, which writes files and verifies
# them without an end, and a look at whether its writes move on.

# start_load DIR: passes of fio on files in DIR, each of which writes every block of its files once in random order and
# reads all of them back. Sets `writer`, the process that runs them.
start_load() {
    rm -f stop passed
    cat >job <<JOB
[global]
directory=$1
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
    load_passes &
    writer=$!
    kill_at_exit $writer
}
load_passes() {
    until [[ -e stop ]]; do
        fio --output=fio.out job || return
        echo pass >>passed
    done
}

# load_lives: fio has met no error yet.
load_lives() {
    gone "$writer" || return 0
    die "an application error, fio has ended: $(<fio.out)"
}

# end_load: the passes end, without an error; prints how many there were.
end_load() {
    touch stop
    wait_child "$writer" 300 "fio"
    echo "fio passes without an error: $(wc -l <passed)"
}

# completed NODE: sets `done_writes` to the writes that the device has completed so far, `done_requests` to reads and writes.
completed() {
    local -a stat
    read -ra stat <"/sys/block/${1##*/}/stat"
    done_writes=${stat[4]} done_requests=$((stat[0] + stat[4]))
}

# nap: a hundredth of a second, without a process, which would take longer than that in a guest that is emulated.
nap() { read -rt 0.01 -u "$never" || true; }
exec {never}<> <(:)

# moves_on NODE [done_requests]: waits until a write completes, or any request.
moves_on() {
    local -n done=${2:-done_writes}
    local before end=$((SECONDS + 60))
    completed "$1"
    before=$done
    while completed "$1" && ((done == before)); do
        load_lives
        ((SECONDS < end)) || die "nothing completes any more: $(tail -n 5 "$CLEAVE_TEST_LOG")"
        nap
    done
}

# pause_of COMMAND...: runs it, which ends and replaces the daemon below `node`; sets `pause` to the milliseconds from its
# beginning to the first request that completes after it. The load always has some that wait.
pause_of() {
    local began
    began=$(now_ms)
    "$@"
    moves_on "$node" done_requests
    pause=$(($(now_ms) - began))
}
