#!/usr/bin/env bash
# An idle daemon sleeps: while it serves a mirrored volume from which a snapshot was broken off, and nobody does anything, none
# of its threads runs. What happens to a plex file meanwhile is told all the same.
# timeout: 180
# shellcheck source=tests/guest/cleave.sh
. "$(dirname "$0")/cleave.sh"

start_daemon
step 60 cleave --quiet make v 24m -n 2
step 60 cleave --quiet snapstart v
step 60 cleave --quiet snapwait v
step 60 cleave --quiet snapshot v tmp
dd if=/dev/urandom of="$(device_of v)" bs=1M count=8 oflag=direct conv=fsync status=none

# turns: how often each thread of the daemon has run so far; the kernel's own workers of its rings are no threads of it.
turns() {
    local thread name
    for thread in "/proc/$daemon/task"/*; do
        name=$(<"$thread/comm")
        [[ $name == iou-* ]] || awk -v name="$name" '/ctxt_switches/ {turns += $2} END {print name, turns}' "$thread/status"
    done
}

# What was begun is ended by then: the cleaner's rounds, and workers that wait 10 s for more to do.
sleep 20
before=$(turns)
sleep 20
after=$(turns)
[[ $after == "$before" ]] || die "threads of an idle daemon ran: $(diff <(echo "$before") <(echo "$after"))"

path=$(cleave --json show v | jq -r '.volumes[0].plexes[0].path')
mv "$path" "$path.away"
wait_for 15 grep -q 'its file was removed' "$CLEAVE_TEST_LOG"
mv "$path.away" "$path"
