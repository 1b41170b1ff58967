#!/usr/bin/env bash
# The place where these tests run has what they need: ublk, file systems and devices to make them on.
# smoke
. "$(dirname "$0")/lib.sh"

need_module ublk_drv
wait_for 5 test -c /dev/ublk-control

loop_device image 400M --direct-io=on
for type in ext4 xfs btrfs; do
    case $type in
    ext4) options=(-q -F) ;;
    xfs) options=(-q -f) ;;
    btrfs) options=(-q -f) ;;
    esac
    need_module $type
    step 60 "mkfs.$type" "${options[@]}" "$device"
    mkdir -p mnt
    step 30 mount "$device" mnt
    head -c 1000000 /dev/urandom >original
    cp original mnt/copy
    step 30 umount mnt
    step 30 mount -o ro "$device" mnt
    assert_same original mnt/copy "what $type gave back"
    step 30 umount mnt
done

# A failure is seen as one, and a hang as a hang.
expect_fail 'No such file' cat missing
(step 1 sleep 30) 2>said && die "a hang went unnoticed"
grep -q 'no end within 1 s: sleep 30' said || die "a hang was reported as: $(<said)"
