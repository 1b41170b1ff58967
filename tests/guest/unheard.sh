#!/usr/bin/env bash
# A daemon whose log nobody takes any more, as at the end of a host's run, when the journal ends before it: it serves on, and
# ends in good order.
. "$(dirname "$0")/cleave.sh"

need_module ublk_drv
at_exit end_daemon
mkfifo log
cat log >/dev/null &
reader=$!
kill_at_exit $reader
cleaved --state "$CLEAVE_TEST_STATE" 2>log </dev/null &
daemon=$!
echo "$daemon" >"$CLEAVE_SOCKET.pid"
daemon_answers
step 30 cleave --quiet make v 16m
kill $reader
{ wait $reader || true; } 2>/dev/null
# Each of these is a line.
for _ in {1..5}; do step 30 cleave --quiet set v plex-timeout=10 && step 30 cleave --quiet set v plex-timeout=20; done
dd if=/dev/urandom of=/dev/vx/rdsk/v bs=1M count=4 oflag=direct status=none
kill "$daemon"
wait_for 30 gone "$daemon"
wait "$daemon" || die "the daemon ended with status $?"
[[ ! -e /dev/vx/rdsk/v ]] || die "the volume was not stopped"
spawn_daemon
daemon_answers
assert_eq CLEAN "$(cleave --json show v | jq -r '.volumes[0].state')" "how the volume was stopped"
