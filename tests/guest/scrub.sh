#!/usr/bin/env bash
# Scrub: a plex that was changed behind Cleave's back is found and repaired, from the plex that is named or by majority;
# a scrub goes on where it was after SIGKILL and after a stop; it begins by itself when it is due, whatever the clock does.
# timeout: 600
. "$(dirname "$0")/cleave.sh"

start_daemon
step 60 cleave make v 64m -n 2
step 60 cleave make w 16m -n 3
for volume in v w; do
    step 60 dd if=/dev/urandom of="$(device_of "$volume")" bs=1M count=8 oflag=direct status=none
done

# plex_file VOLUME NUMBER: the file of a plex.
plex_file() { cleave --json show "$1" | jq -r ".volumes[0].plexes[$2 - 1].path"; }

# spoil FILE OFFSET_KIB: changes 4 KiB behind Cleave's back.
spoil() { dd if=/dev/urandom of="$1" bs=4k count=1 seek=$(($2 / 4)) conv=notrunc,fsync status=none; }

# last VOLUME FIELD: of the result of the last whole scrub.
last() { cleave --json show "$1" | jq ".volumes[0].scrub.last.$2"; }

echo "== found, refused without a majority, repaired from a source"
good=$(sha256sum <"$(device_of v)")
spoil "$(plex_file v 2)" 1024
spoil "$(plex_file v 2)" 40960
expect_fail 'v-02 differs from v-01 at byte 1048576, 4096 bytes' cleave scrub v
assert_eq 8192 "$(last v differing_bytes)" "what the scrub found"
expect_refusal scrub.no-majority 1 cleave scrub v --repair
expect_fail 'no majority can say .*; name the plex that counts: cleave scrub v --repair --source v-01' cleave scrub v --repair
said=$(step 120 cleave scrub v --repair --source v-01)
[[ $said == *'v-02 differs from v-01 at byte 41943040, 4096 bytes, repaired'* ]] || die "said: $said"
assert_eq 8192 "$(last v repaired_bytes)" "what was repaired"
assert_equal_plexes v 2
assert_eq "$good" "$(sha256sum <"$(device_of v)")" "the volume after the repair"

echo "== three plexes decide by themselves"
good=$(sha256sum <"$(device_of w)")
spoil "$(plex_file w 1)" 2048
spoil "$(plex_file w 3)" 4096
step 120 cleave scrub w --repair >said
grep -q 'w: 3 plexes equal again, 8192 bytes repaired' said || die "said: $(<said)"
assert_equal_plexes w 3
assert_eq "$good" "$(sha256sum <"$(device_of w)")" "the volume after the repair"
step 60 cleave stop w

echo "== killed in the middle, it goes on where it was"
spoil "$(plex_file v 2)" 65532
step 30 cleave scrub v --repair --source v-01 --rate 1m -b
expect_fail 'a scrub of it is under way' cleave scrub v
expect_refusal resize.scrub 13 cleave resize v +4m
sleep 14
kill_daemon
spawn_daemon
daemon_answers
end=$((SECONDS + 90))
task=''
until [[ $task ]]; do
    ((SECONDS < end)) || die "the scrub does not go on: $(cleave task list)"
    sleep 0.5
    task=$(cleave --json task list | jq '.tasks[] | select(.kind == "scrub" and .state == "running") | .task')
done
total=$(cleave --json task list | jq ".tasks[] | select(.task == $task) | .total_bytes")
((total < 60 << 20)) || die "it began anew: $total bytes to go through"

echo "== stopped with its volume, it goes on with it"
step 90 cleave stop v
step 90 cleave start v
task=$(cleave --json task list | jq '[.tasks[] | select(.kind == "scrub" and .state == "running") | .task] | last')
step 30 cleave task throttle "$task" none
step 120 cleave task watch "$task"
assert_eq 4096 "$(last v repaired_bytes)" "what was repaired behind the kill"
assert_equal_plexes v 2

echo "== aborted, it is gone"
step 30 cleave scrub v --rate 1m -b
task=$(cleave --json task list | jq '[.tasks[] | select(.kind == "scrub" and .state == "running") | .task] | last')
step 30 cleave task abort "$task"
assert_eq null "$(cleave --json show v | jq '.volumes[0].scrub.position_bytes')" "the position of an aborted scrub"

# The clock is the whole machine's: only in the guest is it ours.
if [[ -x /cleave/tests/run ]]; then
    echo "== due by the clock, and the clock set back"
    before=$(last v ended_ms)
    step 30 cleave scrub v --every 2h
    cleave show v | grep -q 'scrub    every 2 h, differences are told' || die "$(cleave show v)"
    date -s '+3 hours' >/dev/null
    end=$((SECONDS + 90))
    while [[ $(last v ended_ms) == "$before" ]]; do
        ((SECONDS < end)) || die "no scrub begins by itself: $(cleave show v)"
        sleep 1
    done
    date -s '-10 days' >/dev/null
    wait_for 90 grep -q 'the clock was set back' "$CLEAVE_TEST_LOG"
    assert_eq 1 "$(grep -c 'its scrub is due' "$CLEAVE_TEST_LOG")" "scrubs that began by themselves"
fi
calm_log
