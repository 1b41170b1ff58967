#!/usr/bin/env bash
# A cut between two commands that bring an application to rest and have it go on: the second is always run, and the grade says
# what was at rest.
# timeout: 200
. "$(dirname "$0")/cleave.sh"

need_state_disk
start_daemon
step 60 cleave --quiet make v 64m
step 30 mkfs.ext4 -q "$(device_of v)"
mounted "$(device_of v)" mnt
snapstart() { step 60 cleave --quiet snapstart v; }
grade() { cleave --json show "$1" | jq -r '.volumes[0].snapshot.grade'; }

# An application whose file is whole only while it is at rest.
writer() {
    while [[ ! -e end ]]; do
        if [[ -e rest ]]; then : >rests; sleep 0.01; continue; fi
        rm -f rests
        echo half >mnt/file && sleep 0.02 && echo whole >mnt/file
    done
}
writer &
kill_at_exit $!
rests() { [[ -e rests ]]; }
export -f wait_for rests uptime_ms die
pre='touch rest; until [ -e rests ]; do sleep 0.01; done; cat mnt/file >at-rest'
post='rm -f rest; echo "$CLEAVE_RESULT" >result'

snapstart
step 60 cleave --json snapshot v app -o consistency=app --pre "$pre" --post "$post" >cut
assert_eq app "$(jq -r '.snapshots[0].grade' cut)" 'the grade that is answered'
assert_eq app "$(grade app)" 'the grade that is stored'
assert_eq 'whole made' "$(<at-rest) $(<result)" 'what the hooks saw'
[[ ! -e rest ]] || die 'the application does not go on'
step 30 mount -o ro "$(device_of app)" /mnt
assert_eq whole "$(</mnt/file)" 'the file in the snapshot'
step 30 umount /mnt

# A command that fails leaves everything as it was, and the other one is run.
snapstart
expect_fail '--pre: ended with status 3' cleave snapshot v none --pre 'exit 3' --post "$post"
assert_eq pre-failed "$(<result)" 'what the second command is told'
expect_fail 'no such volume' cleave show none
expect_fail '--pre: did not end within 1 s' cleave snapshot v none --pre 'sleep 100' --post "$post" --hook-timeout 1
# What is refused anyway brings nobody to rest.
rm result
expect_fail 'there is one called|is taken|exists' cleave snapshot v app --pre 'touch result' --post 'touch result'
[[ ! -e result ]] || die 'a command was run for a cut that is refused'
step 30 cleave snapshot v foretold --dry-run >told
grep -q 'foretold: is made, a snapshot of v, of v-' told || die "not foretold: $(<told)"
# And when the client is killed while the application rests.
cleave snapshot v none --pre 'sleep 1; touch slept' --post "$post" &
client=$!
sleep 0.3
kill -9 $client
told() { [[ -e result ]]; }
wait_for 20 told
assert_eq unknown "$(<result)" 'what the second command is told of a killed client'
[[ -e slept ]] || die 'the second command has overtaken the first'
expect_fail 'no such volume' cleave show none
# VxVM's words.
step 60 vxassist -o consistency=app snapshot v vx "pre=$pre" "post=$post"
assert_eq app "$(grade vx)" 'the grade by vxassist'
expect_fail 'needs a command' vxassist -o consistency=app snapshot v x
touch end
calm_log
