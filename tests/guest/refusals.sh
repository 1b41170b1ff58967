#!/usr/bin/env bash
# Bad input: one line that names object, reason and way out, the exit code of its kind, a stable id, and nothing changed.
# timeout: 290
. "$(dirname "$0")/cleave.sh"

# A medium with a size of its own, so that its free bytes are part of what must not change.
mkdir media
step 10 mount -t tmpfs -o size=192m media "$PWD/media"
at_exit umount "$PWD/media"
start_daemon
step 30 cleave group create default "$PWD/media"

# state: all that refused commands must leave as it was.
state() {
    # A transaction that was taken back has a number too.
    cleave --json list && cleave --json group list | sed -E 's/"generation":[0-9]+,//g'
    find media /dev/vx/ -printf '%P %s %b %m %l\n' | sort
}

# settled: what is there now is what refusals are measured against.
settled() { before=$(state); }

# unchanged: the refusals since `settled` have changed nothing.
unchanged() {
    local now
    now=$(state)
    [[ $now == "$before" ]] || die "refused commands changed: $(diff <(echo "$before") <(echo "$now"))"
}

cases=0
# refused CODE ID PATTERN ARGUMENT...: `cleave ARGUMENT...` is refused so, with a line that matches PATTERN (extended).
refused() {
    local code=$1 id=$2 pattern=$3 said json status=0
    shift 3
    said=$(cleave "$@" 2>&1 >out) || status=$?
    [[ $status == "$code" ]] || die "cleave ${*@Q} ended with $status, not $code: $said"
    [[ $said != *$'\n'* ]] || die "cleave ${*@Q} said more than one line: $said"
    [[ ! -s out ]] || die "cleave ${*@Q} was refused and printed a result: $(<out)"
    [[ $said =~ $pattern ]] || die "cleave ${*@Q} said '$said', not what matches '$pattern'"
    [[ $said =~ ^cleave:\ .+:\ .+\;\ .+ ]] || die "cleave ${*@Q} named no object, reason and way out: '$said'"
    status=0
    json=$(cleave --json "$@" 2>&1 >out) || status=$?
    [[ $status == "$code" ]] || die "cleave --json ${*@Q} ended with $status, not $code: $json"
    [[ $json == "{\"error\":{\"exit_code\":$code,\"id\":\"$id\","*'}}' && $json != *$'\n'* ]] ||
        die "cleave --json ${*@Q} said '$json', not exit $code and id $id"
    cases=$((cases + 1))
}

step 60 cleave make v 16m --nmirror 2
step 60 cleave make one 4m
step 60 cleave snapstart one
step 60 cleave snapshot one snap
settled

# The plex is too small: by how much is told.
truncate -s 8m small
refused 64 plex.too-small "small: too small by .*\\([1-9][0-9]* bytes\\).* it has 8 MiB \\(8388608 bytes\\), .*\\([1-9][0-9]* bytes\\) are needed" make w 16m --plex "$PWD/small"
[[ $(cleave make w 16m --plex "$PWD/small" 2>&1 || true) =~ by\ [^\(]*\(([0-9]+)\ bytes\).*,\ [^\(]*\(([0-9]+)\ bytes\)\ are ]] || die 'no number'
assert_eq $((8 << 20)) $((BASH_REMATCH[2] - BASH_REMATCH[1])) "what is needed less what is missing"
((BASH_REMATCH[2] >= 16 << 20)) || die "a plex of 16 MiB needs only ${BASH_REMATCH[2]} bytes"
refused 64 plex.too-small "small: too small by" mirror v --plex "$PWD/small"
refused 64 plex.too-small "small: too small by" snapstart v --plex "$PWD/small"
unchanged

# The medium is missing, full, in use, read-only.
refused 65 medium.missing "^cleave: /nowhere/plex: " make w 16m --plex /nowhere/plex
refused 65 medium.missing "^cleave: /nowhere/plex: " mirror v --plex /nowhere/plex
refused 65 medium.missing "^cleave: /nowhere: " group create h /nowhere
refused 11 medium.unknown "nosuch: " make w 16m --media nosuch
refused 64 medium.full "media: .*[0-9]+ bytes\\)? are free, .*[0-9]+ bytes\\) are needed" make w 1g
refused 64 medium.full "media: " mirror v --nmirror 20
plex=$(find media -name 'v-01*' | head -n 1)
refused 65 medium.in-use "it carries plex v-01" make w 16m --plex "$PWD/$plex"
ln -s "$PWD/$plex" alias
refused 65 medium.in-use "alias: it carries plex v-01" make w 16m --plex "$PWD/alias"
unchanged
ln "$plex" media/hard
settled
refused 65 medium.in-use "hard: it carries plex v-01" make w 16m --plex "$PWD/media/hard"
unchanged
rm media/hard
settled
loop_device used 40M
step 30 mkfs.ext4 -q "$device"
refused 65 medium.foreign "$device: .*ext4" make w 16m --plex "$device"
mounted "$device" mnt
refused 65 medium.in-use "$device: it is in use by a mount" make w 16m --plex "$device"
refused 65 medium.in-use "$device: it is in use by a mount" make w 16m --plex "$device" --force
refused 65 medium.in-use "$device: it is in use by a mount" group create h "$device"
refused 2 medium.path "small: is neither a directory nor a block device" group create h "$PWD/small"
step 30 umount mnt
loop_device locked 40M --read-only
refused 65 medium.read-only "$device: " make w 16m --plex "$device"
refused 65 medium.read-only "$device: " group create h "$device"
unchanged
# A mistyped disk does not become a file.
refused 65 medium.missing "/dev/vdnone: no such file or disk" make w 4m --plex /dev/vdnone
unchanged
# On a volume, whatever is between.
node=$(device_of v)
refused 65 medium.on-volume "$node: it lies on volume v" make w 4m --plex "$node"
step 60 mkfs.ext4 -q "$node"
mounted "$node" mnt
truncate -s 8M mnt/image
sync mnt/image
over=$(losetup --find --show mnt/image)
at_exit eval "! losetup $over >/dev/null 2>&1 || losetup -d $over"
settled
refused 65 medium.on-volume "mnt/plex: it lies on volume v \(${node##*/}\)" make w 4m --plex "$PWD/mnt/plex"
refused 65 medium.on-volume "mnt: it lies on volume v" group create h "$PWD/mnt"
refused 65 medium.on-volume "$over: it lies on volume v \(${over##*/}, ${node##*/}\)" mirror one --plex "$over"
unchanged
losetup -d "$over"
wait_for 30 umount mnt
settled
mkdir ro
step 10 mount -t tmpfs -o ro,size=64m ro "$PWD/ro"
at_exit umount "$PWD/ro"
refused 65 medium.read-only "$PWD/ro/plex: " make w 16m --plex "$PWD/ro/plex"
step 30 cleave group create frozen "$PWD/ro"
settled
refused 65 medium.read-only "$PWD/ro: " -g frozen make w 16m
unchanged
step 30 cleave group destroy frozen
mkdir gone
step 30 cleave group create lost "$PWD/gone"
rmdir gone
settled
refused 65 medium.missing "$PWD/gone: " -g lost make w 16m
unchanged
step 30 cleave group destroy lost
settled
unchanged

# Unknown, duplicate and hostile names.
for verb in $(long_or "start stop mirror snapstart snapwait snapabort snapshot snapback rm verify show" "start snapshot snapback rm"); do
    refused 11 volume.unknown "^cleave: nosuch: no such volume" "$verb" nosuch
done
refused 9 group.unknown "^cleave: nosuch: no such group" -g nosuch make w 16m
refused 9 group.unknown "^cleave: nosuch: no such group" -g nosuch list
refused 11 plex.unknown "^cleave: nosuch: no such plex" remove-mirror v nosuch
refused 11 task.unknown "999" task abort 999
refused 12 volume.exists "^cleave: v: " make v 16m
refused 12 volume.exists "^cleave: v-01: " make v-01 16m
refused 12 group.exists "^cleave: default: " group create default
long=$(printf 'n%.0s' {1..129})
# hostile ID NAME
hostile() { refused 2 "name.$1" ": as a name " make -- "$2" 16m; }
hostile bad-character 'a b'
hostile bad-character a/b
hostile bad-start -rf
hostile bad-character $'a\nb'
hostile too-long "$long"
hostile reserved rdsk
if [[ ${CLEAVE_LONG:-} ]]; then
    hostile bad-character ../x
    hostile bad-start ..
    hostile bad-character $'\e[2J'
    hostile bad-character ä
    hostile reserved all
    hostile empty ''
fi
refused 2 name.bad-character ": as a name " group create ../x
refused 2 name.bad-character ": as a name " --group 'a b' make w 16m
refused 2 name.bad-start ": as a name " start -- -rf
refused 2 name.reserved ": as a name " snapshot v rdsk
unchanged

# Sizes.
refused 1 size.zero "^cleave: 0: " make w 0
refused 1 size.unaligned "1049088 bytes\): " make w 2049
refused 1 size.too-small "512 bytes: " make w 1
refused 1 size.too-large "^cleave: 9223372036854775808: " make w 9223372036854775808
refused 1 size.too-large "" make w 99999999999999999999999999
refused 1 size.too-large "" make w 9223372036854775808s
refused 2 size.not-a-number "^cleave: -1: " make -- w -1
refused 2 size.unknown-unit "^cleave: 1x: " make w 1x
unchanged

# Snapshots: none ready, no snapshot at all.
refused 20 snapshot.no-snapdone "v: insufficient number of active snapshot mirrors" snapshot v
refused 11 snapshot.no-mirror "v: the volume has no snapshot mirror" snapwait v
refused 11 snapshot.no-mirror "v: " snapabort v
refused 20 snapshot.not-a-snapshot "v: " snapback v
refused 20 snapshot.too-few-plexes "snap: 5 complete plexes wanted" snapback snap -n 5
unchanged

# Held by a mount, held open: the holder is named.
step 30 mkfs.ext4 -q /dev/vx/rdsk/snap
mounted /dev/vx/dsk/snap mnt
settled
for verb in snapback rm stop; do
    refused 31 volume.open "^cleave: snap: .*$PWD/mnt" $verb snap
done
refused 31 volume.open "^cleave: snap: .*$PWD/mnt" rm --force snap
unchanged
step 30 umount mnt
sleep 1000 <"$(readlink -f /dev/vx/rdsk/snap)" &
holder=$!
kill_at_exit $holder
for verb in snapback rm stop; do
    refused 31 volume.open "^cleave: snap: .*sleep .*$holder" $verb snap
done
kill $holder
wait $holder 2>/dev/null || true

# The last complete plex; started and stopped already.
refused 18 plex.last-active "one-01: " remove-mirror one
refused 18 plex.last-active "one-01: " remove-mirror one one-01
refused 25 volume.started "^cleave: v: " start v
unchanged
step 30 cleave stop v
settled
refused 26 volume.not-started "^cleave: v: " stop v
refused 26 volume.not-started "^cleave: v: " verify v
refused 26 volume.not-started "^cleave: v: " snapshot v
unchanged
step 30 cleave start v

# What holds no file system is not mounted, what is mounted is not archived, and without io_uring nothing is.
mkdir -p mnt
expect_refusal mount.failed 5 cleave mount one "$PWD/mnt"
mounted /dev/vx/dsk/snap mnt
expect_refusal archive.in-use 31 cleave archive snap "$PWD/archive"
step 30 umount mnt
before_rings=$(</proc/sys/kernel/io_uring_disabled)
at_exit eval "echo $before_rings >/proc/sys/kernel/io_uring_disabled"
echo 2 >/proc/sys/kernel/io_uring_disabled
expect_refusal archive.io-uring 5 cleave archive snap "$PWD/archive"
echo "$before_rings" >/proc/sys/kernel/io_uring_disabled
[[ ! -e archive && ! -e archive.partial ]] || die "an archive that was refused is left"

# Others than root look and do not touch.
settled
printf '#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups cleave "$@"\n' >as_nobody
chmod +x as_nobody
expect_refusal device.permission 67 ./as_nobody archive one /tmp/never
status=0
said=$(setpriv --reuid=65534 --regid=65534 --clear-groups cleave --json stop v 2>&1) || status=$?
assert_eq 67 "$status" "the exit of another user's stop, which said $said,"
grep -q '"id":"' <<<"$said" || die "another user's stop said $said"
status=0
said=$(setpriv --reuid=65534 --regid=65534 --clear-groups cleaved --state "$PWD/other" --socket "$PWD/other.socket" 2>&1) || status=$?
assert_eq 67 "$status" "the exit of another user's daemon, which said $said,"
grep -qE 'cleaved: needs root.*; ' <<<"$said" || die "another user's daemon said: $said"
unchanged

# A second daemon names the first one.
status=0
said=$(timeout 20 cleaved --state "$CLEAVE_TEST_STATE" 2>&1) || status=$?
assert_eq 13 "$status" "the exit of a second daemon, which said $said,"
grep -qE "runs already, pid $daemon; " <<<"$said" || die "a second daemon, beside pid $daemon, said: $said"
unchanged

# The medium fills up in mid-copy: the mirror goes, its space comes back, the volume is unharmed.
mkdir tight
step 10 mount -t tmpfs -o size=8m tight "$PWD/tight"
at_exit umount "$PWD/tight"
step 60 dd if=/dev/urandom of=/dev/vx/rdsk/v bs=1M count=16 oflag=direct status=none
sum=$(sha256sum </dev/vx/rdsk/v)
settled
full='writing [0-9]+ bytes at [0-9]+ failed: No space left on device; the mirror was removed and its space freed'
refused 64 medium.full "$full" --quiet mirror v --sparse --plex "$PWD/tight/plex"
refused 64 medium.full "$full" --quiet snapstart v --sparse --plex "$PWD/tight/plex"
# Whoever waits is told the cause, even if he began to wait after it.
step 30 cleave --quiet snapstart v --background --sparse --plex "$PWD/tight/plex"
refused 64 medium.full "$full" --quiet snapwait v
[[ -z $(ls tight) ]] || die "a mirror that failed left $(ls -l tight)"
unchanged
assert_eq "$sum" "$(sha256sum </dev/vx/rdsk/v)" "the volume after a failed mirror"
step 60 cleave verify v

# No daemon; no ublk.
step 60 cleave daemon stop --volumes
wait_for 30 gone "$daemon"
status=0
said=$(cleave list 2>&1) || status=$?
assert_eq 3 "$status" "the exit without a daemon, which said $said,"
[[ $said != *$'\n'* ]] && grep -qE '^cleave: .+: .+; .+cleaved' <<<"$said" || die "without a daemon it said: $said"
status=0
said=$(cleave --json list 2>&1) || status=$?
grep -qF '"exit_code":3,"id":"daemon.' <<<"$said" || die "without a daemon it said: $said"
# no_ublk WHAT SCRIPT: a daemon in a mount namespace of its own, where SCRIPT has run, tells that WHAT is not there.
no_ublk() {
    local said status=0
    said=$(timeout 30 unshare --mount bash -ec "$2"'
        exec cleaved --state "$CLEAVE_TEST_STATE"' 2>&1 >/dev/null) || status=$?
    said=$(grep '^cleaved: ' <<<"$said" || true)
    assert_eq 66 "$status" "the exit without the $1, which said '$said',"
    [[ $said =~ ^cleaved:\ .*ublk.*:\ .+\;\ .+ && $said != *$'\n'* ]] || die "without the $1 it said: $said"
    echo "$said"
}
mkdir bare
no_ublk 'control node' 'mount -t tmpfs none /dev'
# With no module to load, as on a kernel that was built without it; only where nobody else uses it.
if ! compgen -G '/dev/ublkc*' >/dev/null && modprobe -r ublk_drv; then
    no_ublk 'kernel module' "mount --bind '$PWD/bare' /lib/modules"
    modprobe ublk_drv
fi
spawn_daemon
daemon_answers

# What another program holds is not freed, and not said to be; its group waits for that.
step 30 cleave group create held "$PWD/media"
step 30 cleave -g held make q 8m
step 30 cleave -g held stop q
file=$(cleave --json -g held show q | jq -r '.volumes[0].plexes[0].path')
# This daemon knows its own file.
kill_daemon
spawn_daemon
daemon_answers
exec {held}<>"$file"
flock -x "$held"
assert_eq 0 "$(cleave --json -g held rm -f q | jq .freed_bytes)" "what was freed of a plex whose file is held"
refused 13 group.leaving "held: $file, of a plex that was removed, is still there" group destroy held
exec {held}>&-
step 30 cleave group destroy held
[[ ! -e $file ]] || die "the file of a plex is left: $file"
echo "$cases refusals"
