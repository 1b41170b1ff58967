#!/usr/bin/env bash
# A snapshot whose origin changed by one in a hundred bytes is given back by copying little more than that, and is then
# equal to its origin.
# timeout: 280
. "$(dirname "$0")/cleave.sh"

need_state_disk "$(long_or 3G 2G)"
start_daemon

length=$(($(long_or 4096 256) << 20))
step 200 cleave --quiet make v $((length / 512)) --nmirror 2 --sparse
step 200 fio --name=fill --filename="$(device_of v)" --rw=write --bs=512k --size=64m --direct=1 --ioengine=libaio \
    --iodepth=8 --randseed=1 --refill_buffers --output=fill.log
step 200 cleave --quiet snapstart v --sparse
step 60 cleave --quiet snapshot v snap

# change VOLUME BYTES SEED: so many bytes in blocks of 64 KiB at random places, which may reach into two regions each.
change() {
    step 120 fio --name=change --filename="$(device_of "$1")" --rw=randwrite --bs=64k --blockalign=4k --size=$length \
        --io_size="$2" --direct=1 --ioengine=libaio --iodepth=8 --randseed="$3" --refill_buffers --output=change.log
}
# The origin moves on by 0.9 %; so does the snapshot by 0.1 %, which is given up.
change v $((length * 9 / 1000)) 2
change snap $((length / 1000)) 3

step 120 cleave --json snapback snap >returned
copied=$(jq .copied_bytes returned) dirty=$(jq .dirty_regions returned) regions=$(jq .regions returned)
echo "snapback: $dirty of $regions regions dirty, $copied of $length bytes copied ($((copied * 10000 / length)) of 10000)"
((copied > 0)) || die "nothing was copied, though it differed: $(<returned)"
((copied * 100 <= length * 3)) || die "$copied bytes were copied after a change of 1 %: $(<returned)"
assert_eq true "$(jq .snapshot_removed returned)" 'that the snapshot volume went with its plex'
assert_equal_plexes v 3

# Broken off again it is the origin, byte by byte, read past every cache.
step 60 cleave --quiet snapshot v again
content() { dd if="$(device_of "$1")" bs=1M iflag=direct status=none; }
assert_same <(content v) <(content again) 'the volume and its snapshot after a snapback'
# Which is a copy: what is written now reaches one of them alone.
change v $((length / 100)) 4
if cmp -s <(content v) <(content again); then die 'a write to the origin has reached its snapshot'; fi
calm_log
