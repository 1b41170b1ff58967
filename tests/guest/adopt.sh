#!/usr/bin/env bash
# Data that are there already: an image and a disk become volumes without a copy, are mirrored and cut like others, and are plain
# images again in the end.
# timeout: 300
. "$(dirname "$0")/cleave.sh"

need_module ext4 loop
start_daemon

# refused CODE ID PATTERN WORD...: and nothing is changed.
refused() {
    local code=$1 id=$2 pattern=$3 said status=0
    shift 3
    said=$(timeout -k 2 30 "$@" 2>&1) || status=$?
    assert_eq "$code" "$status" "the status of '$*', which said '$said'"
    grep -qE -- "$pattern" <<<"$said" || die "'$*' said '$said', not what matches '$pattern'"
    (($(wc -l <<<"$said") == 1)) || die "'$*' said more than a line: $said"
    expect_refusal "$id" "$code" "$@"
}

# killed_in SECONDS WORD...: the daemon is killed so long after it was asked, and there is another.
killed_in() {
    local seconds=$1 asked
    shift
    "$@" >/dev/null 2>&1 &
    asked=$!
    sleep "$seconds"
    kill_daemon
    { wait $asked || true; } 2>/dev/null
    spawn_daemon
    daemon_answers
}

# An image in a file, with what a backup knows of it.
truncate -s 80M image
step 60 mkfs.ext4 -q -F image
mounted image mnt -o loop
head -c 8M /dev/urandom >mnt/file
sum=$(sha256sum <mnt/file)
image=$PWD/image
# While it is mounted by a loop device somebody else writes to it.
refused 31 medium.looped 'loop device loop[0-9]+ lies over it' cleave adopt v "$image"
refused 31 medium.looped 'loop device loop[0-9]+ lies over it' cleave make v 64m --plex "$image" -f
step 30 umount mnt
gone_loop() { [[ -z $(losetup -j "$image") ]]; }
wait_for 10 gone_loop
before=$(sha256sum <image)
assert_eq $((80 << 20)) "$(stat -c %s image)" "the length of what was refused"

truncate -s 5000001 odd
refused 1 adopt.uneven 'whole number of blocks.*truncate -s \+[0-9]+' cleave adopt odd "$PWD/odd"
refused 65 medium.missing 'no such file or disk' cleave adopt v "$PWD/nosuch"
truncate -s 512K small
refused 1 size.too-small 'the smallest volume' cleave adopt v "$PWD/small"
assert_eq $((512 << 10)) "$(stat -c %s small)" "the length of what was refused"
refused 1 adopt.length 'it has 80 MiB .83886080 bytes., fewer than' cleave adopt v "$image" --length 81m
refused 64 adopt.no-room 'its file system has 80 MiB .83886080 bytes.' cleave adopt v "$image" --length 79m
assert_eq "$before" "$(sha256sum <image)" "the image after refusals"

step 60 cleave adopt v "$image" --dry-run >told
for part in "v: is made of the first 80 MiB (83886080 bytes) of $image" 'no data is copied' \
    "$image: holds ext2, ext3 or ext4, 80 MiB (83886080 bytes) of it" \
    "$image: becomes longer by 2 MiB (2097152 bytes)" 'from byte 83886080 on and from byte 84934656 on' \
    'nothing was changed'; do
    grep -qF -- "$part" told || die "'$part' is not foretold: $(<told)"
done
assert_eq "$before $((80 << 20))" "$(sha256sum <image) $(stat -c %s image)" "the image after a dry run"
step 60 cleave adopt v "$image"
assert_eq $((82 << 20)) "$(stat -c %s image)" "the length of the adopted image, as it was foretold"
refused 65 medium.in-use 'carries plex v-01' cleave adopt w "$image"
step 30 cleave -q make taken 16m
truncate -s 8M other
refused 12 volume.exists 'exists' cleave adopt taken "$PWD/other"
assert_eq $((8 << 20)) "$(stat -c %s other)" "the length of what was refused"
assert_eq "$before" "$(sha256sum </dev/vx/rdsk/v)" "the volume"
step 60 fsck.ext4 -fn "$(device_of v)" >/dev/null
mount_volume v mnt
assert_eq "$sum" "$(sha256sum <mnt/file)" "a file on the volume"

# It is a volume like others.
step 60 cleave -q mirror v
step 60 cleave -q snapstart v
step 60 cleave -q snapshot v tmp
echo later >mnt/later
step 30 umount mnt
refused 25 release.started 'released while it is stopped.*cleave stop v' cleave release v
step 30 cleave -q stop v
refused 20 release.related 'tracked against it: tmp;.*snapclear tmp' cleave release v
step 30 cleave -q start v
step 60 cleave -q rm -f tmp
assert_equal_plexes v 2
now=$(sha256sum </dev/vx/rdsk/v)
step 30 cleave -q stop v
said=$(step 30 cleave --json release v)
mapfile -t images < <(jq -r '.images[]' <<<"$said")
assert_eq 2 "${#images[@]}" "the number of images"
assert_eq "$image" "${images[0]}" "the first image"
for one in "${images[@]}"; do
    assert_eq $((80 << 20)) "$(stat -c %s "$one")" "the length of $one"
    assert_eq "$now" "$(sha256sum <"$one")" "what $one holds"
done
refused 11 volume.unknown 'no such volume' cleave show v
step 30 cleave -q group create elsewhere
refused 11 volume.unknown 'group default has one of that name: say -g default' cleave -g elsewhere stop taken
step 30 cleave -q group destroy elsewhere
mounted image mnt -o loop,ro
assert_eq later "$(<mnt/later)" "what was written to the volume"
step 30 umount mnt

# Killed in a release, it is a volume still, or a plain image as soon as a daemon has come up again.
released=0
for hundredth in 1 2 3 4 5 6 7 8; do
    step 60 cleave -q adopt k "$image"
    step 30 cleave -q stop k
    killed_in "0.0$hundredth" cleave release k
    if cleave show k >/dev/null 2>&1; then step 30 cleave -q release k; else released=$((released + 1)); fi
    assert_eq $((80 << 20)) "$(stat -c %s "$image")" "the length of the image after kill $hundredth"
    assert_eq "$now" "$(sha256sum <"$image")" "what the image holds after kill $hundredth"
done
echo "killed 8 times, released by then: $released"

# A disk that its file system fills has no room for labels, and says how much is missing; one byte less would not do.
loop_device disk 100M --direct-io=on
step 60 mkfs.ext4 -q -F "$device"
missing=$({ cleave adopt d "$device" 2>&1 || true; } | sed -n 's/.*smaller by .* (\([0-9]*\) bytes) first, with resize2fs.*/\1/p')
[[ $missing ]] || die "it is not told how much is missing: $(cleave adopt d "$device" 2>&1)"
step 60 e2fsck -fp "$device" >/dev/null || (($? <= 1))
step 60 resize2fs "$device" $(((104857600 - missing) / 1024))K >/dev/null 2>&1
disk_before=$(sha256sum <"$device")
step 60 cleave adopt d "$device" --dry-run >told
grep -q "^$device: labels are written behind the volume, from byte .*, over what stands there now$" told || die "$(<told)"
assert_eq "$disk_before" "$(sha256sum <"$device")" "the disk after a dry run"
step 60 cleave adopt d "$device"
step 60 fsck.ext4 -fn "$(device_of d)" >/dev/null
mount_volume d mnt
head -c 4M /dev/urandom >mnt/file
sum=$(sha256sum <mnt/file)
step 30 umount mnt
step 30 cleave -q stop d
step 30 cleave -q release d
# Nothing of Cleave is left on it, so that it may be adopted anew.
mounted "$device" mnt
assert_eq "$sum" "$(sha256sum <mnt/file)" "a file on the disk"
step 30 umount mnt
assert_eq '' "$(cleaved --offline udev --medium "$device")" "what a released disk says of itself"
# How far something unknown reaches is nobody's guess.
step 30 dd if=/dev/urandom of="$device" bs=1M count=1 oflag=direct status=none
refused 65 adopt.unknown 'not known how far.*--length SIZE' cleave adopt d "$device"
step 60 cleave -q adopt d "$device" --length 64m
grep -q '^CLEAVE_VOLUME=d$' < <(cleaved --offline udev --medium "$device") || die "an adopted disk does not say so"
step 30 cleave -q rm -f d

# With its labels in a file of their own all of the disk is the volume, and nothing but the volume's data is written to it.
step 60 mkfs.ext4 -q -F "$device"
disk_before=$(sha256sum <"$device")
labels=$PWD/labels
mkdir -p /dev/disk/by-id
lasting=/dev/disk/by-id/cleave-test
ln -sfn "$device" "$lasting"
refused 1 adopt.fleeting 'another disk this name.*/dev/disk/by-id' cleave adopt d "$device" --label-file "$labels"
: >there
refused 12 medium.exists 'exists already' cleave adopt d "$lasting" --label-file "$PWD/there"
refused 65 medium.on-volume 'lies on volume' cleave adopt d "$lasting" --label-file /dev/vx/rdsk/taken
step 60 cleave adopt d "$lasting" --label-file "$labels" --dry-run >told
grep -qF "$labels: is made for the labels, 2 MiB: nothing is written to $lasting" told || die "$(<told)"
[[ ! -e $labels ]] || die "a dry run has made $labels"
step 60 cleave -q adopt d "$lasting" --label-file "$labels"
assert_eq 104857600 "$(blockdev --getsize64 "$(device_of d)")" "the length of a volume of all of the disk"
assert_eq $((2 << 20)) "$(stat -c %s "$labels")" "the length of the label file"
grep -q "labels in $labels" < <(cleave show d) || die "show does not name the label file: $(cleave show d)"
refused 65 medium.in-use 'carries plex d-01' cleave adopt w "$lasting"
step 60 fsck.ext4 -fn "$(device_of d)" >/dev/null
assert_eq "$disk_before" "$(sha256sum <"$device")" "the disk under a volume that nobody wrote to"
# Its labels are elsewhere, so udev is told by the records.
grep -q '^CLEAVE_VOLUME=d$' < <(cleaved --offline udev --medium "$device") || die "such a disk does not say what it is"
mount_volume d mnt
head -c 4M /dev/urandom >mnt/file
sum=$(sha256sum <mnt/file)
step 60 cleave -q mirror d
kill_daemon
spawn_daemon
daemon_answers
assert_eq "$sum" "$(sha256sum <mnt/file)" "a file on the volume after a kill"
step 60 cleave -q snapstart d
step 60 cleave -q snapshot d tmp
step 30 umount mnt
assert_equal_plexes d 2
step 60 cleave -q rm -f tmp
step 30 cleave -q stop d
refused 20 resize.label-file 'plex d-01 has its labels in a file' cleave resize d 120m
# Its label file alone brings it back, on another host too.
step 30 cleave -q stop taken
said=$(step 30 cleave --json group export default)
jq -e --arg file "$labels" '.media | index($file)' <<<"$said" >/dev/null || die "an export does not name the label file: $said"
step 30 cleave -q group import "$labels"
step 30 cleave -q start d
step 60 fsck.ext4 -fn "$(device_of d)" >/dev/null
in_step() { cleave --json task list | jq -e "[.tasks[] | select(.state == \"running\")] | length == 0" >/dev/null; }
wait_for 60 in_step
step 30 cleave -q stop d
step 30 cleave -q release d
[[ ! -e $labels ]] || die "the label file of a released volume is there still"
mounted "$device" mnt
assert_eq "$sum" "$(sha256sum <mnt/file)" "a file on the disk"
step 30 umount mnt
step 60 fsck.ext4 -fn "$device" >/dev/null
assert_eq '' "$(cleaved --offline udev --medium "$device")" "what a released disk says of itself"
# Killed in such an adoption, it is a volume or it is not, and no label file is left of one that is not.
now=$(sha256sum <"$device") adopted=0
for hundredth in 02 05 08 11 14 17; do
    killed_in "0.$hundredth" cleave adopt k "$lasting" --label-file "$labels"
    if cleave show k >/dev/null 2>&1; then
        adopted=$((adopted + 1))
        # Killed while it came up, it has to come up once.
        cleave -q start k || true
        wait_for 60 in_step
        step 30 cleave -q stop k
        step 30 cleave -q release k
    fi
    [[ ! -e $labels ]] || die "a label file without a volume is left by kill $hundredth"
    assert_eq "$now" "$(sha256sum <"$device")" "the disk after kill $hundredth"
done
echo "killed 6 times, adopted by then: $adopted"
step 30 cleave -q rm -f taken
