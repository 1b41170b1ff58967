#!/usr/bin/env bash
# Plexes that hang, are cut off or unlinked, and plexes that are taken out, in again and replaced by hand: the volume serves
# on, and every plex that comes back is copied what it missed.
# timeout: 420
. "$(dirname "$0")/cleave.sh"

start_daemon
need_module dm_mod

# One plex on a device that can be made to hang or fail, the other on a file of the pool.
loop_device disk 40M --direct-io=on
disk=$device sectors=$((40 << 11)) name=cleave-plexes-$$
step 30 dmsetup create "$name" --table "0 $sectors linear $disk 0"
# Where no udev makes it.
[[ -b /dev/mapper/$name ]] || step 30 dmsetup mknodes "$name"
at_exit eval "! dmsetup info $name || { dmsetup resume $name; dmsetup remove --retry $name; }"
table() {
    step 30 dmsetup reload "$name" --table "0 $sectors $1"
    step 30 dmsetup suspend --noflush --nolockfs "$name"
    step 30 dmsetup resume "$name"
}
plex_of() { cleave --json show v | jq -r --arg path "$1" '.volumes[0].plexes[] | select(.path == $path).plex'; }
path_of() { cleave --json show v | jq -r --arg plex "$1" '.volumes[0].plexes[] | select(.plex == $plex).path'; }
is_state() { [[ $(cleave --json show v | jq -r --arg plex "$1" '.volumes[0].plexes[] | select(.plex == $plex).state') == "$2" ]]; }
has_plexes() { [[ $(cleave --json show v | jq -r '.volumes[0].plexes | map(.plex) | sort | join(" ")') == "$1" ]]; }
logged() { grep -q -- "$1" "$CLEAVE_TEST_LOG"; }
# fill OFFSET: 2 MiB of something new at OFFSET MiB, flushed.
fill() {
    dd if=/dev/urandom of=content bs=1M count=2 seek="$1" conv=notrunc status=none
    dd if=content of="$node" bs=1M count=2 skip="$1" seek="$1" oflag=direct conv=notrunc,fsync status=none
}
reads() {
    dd if="$node" of=read bs=512k iflag=direct status=none
    cmp read content >&2 || die "the volume reads something else"
}

step 60 cleave -q make v 24m --plex "/dev/mapper/$name" -n 2
step 60 cleave -q task watch
far=$(plex_of "/dev/mapper/$name")
[[ $far ]] || die "no plex lies on the device: $(cleave --json show v)"
node=$(device_of v)
dd if=/dev/urandom of=content bs=1M count=24 status=none
dd if=content of="$node" bs=1M oflag=direct conv=fsync status=none

# It hangs: reads go on at once, writes after the limit, and it leaves.
step 30 cleave -q set v plex-timeout=10
cleave show v | grep -q '^waits    10 s' || die "the limit is not shown: $(cleave show v)"
step 30 dmsetup suspend --noflush --nolockfs "$name"
begin=$(now_ms)
fill 4
took=$(($(now_ms) - begin))
((took >= 9000 && took < 60000)) || die "a write beside a plex that hangs took $took ms"
is_state "$far" STALE || die "the plex that hangs is not STALE"
logged 'has not answered for 1 s' || die "nobody was told that it hangs"
begin=$(now_ms)
fill 8
took=$(($(now_ms) - begin))
((took < 8000)) || die "a write after the loss took $took ms"
reads
step 30 dmsetup resume "$name"
wait_for 30 logged 'answers again'
step 60 cleave -q plex attach "$far"
is_state "$far" ACTIVE || die "attached, and not ACTIVE"
assert_equal_plexes v 2

# Out by hand and in again: what was written meanwhile is copied, and what it may have lost; no more, once what was written
# before has come to rest.
sleep 15
step 30 cleave -q plex detach "$far"
is_state "$far" STALE || die "detached, and not STALE"
fill 12
copied=$(cleave --json plex attach "$far" | jq .copied_bytes)
((copied >= 2 << 20 && copied < 16 << 20)) || die "$copied bytes were copied to a plex that missed 2 MiB"
assert_equal_plexes v 2
step 30 cleave -q plex offline "$far"
is_state "$far" OFFLINE || die "offline, and not OFFLINE"
expect_fail 'cleave plex online' cleave plex attach "$far"
expect_refusal plex.offline 20 cleave plex attach "$far"
fill 16
step 60 cleave -q plex online "$far"
is_state "$far" ACTIVE || die "online, and not ACTIVE"
assert_equal_plexes v 2
near=$(cleave --json show v | jq -r --arg far "$far" '.volumes[0].plexes[] | select(.plex != $far).plex')

# A good one is replaced, and never are there fewer than two.
step 90 cleave -q plex replace "$near"
is_state "$near" ACTIVE && die "$near is still there"
old=$near
near=$(cleave --json show v | jq -r --arg far "$far" '.volumes[0].plexes[] | select(.plex != $far).plex')
[[ $near && $near != "$old" ]] || die "nothing stands in the place of $old: $(cleave show v)"
has_plexes "$(printf '%s\n' "$far" "$near" | sort | paste -sd' ')" || die "other plexes: $(cleave show v)"
assert_equal_plexes v 2
reads

# A dead one is replaced.
table error
fill 2
wait_for 30 is_state "$far" STALE
step 90 cleave -q plex replace "$far"
assert_equal_plexes v 2
reads
table "linear $disk 0"

# Cut off while it runs: it is lost, and never read for what it lacks.
cut=$(cleave --json show v | jq -r '.volumes[0].plexes[1].plex')
other=$(cleave --json show v | jq -r '.volumes[0].plexes[0].plex')
truncate -s 1M "$(path_of "$cut")"
fill 20
reads
reads
wait_for 30 is_state "$cut" STALE
expect_fail 'make it larger' cleave plex attach "$cut"
step 90 cleave -q plex replace "$cut"
assert_equal_plexes v 2

# A daemon that dies while it replaces: rolled back or completed, and always two that are equal in the end.
for pause in 0 0.2 0.6 1.2; do
    old=$(cleave --json show v | jq -r '.volumes[0].plexes[0].plex')
    cleave -q plex replace "$old" >/dev/null 2>&1 &
    replacing=$!
    sleep "$pause"
    kill_daemon
    wait $replacing || true
    spawn_daemon
    daemon_answers 60
    settled() {
        cleave --json show v | jq -e '.volumes[0] | .state == "ACTIVE" and (.plexes | length == 2 and all(.state == "ACTIVE"))'
    }
    wait_for 60 settled
    assert_equal_plexes v 2
    reads
done

# Unlinked: it serves on, a person is told, and the next start goes without it.
other=$(cleave --json show v | jq -r '.volumes[0].plexes[0].plex')
rm "$(path_of "$other")"
wait_for 30 logged 'its file was removed'
fill 6
reads
is_state "$other" ACTIVE || die "an unlinked plex does not serve on"
step 60 cleave -q stop v
step 60 cleave -q start v
node=$(device_of v)
is_state "$other" STALE || die "a plex whose file is gone is $(cleave show v)"
reads

# The last plex: its errors are the caller's, the volume stays, and works when the fault has gone.
step 60 cleave -q make last 16m --plex "/dev/mapper/$name" -f
step 60 cleave -q task watch
last=$(device_of last)
dd if=content of="$last" bs=1M count=16 oflag=direct conv=fsync status=none
table error
dd if="$last" of=/dev/null bs=4k count=1 iflag=direct status=none 2>said && die "an error was not told"
grep -q 'Input/output error' said || die "it said: $(<said)"
dd if=/dev/zero of="$last" bs=4k count=1 oflag=direct status=none 2>said && die "an error was not told"
table "linear $disk 0"
dd if="$last" of=read bs=1M count=16 iflag=direct status=none
cmp -n $((16 << 20)) read content >&2 || die "the last plex reads something else after its fault"
dd if=content of="$last" bs=1M count=1 oflag=direct conv=fsync status=none
step 60 cleave -q stop last
step 60 cleave -q stop v
