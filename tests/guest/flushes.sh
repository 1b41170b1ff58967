#!/usr/bin/env bash
# Every flush that an application is told of was done by every plex, and so was every durable write: counted at the disks
# below the plexes, against what the device completed.
. "$(dirname "$0")/cleave.sh"

start_daemon
disks=()
for number in 1 2 3; do
    loop_device "disk-$number" 40M --direct-io=on
    disks+=("$device")
    assert_eq 'write back' "$(<"/sys/block/${device##*/}/queue/write_cache")" "the cache of $device"
done
# The state directory lies elsewhere: what the daemon flushes for itself is not counted.
step 60 cleave -q make v 32m --plex "${disks[0]}" --plex "${disks[1]}"
step 60 cleave -q make w 32m --plex "${disks[2]}"
step 60 cleave -q task watch

# flushes NODE: how many the disk has completed.
flushes() {
    local -a stat
    read -ra stat <"/sys/block/${1##*/}/stat"
    echo "${stat[15]}"
}

# counted WHAT DURABLE VOLUME DISK... -- COMMAND...: COMMAND has the volume write and flush 200 times, one after the other,
# DURABLE of the writes durably. Each disk must have flushed as often as it was told of both meanwhile.
counted() {
    local what=$1 durable=$2 volume=$3 node told number
    local -a disks=() begun=()
    shift 3
    while [[ $1 != -- ]]; do disks+=("$1") && shift; done
    shift
    node=$(device_of "$volume")
    told=$(flushes "$node")
    for disk in "${disks[@]}"; do begun+=("$(flushes "$disk")"); done
    step 120 "$@" "$node"
    told=$(($(flushes "$node") - told + durable))
    ((told >= 200)) || die "$what: the volume was told of $told only"
    for number in "${!disks[@]}"; do
        begun[number]=$(($(flushes "${disks[number]}") - begun[number]))
        ((begun[number] >= told)) || die "$what: ${disks[number]} flushed ${begun[number]} times only, of $told"
    done
    echo "$what: $told told of, ${begun[*]} done"
}

synced() { fio --name=synced --rw=randwrite --bs=4k --size=8m --io_size=800k --fsync=1 --end_fsync=1 --ioengine=sync --direct=1 --allow_file_create=0 --filename="$1" >fio.out; }
durable() { dd if=/dev/urandom of="$1" bs=4k count=200 oflag=direct,dsync conv=notrunc status=none; }
export -f synced durable
counted 'flushes of two plexes' 0 v "${disks[@]:0:2}" -- bash -c 'synced "$0"'
counted 'durable writes to two plexes' 200 v "${disks[@]:0:2}" -- bash -c 'durable "$0"'
counted 'flushes of one plex' 0 w "${disks[2]}" -- bash -c 'synced "$0"'
counted 'durable writes to one plex' 200 w "${disks[2]}" -- bash -c 'durable "$0"'

step 60 cleave -q stop v
step 60 cleave -q stop w
calm_log
