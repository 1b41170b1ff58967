#!/usr/bin/env bash
# fio writes in mixed sizes, discards, flushes and verifies on a bare volume, while snapshots are taken and given back
# and mirrors come and go beside it: no error, and equal plexes at the end.
# timeout: 1200
. "$(dirname "$0")/cleave.sh"

seconds=$(long_or 480 25)

start_daemon
step 60 cleave make v 64m -n 2
node=$(device_of v)

# One pass writes each block once in random order and reads all of them back, but for the few that it discards.
cat >job <<JOB
[global]
filename=$node
ioengine=libaio
direct=1
rw=randwrite
verify=crc32c
verify_fatal=1
[mixed]
size=40m
bssplit=4k/50:16k/20:64k/20:256k/10
iodepth=16
verify_backlog=48
[flushed]
offset=40m
size=4m
bssplit=512/50:4k/50
fsync=16
iodepth=4
verify_backlog=64
# Every block is discarded before it is written.
[discarded]
offset=48m
size=12m
rw=randtrimwrite
bs=16k
iodepth=8
verify_backlog=50
fsync=64
# Discards at random among writes: what the copies of such a place hold only the comparison at the end can tell.
[torn]
offset=60m
size=4m
verify=0
bssplit=4k/50:64k/50
iodepth=8
norandommap
[trims]
offset=60m
size=4m
rw=randtrim
verify=0
bs=16k
iodepth=2
norandommap
JOB
passes() {
    until [[ -e stop ]]; do
        fio --output-format=json --output=fio.json job 2>fio.err || return
        jq -e '[.jobs[].error] | add == 0' fio.json >/dev/null || return
        jq -r '[([.jobs[].write.total_ios] | add), ([.jobs[].read.total_ios] | add), ([.jobs[].sync.total_ios] | add)] | @tsv' fio.json >>passed
    done
}
passes &
writer=$!
kill_at_exit $writer

# again WORD...: a word of cleave, said again as long as the other round's step is in its way.
again() {
    local said
    until said=$(cleave --json -q "$@" 2>&1); do
        [[ $(jq -r '.error.id // empty' <<<"$said" 2>/dev/null) == volume.busy ]] || {
            echo "$*: $said" >&2
            return 1
        }
        sleep 0.1
    done
    echo "$said"
}
snapshots() {
    local round=0
    again snapstart v
    until [[ -e enough ]]; do
        again snapwait v
        again snapshot v s >cut.json
        jq -r '.hold_us' cut.json >>holds
        again snapback s
        round=$((round + 1))
    done
    again snapabort v
    echo "$round" >snapshot-rounds
}
mirrors() {
    local round=0
    until [[ -e enough ]]; do
        again mirror v
        again remove-mirror v
        round=$((round + 1))
    done
    echo "$round" >mirror-rounds
}
snapshots >snapshots.log 2>&1 &
snapshooter=$!
kill_at_exit $snapshooter
mirrors >mirrors.log 2>&1 &
mirrorer=$!
kill_at_exit $mirrorer

end=$((SECONDS + seconds))
while ((SECONDS < end)); do
    sleep 0.5
    gone $writer && die "fio has failed: $(tail -n 5 fio.err)"
    gone $snapshooter && die "the snapshots ended: $(tail -n 5 snapshots.log)"
    gone $mirrorer && die "the mirrors ended: $(tail -n 5 mirrors.log)"
done
touch enough
wait_child $snapshooter 120 "the round of snapshots"
wait_child $mirrorer 120 "the round of mirrors"
# Two that leave in one step.
step 120 cleave -q snapstart v -n 2
step 30 cleave -q snapabort v -n 2
gone $writer && die "fio has failed: $(tail -n 5 fio.err)"
touch stop
wait_child $writer 300 "fio"

read -ra stat <"/sys/block/${node##*/}/stat"
awk -v discards="${stat[11]}" '{w += $1; r += $2; f += $3} END {
    print NR " passes of fio without an error: " w " writes, " r " reads, " f " flushes, " discards " discards"
    exit !(NR > 0 && w > 0 && r > 0 && f > 0 && discards > 0)}' passed || die "fio did not do all that was asked of it"
echo "snapshot rounds $(<snapshot-rounds), mirror rounds $(<mirror-rounds) in $seconds s"
sort -n holds | awk '{h[NR] = $1} END {
    printf "holds of %d cuts, ms: p50 %.1f max %.1f\n", NR, h[int((NR + 1) / 2)] / 1000, h[NR] / 1000}'
(($(<snapshot-rounds) > 0 && $(<mirror-rounds) > 0)) || die "a round never closed"
assert_equal_plexes v 2
calm_log
step 30 cleave stop v
