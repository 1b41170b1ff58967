#!/usr/bin/env bash
# What happens around the daemon: events and the hook, the status with its exit codes, with and without the daemon; a fence
# that is waited for; recovery that fails too often; a forced stop; the end by a signal; another binary under load.
# timeout: 420
. "$(dirname "$0")/cleave.sh"

cat >hook <<END
#!/bin/bash
{ echo "\$CLEAVE_EVENT \$CLEAVE_VOLUME \$CLEAVE_PLEX"; cat; } >>$PWD/heard
END
chmod 755 hook
export CLEAVE_TEST_WORDS="--hook $PWD/hook"

# has_status CODE [WORD]...: `cleave status` ends with that code within 20 s and says all of the words.
has_status() {
    local want=$1 code said word end=$((SECONDS + 20))
    shift
    while :; do
        code=0
        said=$(timeout -k 2 15 cleave status 2>&1) || code=$?
        ((code != want)) || break
        ((SECONDS < end)) || die "status ends with $code, not $want: $said"
        sleep 0.1
    done
    for word in "$@"; do
        grep -qE -- "$word" <<<"$said" || die "status does not say '$word': $said"
    done
}
heard() { grep -qE -- "^$1" heard; }
happened() { cleave events -n 1000 | grep -qE -- "$1"; }
state_of() { cleave --json show "$1" | jq -r '.volumes[0].state'; }
is_volume() { [[ $(state_of "$1") == "$2" ]]; }
plex_path() { cleave --json show "$1" | jq -r '.volumes[0].plexes[0].path'; }
daemon_gone() { gone "$daemon"; }
ended() { wait_for 20 daemon_gone; { wait "$daemon" || true; } 2>/dev/null; }

# A part of a second: `part NAME` says where the time goes.
part_began=$(now_ms)
part() {
    echo "$1: $(($(now_ms) - part_began)) ms"
    part_began=$(now_ms)
}

expect_fail 'does not run' cleave list
start_daemon
need_module dm_mod dm_delay
has_status 0 'ok: 0 of 0'
heard 'daemon.started' || wait_for 5 heard 'daemon.started'

# One plex on a file, the other on a device that can be made to fail or to take its time.
loop_device disk 64M --direct-io=on
disk=$device sectors=$((64 << 11)) dm=cleave-life-$$
step 30 dmsetup create "$dm" --table "0 $sectors linear $disk 0"
[[ -b /dev/mapper/$dm ]] || step 30 dmsetup mknodes "$dm"
at_exit eval "! dmsetup info $dm || dmsetup remove --retry $dm"
table() {
    printf '%s\n' "$@" | step 30 dmsetup reload "$dm"
    step 30 dmsetup suspend --noflush --nolockfs "$dm"
    step 30 dmsetup resume "$dm"
}
step 60 cleave -q make v 48m -n 2 --plex "/dev/mapper/$dm"
step 60 cleave -q task watch
node=$(device_of v)
has_status 0 '1 of 1 volume is well' "default +v +ok +ACTIVE +2 of 2 +$node"
part 'made'

# A plex is lost: told everywhere, once; it is back: told too.
table "0 $sectors error"
dd if=/dev/urandom of="$node" bs=64k count=4 oflag=direct status=none
has_status 80 'degraded: 0 of 1' 'v: plex v-0[12] is STALE' 'error +plex.lost'
wait_for 10 heard 'plex.lost v v-'
grep '^{' heard | tail -n 1 | jq -e '.id and .severity and .number' >/dev/null || die "the hook heard no JSON: $(tail -n 2 heard)"
assert_eq 1 "$(cleave --json events -n 1000 | jq '[.events[] | select(.id == "plex.lost")] | length')" "how often it is told"
grep -qE 'ERROR .*id="plex.lost".*volume="v"' "$CLEAVE_TEST_LOG" || die "the journal has no plex.lost: $(grep plex "$CLEAVE_TEST_LOG")"
cleave events --follow --json >followed &
follower=$!
kill_at_exit $follower
table "0 $sectors linear $disk 0"
step 60 cleave -q stop v
step 60 cleave -q start v
wait_for 30 happened 'volume.whole v: '
has_status 0
wait_for 10 grep -q '"id":"volume.whole"' followed
kill $follower
wait $follower || true
node=$(device_of v)
part 'plex lost and back'

# The daemon is killed while a plex takes its time: its successor says what it waits for.
table "0 $sectors delay $disk 0 0 $disk 0 60000"
dd if=/dev/urandom of="$node" bs=64k count=1 oflag=direct status=none &
writer=$!
sleep 0.5
kill -9 "$daemon"
spawn_daemon
# For the process itself, or for what the kernel does for it when it is gone.
wait_for 30 grep -q 'waiting for fence: ' "$CLEAVE_TEST_LOG"
echo "seen: $(grep -o 'waiting for fence: .*' "$CLEAVE_TEST_LOG" | tail -n 1)"
table "0 $sectors linear $disk 0"
daemon_answers 90
wait_child $writer 60 'the writer whose daemon was killed'
wait_for 60 is_volume v ACTIVE
part 'fence'

# Without the daemon: seen, dumped, stopped by force. Who waits gets an error, within the limit.
step 60 cleave -q make w 16m
other=$(device_of w)
kill_daemon
fio --name=hang --filename="$node" --rw=randwrite --bs=4k --iodepth=4 --ioengine=libaio --direct=1 --size=16m >fio.out 2>&1 &
writer=$!
kill_at_exit $writer
sleep 1
gone $writer && die "fio does not wait for a daemon: $(<fio.out)"
has_status 3 'the daemon does not run' 'failed: 0 of 2' 'v: its device waits for a daemon' "$other"
assert_eq failed "$(cleave --json status v | jq -r '.volumes[0].health' || true)" 'the health of v in JSON'
expect_fail 'no such volume' cleave status nosuch
cleave dump >dumped
for word in 'configuration: generation' 'label at' "plex v-01 of volume v" 'intent\..* set in' '"name": "w"'; do
    grep -qE -- "$word" dumped || die "the dump does not say '$word': $(cut -c 1-200 dumped)"
done
began=$(now_ms)
step 30 cleave force-stop v >forced
echo "force-stop without the daemon: $(($(now_ms) - began)) ms; $(tr '\n' ';' <forced)"
end=$((SECONDS + 20))
until gone $writer; do ((SECONDS < end)) || die "fio still waits after force-stop"; sleep 0.1; done
wait $writer && die "fio saw no error"
grep -qE 'Input/output error|No such device|errno|err=' fio.out || die "fio: $(<fio.out)"
[[ ! -b $node ]] || die "$node is still there"
expect_fail 'not started' cleave force-stop v
spawn_daemon
daemon_answers
has_status 80 'v: it was not stopped in good order'
happened 'volume.crashed v: ' || die "the crash is not told: $(cleave events)"
step 60 cleave -q start v
wait_for 60 is_volume v ACTIVE
assert_equal_plexes v 2
node=$(device_of v)
part 'forced without the daemon'

# With the daemon: what hangs on a medium fails too.
table "0 $sectors delay $disk 0 0 $disk 0 60000"
(dd if=/dev/urandom of="$node" bs=64k count=1 oflag=direct status=none 2>dd.out || echo failed >>dd.out) &
writer=$!
sleep 0.5
began=$(now_ms)
step 40 cleave force-stop v >forced
echo "force-stop with the daemon: $(($(now_ms) - began)) ms; $(tr '\n' ';' <forced)"
wait_child $writer 20 'the writer of a volume stopped by force'
grep -q failed dd.out || die "the writer saw no error"
table "0 $sectors linear $disk 0"
has_status 80 'v: it was not stopped in good order'
step 90 cleave -q start v
wait_for 60 is_volume v ACTIVE
node=$(device_of v)
part 'forced with the daemon'

# A volume that cannot be taken over keeps no other from it, is not tried for ever, and is never deleted by itself.
plex=$(plex_path w)
dd if=/dev/urandom of=content bs=1M count=4 status=none
dd if=content of="$other" bs=1M oflag=direct status=none
kill_daemon
mv "$plex" hidden
dd if="$other" of=read bs=1M count=4 iflag=direct status=none &
reader=$!
for attempt in 1 2 3 4 5 6; do
    spawn_daemon
    daemon_answers
    has_status 81 'w: it could not be taken over' 'v +(ok|degraded)'
    [[ -b $other ]] || die "the device of w was deleted"
    if ((attempt <= 5)); then
        happened "volume.not-recovered w: .*attempt $attempt of 5" || die "attempt $attempt is not told: $(cleave events)"
    else
        happened 'volume.given-up w: ' || die "it is not told that w is given up: $(cleave events)"
        has_status 81 'is not tried again; try again with: cleave start w'
    fi
    kill_daemon
done
mv hidden "$plex"
spawn_daemon
daemon_answers
has_status 81 'w: it could not be taken over 5 times'
step 60 cleave -q start w
wait_child $reader 30 'the reader of w'
assert_same content read 'what was read once w was back'
assert_eq "$other" "$(device_of w)" 'the node of w'
kill_daemon
spawn_daemon
daemon_answers
has_status 0
part 'given up and back'

# The end by a signal, under load: the volume in use waits for the next daemon, the other is stopped.
fio --name=busy --filename="$node" --rw=randwrite --bs=4k --iodepth=8 --ioengine=libaio --direct=1 --size=24m \
    --verify=crc32c --verify_fatal=1 --verify_backlog=256 --loops=1000 --time_based --runtime=60 >fio.out 2>&1 &
writer=$!
kill_at_exit $writer
sleep 1
kill -TERM "$daemon"
ended
[[ -b $node && ! -b $other ]] || die "after SIGTERM: $(ls /dev/ublkb* || true)"
tail -n 40 "$CLEAVE_TEST_LOG" | grep -q 'volumes in use wait for the next daemon: v' || die "the end is not told"
spawn_daemon
daemon_answers
assert_eq CLEAN,ACTIVE "$(state_of w),$(cleave --json show v | jq -r '.volumes[0].state' | sed s/SYNC/ACTIVE/)" 'w and v after SIGTERM'
gone $writer && die "fio saw it: $(<fio.out)"
part 'ended by a signal'

# Another binary takes over under load, twice, while a snapshot mirror is copied: that goes on where it was.
wait_for 60 is_volume v ACTIVE
progress() {
    cleave --json task list | jq '[.tasks[] | select(.kind == "snapstart")][-1] // {task: 0, done_bytes: 0, total_bytes: 0}'
}
# One of the plexes that it reads takes its time.
table "0 $sectors delay $disk 0 100"
step 60 cleave -q snapstart -b --rate 1m v
progress | jq -e '.total_bytes - .done_bytes >= 20 * 1048576 and .limit_bytes == 1048576' >/dev/null || die "it is not slow: $(progress)"
sleep 2
for ((round = 1; round <= 2; round++)); do
    before=$(progress)
    cp "$(command -v cleaved)" "next-$round"
    cleave daemon upgrade --binary "$PWD/next-$round"
    assert_eq "$node" "$(device_of v)" "the node after upgrade $round"
    [[ $(readlink "/proc/$daemon/exe") == "$PWD/next-$round" ]] || die "another binary runs: $(readlink "/proc/$daemon/exe")"
    now=$(progress)
    left=$(jq '.total_bytes - .done_bytes' <<<"$before") todo=$(jq .total_bytes <<<"$now")
    echo "upgrade $round: of $(jq .total_bytes <<<"$before") bytes $left were left, the next daemon has $todo to copy"
    # What the load has written meanwhile over what was copied is not copied again: writes go to the mirror as well. What
    # was in flight may be.
    ((todo <= left + (8 << 20))) || die "the copy began again: $todo bytes to copy, $left were left"
    # It may have ended by now: then the second time it is the binary alone that is looked at.
    ((round == 2)) || cleave -q task throttle "$(jq .task <<<"$now")" 1m 2>/dev/null || true
done
table "0 $sectors linear $disk 0"
printf '#!/bin/sh\necho "cleaved: too old for this" >&2\nexit 68\n' >unfit
chmod 755 unfit
expect_fail 'unfit: too old for this' cleave daemon upgrade --binary "$PWD/unfit"
step 60 cleave -q snapwait v
gone $writer && die "fio saw an upgrade: $(<fio.out)"
kill -INT $writer
wait $writer || true
grep -qE 'err= *[1-9]|verify: bad' fio.out && die "fio: $(<fio.out)"
wait_for 60 is_volume v ACTIVE
assert_equal_plexes v 3
step 60 cleave -q snapabort v
step 60 cleave -q stop v
part 'upgraded'
