#!/usr/bin/env bash
# Disks as power cuts left them, /dev/vda and so on: the daemon starts on each, its volume comes up, is mounted, holds every
# stamp that was acknowledged, and its file system and its plexes are found in order.
#
# CLEAVE_SLICES are the slices of each disk, CLEAVE_STATES has for each disk FILE-SYSTEM:FLOOR.
# timeout: 900
. "$(dirname "$0")/cleave.sh"
. "$(dirname "$0")/slices.sh"

read -ra states <<<"$CLEAVE_STATES"
read -ra slices <<<"$CLEAVE_SLICES"
slots=512
mkdir mnt

# one DEVICE FILE-SYSTEM FLOOR: in a shell of its own, so that what it makes is gone when it ends.
one() (
    undo=()
    trap cleanup EXIT
    type=$2
    need_module "$type"
    make_slices "$1" "${slices[@]}"
    mount_state
    start_daemon
    step 120 cleave -q start --all
    idle() { cleave --json task list | jq -e '[.tasks[] | select(.state == "running")] | length == 0'; }
    wait_for 120 idle
    for volume in $(cleave --json list | jq -r '.volumes[].volume'); do
        # The log of a file system is replayed by its mount.
        case $type in xfs) options=(-o nouuid) ;; *) options=() ;; esac
        step 60 mount "${options[@]}" "/dev/vx/dsk/$volume" mnt
        if [[ $volume == v ]]; then
            stamper check mnt/stamps 0 $slots "$3" 18446744073709551615 >/dev/null || die "stamps below $3 are missing"
        fi
        find mnt -type f -exec cat {} + >/dev/null
        step 60 umount mnt
        node=$(device_of "$volume")
        case $type in
        ext4) step 60 e2fsck -fn "$node" ;;
        xfs) step 60 xfs_repair -n "$node" ;;
        esac >checked 2>&1 || die "$type of $volume is not clean: $(<checked)"
    done
    assert_equal_plexes v
    calm_log
    step 60 cleave -q stop --all
)

for number in "${!states[@]}"; do
    disk=/dev/vd$(printf "\\x$(printf %x $((97 + number)))")
    IFS=: read -r type floor <<<"${states[number]}"
    one "$disk" "$type" "$floor"
    echo "state $number of $type with $floor stamps: whole"
done
