#!/usr/bin/env bash
# Snapshots cut at queue depth 32: each holds every stamp that was acknowledged before its cut and none that was issued
# after it, differs from its origin only where the change map says so, and a file system in it is clean once its log is
# replayed. On a bare volume, on a mounted ext4 at grade crash, and with the default freeze.
# timeout: 2700
. "$(dirname "$0")/cleave.sh"

command -v stamper >/dev/null || die "there is no stamper: build it with cargo build --example stamper"
slots=1024 depth=32

start_daemon

# load TARGET OFFSET FILE FIO_OFFSET: the stamper on TARGET at OFFSET, and fio in FILE from FIO_OFFSET on.
load() {
    rm -f stop passed
    coproc stamper { exec stamper write "$1" "$2" $slots $depth; }
    stamps=$stamper_PID
    kill_at_exit "$stamps"
    cat >job <<JOB
[global]
ioengine=libaio
direct=1
thread=1
rw=randwrite
verify=crc32c
verify_fatal=1
[beside]
filename=$3
offset=$4
size=4m
bssplit=4k/70:16k/20:64k/10
iodepth=8
verify_backlog=64
fsync=64
JOB
    passes &
    writer=$!
    kill_at_exit $writer
}
passes() {
    until [[ -e stop ]]; do
        fio --output=fio.out job || return
        echo pass >>passed
    done
}
# tell WORD: has the stamper obey; sets `floor` and `next` to what it answers.
tell() {
    echo "$1" >&"${stamper[1]}"
    read -rt 60 floor next <&"${stamper[0]}" || die "the stamper does not answer to '$1'"
}
end_load() {
    tell stop
    wait_child "$stamps" 60 "the stamper"
    touch stop
    wait_child $writer 300 "fio"
    ((next > 0)) || die "no stamp was written"
}
# still DEVICE: both writers are stopped, and nothing is in flight.
still() {
    tell pause
    # The loop first, so that it starts nothing new.
    kill -STOP $writer
    paused=$(pgrep -P $writer || true)
    # shellcheck disable=SC2086
    [[ -z $paused ]] || kill -STOP $paused
    wait_for 30 idle "$1"
}
idle() { [[ $(</sys/block/"${1##*/}"/inflight) =~ ^\ *0\ +0$ ]]; }
go_on() {
    # shellcheck disable=SC2086
    [[ -z $paused ]] || kill -CONT $paused
    kill -CONT $writer
    tell go
}

# cut VOLUME [OPTION]...: takes the snapshot s; sets `low` and `high` for the stamper's check.
cut() {
    local volume=$1
    shift
    tell state
    low=$floor
    timeout -k 2 60 cleave --json snapshot "$volume" s "$@" >cut.json || die "the cut failed: $(<cut.json)"
    tell state
    high=$next
    jq -r '.hold_us' cut.json >>"holds.$kind"
    jq -r '.snapshots[].frozen_ms // empty' cut.json >>"frozen.$kind"
}
# judge COPY OFFSET
judge() {
    stamper check "$1" "$2" $slots "$low" "$high" >verdict || die "cut $turn of $kind is wrong: see above"
    echo "$low $high $(<verdict)" >>"verdicts.$kind"
}
# only_dirty_differs VOLUME: and how many regions.
only_dirty_differs() {
    local differ dirty
    differ=$(stamper differ "$(device_of "$1")" "$(device_of s)")
    dirty=$(cleave --json show s | jq '.volumes[0].snapshot.dirty_regions')
    ((differ <= dirty)) || die "$differ regions differ from the origin, but only $dirty are marked"
    ((differ > 0)) || die "nothing differs: the writers did not write"
    echo "$differ $dirty" >>"regions.$kind"
}
give_back() {
    step 120 cleave -q snapback s
}

# told: what the cuts of this kind showed.
told() {
    sort -n "holds.$kind" | awk -v kind="$kind" 'function at(share) { return h[int((NR - 1) * share + 1)] / 1000 }
        {h[NR] = $1}
        END {printf "%s: %d cuts; writes held, ms: p50 %.1f p99 %.1f max %.1f\n", kind, NR, at(0.5), at(0.99), at(1)}'
    awk '{spread += $4 - $3; around += $2 - $1} END {
        printf "  stamps issued while a cut was asked for: %.0f on average; of unsure order in a copy: %.0f\n", around / NR, spread / NR}' \
        "verdicts.$kind"
    awk '{d += $1; m += $2} END {printf "  regions that differ: %.0f of %.0f marked\n", d / NR, m / NR}' "regions.$kind"
    [[ ! -s frozen.$kind ]] || echo "  file system frozen, ms: $(sort -n "frozen.$kind" | tr '\n' ' ')"
}

# A bare volume: stamps at the front, fio's range behind them, and at the end what nobody writes.
kind=bare
step 60 cleave -q make v 32m -n 2
node=$(device_of v)
dd if=/dev/urandom of=constant bs=1M count=8 status=none
dd if=constant of="$node" bs=1M seek=24 oflag=direct status=none
step 120 cleave -q snapstart v
load "$node" 0 "$node" 16m
for ((turn = 1; turn <= $(long_or 50 5); turn++)); do
    cut v -o consistency=crash
    # The origin goes on changing, its copy does not.
    sleep 0.3
    still "$node"
    judge "$(device_of s)" 0
    cmp -n 8M -i 24M:0 "$(device_of s)" constant >&2 || die "what nobody wrote differs in cut $turn"
    only_dirty_differs v
    go_on
    give_back
done
end_load
told
assert_equal_plexes v 3
step 30 cleave -q snapabort v
step 30 cleave -q stop v
step 30 cleave -q rm v

# The same in files of a mounted file system.
step 60 cleave -q make f 48m -n 2
node=$(device_of f)
step 60 mkfs.ext4 -q "$node"
mount_volume f mnt
# Written, not only allocated: then a stamp is where it belongs as soon as it is acknowledged.
dd if=/dev/zero of=mnt/stamps bs=1M count=$((slots * 4096 >> 20)) status=none
dd if=/dev/zero of=mnt/fio bs=1M count=4 status=none
cp constant mnt/constant
sync mnt/stamps mnt/fio mnt/constant
step 120 cleave -q snapstart f
load mnt/stamps 0 mnt/fio 0
mkdir snap
unmount_at_exit snap
for kind in crash frozen; do
    case $kind in
    crash) turns=$(long_or 50 3) options=(-o consistency=crash) ;;
    frozen) turns=$(long_or 20 2) options=() ;;
    esac
    for ((turn = 1; turn <= turns; turn++)); do
        cut f "${options[@]}"
        sleep 0.3
        still "$node"
        step 60 mount "$(device_of s)" snap
        judge snap/stamps 0
        cmp snap/constant constant >&2 || die "what nobody wrote differs in cut $turn"
        step 30 umount snap
        step 60 e2fsck -fn "$(device_of s)" >e2fsck.out 2>&1
        only_dirty_differs f
        go_on
        give_back
    done
    [[ $kind == crash || $(wc -l <frozen.frozen) == "$turns" ]] || die "a default cut did not freeze"
    told
done
end_load
assert_equal_plexes f 3
step 60 umount mnt
step 60 e2fsck -fn "$node" >e2fsck.out 2>&1
echo "fio passes beside the last ones without an error: $(cat passed | wc -l)"
calm_log
