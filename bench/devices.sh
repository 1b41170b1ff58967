# shellcheck shell=bash
# The devices that benchmarks measure, on disks in memory. Sourced behind the tests' lib.sh, by who runs as root and has set
# `work`, a directory of its own. What is made goes when the (sub)shell ends.

# memory_disk NUMBER MIB: sets `disk` to a new disk of the null block driver, which takes the memory of what is written.
memory_disk() {
    local dir=/sys/kernel/config/nullb/cleave_bench$1
    mkdir "$dir"
    at_exit rmdir "$dir"
    echo "$2" >"$dir/size"
    echo 1 >"$dir/memory_backed"
    # Completion within the call that submits: the least that a disk can cost.
    echo 0 >"$dir/irqmode"
    echo 1 >"$dir/power"
    at_exit bash -c "echo 0 >$dir/power"
    # Kernels before 6.1 number these disks instead of naming them.
    disk=/dev/cleave_bench$1
    wait_for 10 test -b "$disk" -o -b "/dev/nullb$(<"$dir/index")"
    [[ -b $disk ]] || disk=/dev/nullb$(<"$dir/index")
}

# md_mirror OPTION... DISK DISK: sets `device` to a new array of the two.
md_mirror() {
    local number=100
    need_module raid1
    while [[ -e /dev/md$number ]]; do number=$((number + 1)); done
    device=/dev/md$number
    step 60 mdadm --create "$device" --quiet --run --force --level=1 --raid-devices=2 --assume-clean --metadata=1.2 \
        "$@" >&2
    at_exit mdadm --stop --quiet "$device"
}

# dm_mirror DISK DISK: sets `device` to a mirror by the device mapper, which notes what is dirty in memory only.
dm_mirror() {
    local name=cleave_bench sectors
    need_module dm_mirror
    sectors=$(blockdev --getsz "$1")
    # There may be no udev to wait for.
    step 60 dmsetup create --noudevsync --noudevrules "$name" \
        --table "0 $sectors mirror core 2 1024 nosync 2 $1 0 $2 0 1 handle_errors"
    at_exit dmsetup remove --noudevsync --noudevrules --retry "$name"
    dmsetup mknodes "$name"
    device=/dev/mapper/$name
}

# rublk_loop DISK [OPTION]...: sets `device` to a device of rublk's loop target; the program is named by CLEAVE_RUBLK.
rublk_loop() {
    local number=900
    need_module ublk_drv
    while [[ -e /dev/ublkb$number ]]; do number=$((number + 1)); done
    device=/dev/ublkb$number
    "$CLEAVE_RUBLK" add loop --number $number --queue 1 --depth 128 --foreground --file "$@" >/dev/null &
    # Asked to delete a device that it serves, it takes longer than the clock of a slow guest allows.
    # shellcheck disable=SC2016 # Its own arguments.
    at_exit bash -c 'kill -9 "$1"; while kill -0 "$1" 2>/dev/null; do sleep 0.05; done; "$2" del --number "$3"' - \
        $! "$CLEAVE_RUBLK" $number
    disown $!
    wait_for 30 test -b "$device"
}

# cleave_daemon CLEAVED STATE: starts that daemon, which keeps its state in the directory STATE, with a group called bench; sets
# `daemon` to its process.
cleave_daemon() {
    need_module ublk_drv
    export CLEAVE_SOCKET=$work/socket CLEAVE_STATE=$2
    CLEAVE_LOG=${CLEAVE_LOG:-warn} "$1" --state "$2" >&2 &
    daemon=$!
    at_exit bash -c "kill $daemon; for _ in {1..200}; do kill -0 $daemon || exit 0; sleep 0.05; done; kill -9 $daemon"
    wait_for 60 cleave daemon status
    step 30 cleave --quiet group create bench
}

# cleave_make SIZE DISK... [OPTION]...: sets `device` to a new volume v with a plex on each disk.
cleave_make() {
    local size=$1 plexes=()
    shift
    while (($#)) && [[ $1 != --* ]]; do plexes+=("--plex=$1") && shift; done
    step 60 cleave --quiet make --group bench --init active "${plexes[@]}" "$@" v "$size"
    at_exit cleave --quiet rm --group bench --force v
    device=$(cleave --json show --group bench v | jq -er '.volumes[0].device')
}

# cleave_volume CLEAVED STATE SIZE DISK... [OPTION]...: both.
cleave_volume() {
    cleave_daemon "$1" "$2"
    cleave_make "${@:3}"
}

# need_disks: the driver of the disks in memory.
need_disks() {
    modprobe null_blk nr_devices=0
    mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
}
