#!/usr/bin/env bash
# A disk that takes its time: what a killed daemon had in flight to a plex, to its state files or with the mover lands before
# its successor writes, and never after.
# timeout: 900
. "$(dirname "$0")/cleave.sh"

need_module dm_mod dm_delay
slow_ms=2000

# slow_device NAME FILE SIZE: sets `slow` to a device on FILE, as fast as it can be until it is told otherwise.
slow_device() {
    local name=cleave-slow-$1-$$
    loop_device "$2" "$3" --direct-io=on
    sectors=$(blockdev --getsz "$device")
    backing[$1]=$device length[$1]=$sectors
    step 30 dmsetup create "$name" --table "0 $sectors delay $device 0 0 $device 0 0"
    at_exit eval "! dmsetup info $name || dmsetup remove --retry $name"
    step 30 dmsetup mknodes "$name"
    slow=/dev/mapper/$name
}
declare -A backing length
# delay NAME MILLISECONDS: how long its writes and flushes take from now on.
delay() {
    step 30 dmsetup reload "cleave-slow-$1-$$" --table "0 ${length[$1]} delay ${backing[$1]} 0 0 ${backing[$1]} 0 $2 ${backing[$1]} 0 $2"
    step 30 dmsetup suspend --noflush --nolockfs "cleave-slow-$1-$$"
    step 30 dmsetup resume "cleave-slow-$1-$$"
}
# block WORD: 64 KiB of it.
block() {
    local line
    printf -v line '%-64s' "$1"
    printf "%.0s$line" {1..1024}
}
# holds WORD PLACE: block PLACE of the volume and of all its plexes is WORD's.
holds() {
    local path
    cmp <(block "$1") <(dd if="$node" bs=64k skip="$2" count=1 iflag=direct status=none) >&2 || die "the volume holds something else than $1"
    while read -r path; do
        cmp <(block "$1") <(dd if="$path" bs=64k skip="$2" count=1 iflag=direct status=none) >&2 || die "$path holds something else than $1"
    done < <(cleave --json show v | jq -r '.volumes[0].plexes[].path')
}
# in_flight: a write to the volume has not ended. (What a delayed device has in flight, its statistics do not tell.)
in_flight() {
    local writes
    read -r _ writes <"/sys/block/${node##*/}/inflight"
    ((writes))
}
logged_since() { tail -n +"$1" "$CLEAVE_TEST_LOG" | grep -q "$2"; }
log_end() { echo $(($(wc -l <"$CLEAVE_TEST_LOG") + 1)); }

slow_device state state-disk 128M
step 60 mkfs.ext4 -q -F "$slow"
mounted "$slow" "$CLEAVE_TEST_STATE"
slow_device plex plex-disk 40M
plex=$slow
slow_device mirror mirror-disk 40M
mirror=$slow
start_daemon
# The end of the daemon is not to wait for them.
for name in state plex mirror; do
    device=cleave-slow-$name-$$
    at_exit eval "dmsetup reload $device --table '0 ${length[$name]} linear ${backing[$name]} 0' && dmsetup suspend --noflush --nolockfs $device; dmsetup resume $device"
done
step 120 cleave -q make v 32m -n 2 --plex "$plex"
step 120 cleave -q task watch
node=$(device_of v)

# overwrite PLACE: a write is in flight, to one of the devices that take their time, when the daemon dies; what is written after
# that is what counts, however late the first one lands. Counts `fences`, which successors were seen to wait for: on a busy machine
# one may come when there is nothing to wait for any more.
fences=0
overwrite() {
    local place=$1 from first
    block old | dd of="$node" bs=64k seek="$place" count=1 iflag=fullblock oflag=direct conv=notrunc status=none &
    first=$!
    kill_at_exit $first
    wait_for 30 in_flight
    sleep "0.$((RANDOM % 5))"
    kill_daemon
    from=$(log_end)
    spawn_daemon
    # It queues behind the one that was not acknowledged, which the successor gets anew.
    wait_child $first 120 "the write under way"
    block new | timeout -k 2 120 dd of="$node" bs=64k seek="$place" count=1 iflag=fullblock oflag=direct conv=notrunc status=none
    daemon_answers 120
    if logged_since "$from" 'waiting for fence'; then fences=$((fences + 1)); fi
    sleep $((slow_ms / 1000 + 1))
    holds new "$place"
}

delay plex $slow_ms
for ((place = 1; place <= $(long_or 2 1); place++)); do overwrite $((place * 64)); done
delay plex 0
echo "a slow plex: nothing late has landed"

# State files too, in a place whose intent is not recorded yet.
delay plex $slow_ms
delay state 700
for ((place = 3; place <= $(long_or 4 3); place++)); do overwrite $((place * 64)); done
((fences > 0)) || die "no successor waited for its predecessor's fence"
delay state 0
delay plex 0
idle() { cleave --json task list | jq -e '[.tasks[] | select(.state == "running")] | length == 0'; }
wait_for 120 idle
assert_equal_plexes v 2
echo "a slow state directory: nothing late has landed"

# The mover's writes are in flight when the daemon dies.
for ((round = 1; round <= $(long_or 2 1); round++)); do
    delay mirror $slow_ms
    step 60 cleave -q snapstart -b v --plex "$mirror"
    sleep "1.$((RANDOM % 10))"
    kill_daemon
    spawn_daemon
    for place in 1 3 5 7; do block "mirror $round" | timeout -k 2 120 dd of="$node" bs=64k seek=$((place * 60)) count=1 iflag=fullblock oflag=direct conv=notrunc status=none; done
    daemon_answers 120
    delay mirror 0
    # A mirror that was too slow for the writes has left, and catches up when it is back.
    if ! cleave -q snapwait v; then
        step 60 cleave -q stop v
        step 60 cleave -q start v
        step 120 cleave -q snapwait v
        node=$(device_of v)
    fi
    sleep $((slow_ms / 1000 + 1))
    wait_for 120 idle
    for place in 1 3 5 7; do holds "mirror $round" $((place * 60)); done
    assert_equal_plexes v 3
    step 60 cleave -q snapabort v
done
echo "a slow mirror: nothing late has landed"
step 60 cleave -q stop v
