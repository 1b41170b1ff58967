#!/usr/bin/env bash
# Plexes stay equal whoever writes: an application that changes memory while it is being written, past the page cache,
# through it, and in a mapping, on the bare node and in files. With data=zero, where the plexes get their bytes from the
# application's own pages, the first of these leaves them different: what the others are tried with is what would be seen.
# timeout: 600
# smoke
. "$(dirname "$0")/cleave.sh"

start_daemon

# differing VOLUME: bytes in which its plexes differ.
differing() {
    local found
    found=$({ timeout -k 2 300 cleave --json verify "$1" || true; } | jq .differing_bytes)
    [[ $found =~ ^[0-9]+$ ]] || die "verify of $1 told no number: '$found'"
    echo "$found"
}
# way VOLUME: how its data travel.
way() { cleave --json show "$1" | jq -r '.volumes[0] | "\(.data) \(.data_path)"'; }

# scribbled VOLUME TARGET: by every kind of writer, and what that left of the plexes' equality.
scribbled() {
    local how found
    for how in direct buffered mapped; do
        step 60 stamper scribble $how "$2" 4 4
        found=$(differing "$1")
        echo "$(way "$1"), $how on ${2#"$PWD"/}: $found bytes differ"
        left[$how]=$found
        # Equal again for the next.
        ((found == 0)) || step 120 cleave -q scrub "$1" --repair --source "$1-01"
    done
}

declare -A left
disks=()
for number in 1 2; do
    loop_device "disk-$number" 168M --direct-io=on
    disks+=("$device")
done
# Made with one plex, so that its device lends pages; the second has them copied.
step 60 cleave -q make v 160m --plex "${disks[0]}"
used=$(way v)
echo "$used"
says() { cleave show v | grep -qxE "data     $1" || die "show says: $(cleave show v)"; }
[[ $used == 'auto copy' ]] || says 'auto: zero copy'
step 60 cleave -q mirror v --plex "${disks[1]}"
step 60 cleave -q task watch
says 'auto: copied, as it has several plexes'
node=$(device_of v)
all_equal() {
    local how
    for how in "${!left[@]}"; do ((left[$how] == 0)) || die "$1: $how writes left ${left[$how]} bytes different"; done
}
scribbled v "$node"
all_equal 'on the node'
need_module ext4
step 60 mkfs.ext4 -q "$node"
mount_volume v mnt
dd if=/dev/zero of=mnt/file bs=64k count=4 status=none
scribbled v "$PWD/mnt/file"
all_equal 'in a file'

case $used in
'auto copy')
    expect_fail 'does not lend' cleave set v data=zero
    expect_refusal volume.data-path 5 cleave set v data=zero
    ;;
'auto zero')
    step 30 cleave -q set v data=zero
    says 'zero: zero copy'
    # One writer at a time is as likely as not to be met between the two writes.
    for _ in {1..4}; do
        scribbled v "$PWD/mnt/file"
        ((left[buffered] == 0 && left[mapped] == 0)) || die "a file system's own writes left the plexes different"
        ((left[direct] == 0)) || break
    done
    ((left[direct] > 0)) || die "nothing of what a writer changed meanwhile was seen with data=zero: the others were not tried"
    ;;
*) die "its data travel as '$used'" ;;
esac
wait_for 30 umount mnt
step 30 cleave -q set v data=copy
step 60 cleave -q stop v
step 60 cleave -q start v
assert_eq 'copy copy' "$(way v)" 'how data travel after the start'
scribbled v "$(device_of v)"
all_equal 'with data=copy'
step 30 cleave -q set v data=auto
step 60 cleave -q stop v
step 60 cleave -q start v
assert_eq 'auto copy' "$(way v)" 'how data of two plexes travel'
step 60 cleave -q stop v
