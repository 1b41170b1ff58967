#!/usr/bin/env bash
# The daemon of a mirrored volume of 1 TiB, of which only what is written takes space, is killed under random writes to all
# of it. A line `terabyte COMPARED WRITTEN MILLISECONDS` tells what making its plexes equal went through and wrote, in bytes,
# and how long it took from the kill on.
#
# CLEAVE_SECONDS says how long is written before the kill.
# timeout: 600
. "$(dirname "$0")/cleave.sh"

start_daemon
step 120 cleave -q make v 1t -n 2 --sparse --init active
node=$(device_of v)
fio --name=w --filename="$node" --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 --norandommap \
    --random_generator=tausworthe64 --time_based --runtime=1200 >fio.out 2>&1 &
writer=$!
kill_at_exit $writer
sleep "${CLEAVE_SECONDS:-5}"
gone $writer && die "fio has ended: $(<fio.out)"
began=$(now_ms)
kill_daemon
spawn_daemon
daemon_answers 120
gone $writer && die "fio has ended: $(<fio.out)"
kill $writer
{ wait $writer || true; } 2>/dev/null
in_sync() { [[ $(cleave --json show v | jq -r '.volumes[0].state') == ACTIVE ]]; }
wait_for 1200 in_sync
took=$(($(now_ms) - began))
read -r compared written < <(cleave --json task list | jq -r '[.tasks[] | select(.kind == "recover")] | "\([.[].done_bytes] | add // 0) \([.[].copied_bytes] | add // 0)"')
((compared > 0)) || die "nothing was made equal: $(cleave --json task list)"
echo "terabyte $compared $written $took"
# Labels lie behind the volume, and differ.
mapfile -t plexes < <(cleave --json show v | jq -r '.volumes[0].plexes[].path')
step 60 cleave -q stop v
for plex in "${plexes[@]}"; do truncate -s 1T "$plex"; done
assert_eq 0 "$(step 600 stamper differ "${plexes[@]}")" "the number of regions in which the plexes differ"
calm_log
