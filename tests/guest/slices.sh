# shellcheck shell=bash
# What the tests of power cuts source after cleave.sh: the slices of one disk that hold a state directory and plexes, under
# names that a recovery of the disk's image outside the guest can have too.

places=/mnt

# A slice is NAME:START:SECTORS. make_slices DEVICE SLICE...: a device for each, whose node is NAME below `places`; they go
# when the test ends.
make_slices() {
    local from=$1 slice name start sectors major minor
    shift
    need_module dm_mod
    for slice in "$@"; do
        IFS=: read -r name start sectors <<<"$slice"
        step 30 dmsetup create "slice-$name" --table "0 $sectors linear $from $start"
        at_exit dmsetup remove --retry "slice-$name"
        IFS=: read -r major minor < <(dmsetup info --columns --noheadings -o devno "slice-$name")
        rm -f "${places:?}/$name"
        mknod "$places/$name" b "$major" "$minor"
        at_exit rm -f "$places/$name"
    done
}

# mount_state: the slice called `disk` is an ext4 that holds the state directory.
mount_state() {
    export CLEAVE_TEST_STATE=$places/state
    at_exit rmdir "$CLEAVE_TEST_STATE"
    mounted "$places/disk" "$CLEAVE_TEST_STATE"
}
