#!/usr/bin/env bash
# A plex that cannot be read, cannot be written, or fails while it is made equal after a crash: the application sees none of
# it, and the records tell.
# timeout: 240
# smoke
. "$(dirname "$0")/cleave.sh"

start_daemon
need_module dm_mod dm_flakey

# One plex on a file of the pool, the other on a device that can be made to fail.
loop_device disk 48M --direct-io=on
disk=$device sectors=$((48 << 11)) name=cleave-failing-$$
step 30 dmsetup create "$name" --table "0 $sectors linear $disk 0"
# Where no udev makes it.
[[ -b /dev/mapper/$name ]] || step 30 dmsetup mknodes "$name"
[[ -b /dev/mapper/$name ]] || die "there is no node of $name"
at_exit eval "! dmsetup info $name || dmsetup remove --retry $name"
# table LINE...: what the device does from now on.
table() {
    printf '%s\n' "$@" | step 30 dmsetup reload "$name"
    step 30 dmsetup suspend --noflush --nolockfs "$name"
    step 30 dmsetup resume "$name"
}
whole() { table "0 $sectors linear $disk 0"; }
# plex_state PLEX
plex_state() { cleave --json show v | jq -r --arg plex "$1" '.volumes[0].plexes[] | select(.plex == $plex).state'; }
is_state() { [[ $(plex_state "$1") == "$2" ]]; }
logged() { grep -q -- "$1" "$CLEAVE_TEST_LOG"; }
# reads: all of the volume, as often as each plex gets its turn.
reads() {
    local turn
    for turn in 1 2 3; do
        dd if="$node" of=read bs=256k iflag=direct status=none
        cmp read content >&2 || die "reading $turn gives something else"
    done
}

step 60 cleave -q make v 32m -n 2 --plex "/dev/mapper/$name"
step 60 cleave -q task watch
failing=$(cleave --json show v | jq -r --arg path "/dev/mapper/$name" '.volumes[0].plexes[] | select(.path == $path).plex')
[[ $failing ]] || die "no plex lies on the device: $(cleave --json show v)"
node=$(device_of v)
dd if=/dev/urandom of=content bs=1M count=32 status=none
dd if=content of="$node" bs=256k oflag=direct conv=fsync status=none
is_state "$failing" ACTIVE || die "the volume begins with $failing $(plex_state "$failing")"

# It cannot be read, and can be written: what it could not read is written anew, and it stays.
table "0 $sectors flakey $disk 0 0 60 1 error_reads"
reads
wait_for 30 logged 'rewritten from another plex'
assert_eq ACTIVE "$(plex_state "$failing")" "the state of a plex that was mended"
whole
assert_equal_plexes v 2

# A part of it cannot be read or written: it is lost, and the application does not see it.
table "0 20480 linear $disk 0" "20480 2048 error" "22528 $((sectors - 22528)) linear $disk 22528"
reads
wait_for 30 is_state "$failing" STALE
dd if=/dev/urandom of=content bs=1M count=2 seek=20 conv=notrunc status=none
dd if=content of="$node" bs=256k oflag=direct conv=fsync status=none
reads

# Mended, it is copied what it missed.
whole
step 60 cleave -q stop v
step 60 cleave -q start v
wait_for 60 is_state "$failing" ACTIVE
node=$(device_of v)
reads
assert_equal_plexes v 2

# It fails while the plexes are made equal after a crash: the volume is whole without it.
fio --name=w --filename="$node" --rw=randwrite --bs=4k --iodepth=8 --ioengine=libaio --direct=1 --size=32m --time_based \
    --runtime=60 >fio.out 2>&1 &
writer=$!
kill_at_exit $writer
sleep 1
kill_daemon
table "0 $sectors flakey $disk 0 0 600 1 error_writes"
spawn_daemon
daemon_answers 60
wait_for 60 is_state "$failing" STALE
sleep 1
gone $writer && die "fio saw it: $(tail -n 5 fio.out)"
kill $writer
wait $writer || true
in_sync() { [[ $(cleave --json show v | jq -r '.volumes[0].state') == ACTIVE ]]; }
wait_for 30 in_sync
whole
step 60 cleave -q stop v
step 60 cleave -q start v
wait_for 60 is_state "$failing" ACTIVE
assert_equal_plexes v 2
step 60 cleave -q stop v

# A snapshot mirror in step that loses what was not flushed, as in a power cut, is made equal too.
step 60 cleave -q start v
node=$(device_of v)
step 60 cleave -q snapstart v
mirror=$(cleave --json show v | jq -r '.volumes[0].plexes[] | select(.state == "SNAPDONE").path')
[[ -f $mirror ]] || die "no snapshot mirror: $(cleave --json show v)"
dd if=content of="$node" bs=1M count=2 oflag=direct status=none
kill_daemon
dd if=/dev/urandom of="$mirror" bs=1M seek=1 count=1 conv=notrunc,fsync status=none
spawn_daemon
daemon_answers 60
wait_for 30 in_sync
assert_equal_plexes v 3
step 60 cleave -q snapabort v
step 60 cleave -q stop v
