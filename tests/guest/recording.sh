#!/usr/bin/env bash
# What is recorded when power cuts are tried: the state directory and all plexes are slices of one disk, /dev/vda, whose every
# write the emulator logs. Above it a mounted file system on a mirrored volume is written to, the daemon is killed, and a
# snapshot mirror is made, broken off and given back. Marks in the disk's first MiB tell what is promised from then on;
# tests/power says what they mean.
#
# CLEAVE_FILE_SYSTEM is ext4 or xfs. What /dev/vda holds is overwritten.
# timeout: 400
. "$(dirname "$0")/cleave.sh"
. "$(dirname "$0")/slices.sh"

type=${CLEAVE_FILE_SYSTEM:-ext4}
case $type in
# A stamp is one block of it: a power cut may tear what is larger.
ext4) volume=32 options=(-b 4096) ;;
xfs) volume=48 options=(--unsupported) ;;
*) die "no recording with $type" ;;
esac
slots=512
# In sectors. A plex has room for its labels.
mark_sectors=2048 state_sectors=$((24 << 11)) plex_sectors=$(((volume + 4) << 11))
slices=("disk:$mark_sectors:$state_sectors")
for ((plex = 0; plex < 3; plex++)); do
    slices+=("p$plex:$((mark_sectors + state_sectors + plex * plex_sectors)):$plex_sectors")
done

[[ -b /dev/vda ]] || die "there is no /dev/vda to be recorded"
need_module "$type"
make_slices /dev/vda "marks:0:$mark_sectors" "${slices[@]}"
marks=0
mark() {
    ((marks < mark_sectors)) || die "there is no room for mark '$*'"
    echo "$*" | dd of="$places/marks" bs=512 seek=$marks conv=sync,notrunc oflag=direct status=none
    marks=$((marks + 1))
}
for slice in "${slices[@]}"; do mark "slice ${slice//:/ }"; done
step 60 mkfs.ext4 -q -F "$places/disk"
mount_state
sync
start_daemon
mark begin

step 60 cleave -q make v "${volume}m" --plex "$places/p0" --plex "$places/p1" --init active
mark made v
node=$(device_of v)
step 60 "mkfs.$type" -q "${options[@]}" "$node"
mount_volume v mnt
# Written, not only allocated: from then on a stamp is where it belongs as soon as it is acknowledged.
dd if=/dev/zero of=mnt/stamps bs=1M count=$((slots * 4096 >> 20)) status=none
dd if=/dev/zero of=mnt/churn bs=1M count=2 status=none
sync
# FILE-OFFSET, then the place in the volume, in blocks of 512 bytes.
read -r first place < <(filefrag -b512 -v mnt/stamps | tr -d : | awk '$1 == 0 {print $2, $4}' | tr -d .)
assert_eq 1 "$(filefrag mnt/stamps | sed 's/.*: \([0-9]*\) extent.*/\1/')" "the number of pieces in which the stamps lie"
[[ $first == 0 && $place =~ ^[0-9]+$ ]] || die "the place of the stamps is not told: $(filefrag -b512 -v mnt/stamps)"
mark stamps v $((place * 512)) $slots
mark "$type" v

coproc stamper { exec stamper sync mnt/stamps 0 $slots 3 100; }
stamps=$stamper_PID
kill_at_exit "$stamps"
# tell WORD: has the stamper obey; sets `floor` and `next` to what it answers.
tell() {
    echo "$1" >&"${stamper[1]}"
    read -rt 60 floor next <&"${stamper[0]}" || die "the stamper does not answer to '$1'"
}
fio --name=churn --filename=mnt/churn --rw=randwrite --bs=4k --size=2m --ioengine=libaio --direct=1 --iodepth=4 --fsync=8 \
    --thinktime=40ms --thinktime_blocks=8 --time_based --runtime=600 >fio.out 2>&1 &
churn=$!
kill_at_exit $churn
# Names, sizes and space of a file system change too.
names() {
    local number=0
    mkdir mnt/names
    until [[ -e stop ]]; do
        head -c $((RANDOM)) /dev/urandom >"mnt/names/new"
        mv mnt/names/new "mnt/names/$((number % 16))"
        ((number % 4)) || sync mnt/names "mnt/names/$((number % 16))"
        number=$((number + 1))
        sleep 0.1
    done
}
names &
namer=$!
kill_at_exit $namer

# beats COUNT: as many times tells the log what is acknowledged.
beats() {
    local turn
    for ((turn = 0; turn < $1; turn++)); do
        sleep 0.1
        tell state
        mark acked v "$floor"
    done
}
# cut SNAPSHOT
cut() {
    local low
    tell state
    low=$floor
    step 60 cleave -q snapshot v "$1" -o consistency=crash
    tell state
    mark cut v "$1" "$low" "$next"
}

beats 6
# Recovery with plexes to be made equal.
kill_daemon
spawn_daemon
beats 6
daemon_answers 60
idle() { cleave --json task list | jq -e '[.tasks[] | select(.state == "running")] | length == 0'; }
wait_for 60 idle
step 60 cleave -q snapstart -b v --plex "$places/p2"
beats 4
step 60 cleave -q snapwait v
mark mirrored v
beats 2
cut s1
beats 4
mark back s1
step 60 cleave -q snapback s1
beats 2
cut s2
beats 4

tell stop
wait_child "$stamps" 60 "the stamper"
mark acked v "$next"
touch stop
wait_child $namer 60 "the change of names"
gone $churn && die "fio has ended: $(<fio.out)"
kill $churn
{ wait $churn || true; } 2>/dev/null
step 60 umount mnt
step 60 cleave -q stop s2
mark stopped
step 60 cleave -q stop v
calm_log
echo "recorded $next stamps on $type"
