#!/usr/bin/env bash
# A daemon that stands still below a mounted file system and goes on, and daemons that end as a fault of their own would end
# them: no write is lost, no application sees an error, and the plexes are equal.
# timeout: 300
. "$(dirname "$0")/cleave.sh"
. "$(dirname "$0")/load.sh"

start_daemon
mkdir mnt
unmount_at_exit mnt
at_exit revive_daemon
need_module ext4
step 60 cleave -q make v 96m -n 2 --sparse
step 60 cleave -q task watch
node=$(device_of v)
step 60 mkfs.ext4 -q "$node"
step 30 mount "$node" mnt
start_load "$PWD/mnt"
moves_on "$node"

# It stands still: nothing completes, and nothing fails; no other daemon takes its place.
kill -STOP "$daemon"
sleep 1
completed "$node"
before=$done_writes
sleep 4
completed "$node"
assert_eq "$before" "$done_writes" 'what completed while the daemon stood still'
load_lives
if timeout -k 2 10 cleaved --state "$CLEAVE_TEST_STATE" >second 2>&1; then die "a second daemon ran: $(<second)"; fi
grep -q "runs already, pid $daemon; " second || die "a second daemon says: $(<second)"
kill -CONT "$daemon"
moves_on "$node"
daemon_answers

# It ends by a fault. What is left of it answers for nothing: the next daemon takes the device over.
for signal in SEGV ABRT BUS; do
    # Rust's handler takes the first of these for a look at its stack, and lets the fault come again.
    end=$((SECONDS + 10))
    until gone "$daemon"; do
        ((SECONDS < end)) || die "SIG$signal does not end the daemon"
        kill "-$signal" "$daemon" 2>/dev/null || true
        nap 50000
    done
    { wait "$daemon" || true; } 2>/dev/null
    spawn_daemon
    daemon_answers
    moves_on "$node"
    assert_eq "$node" "$(device_of v)" "the node after SIG$signal"
done

end_load
step 60 umount mnt
step 60 fsck.ext4 -fn "$node"
is_active() { [[ $(cleave --json show v | jq -r '.volumes[0].state') == ACTIVE ]]; }
wait_for 60 is_active
assert_equal_plexes v 2
step 60 cleave -q stop v
