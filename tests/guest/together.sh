#!/usr/bin/env bash
# Many people at one volume: whatever they say at the same time, each is served or refused in one line, the daemon lives,
# and what the records say is what runs.
# timeout: 240
# smoke
. "$(dirname "$0")/cleave.sh"

start_daemon
step 60 cleave -q make v 16m -n 2

# at_once WORD...: the same command from eight at once; the statuses, each with its count.
at_once() {
    local one many=()
    : >statuses
    for one in {1..8}; do
        (
            status=0
            timeout -k 2 60 cleave -q "$@" >/dev/null 2>>said || status=$?
            echo "$status" >>statuses
        ) &
        many+=($!)
    done
    for one in "${many[@]}"; do wait_child "$one" 90 "one of eight"; done
    sort -n statuses | uniq -c | awk '{printf "%s%s of %s", sep, $1, $2; sep = ", "}'
}
# One does it; the others are told that it is there, or there no more.
assert_eq "1 of 0, 7 of 12" "$(at_once make w 4m)" "eight that make one volume"
assert_eq 1 "$(cleave --json list | jq '[.volumes[] | select(.volume == "w")] | length')" "volumes of that name"
removed=$(at_once rm -f w)
[[ $removed == "1 of 0, "* && $removed =~ ^"1 of 0, "[0-9]\ of\ (11|13)(,\ [0-9]\ of\ 13)?$ ]] ||
    die "eight that remove one volume: $removed"

end=$((SECONDS + $(long_or 120 15)))
# say WORD...: again and again; a refusal is fine, anything else is not.
say() {
    local status
    while ((SECONDS < end)); do
        status=0
        timeout -k 2 60 cleave -q "$@" >/dev/null 2>>said || status=$?
        # 3 and 4: no daemon, or none that answers; above 128: killed by a signal or the time limit.
        if ((status == 3 || status == 4 || status == 124 || status > 128)); then
            echo "status $status from: $*" >>wrong
            return
        fi
        sleep 0.0$((RANDOM % 10))
    done
}
crowd=()
for words in "start v" "stop v" "start v" "stop v" "mirror v" "remove-mirror v" "snapstart v" "snapshot v s" "snapback s" \
    "rm -f s" "snapabort v" "verify v"; do
    # shellcheck disable=SC2086
    say $words &
    crowd+=($!)
done
for one in "${crowd[@]}"; do wait_child "$one" 180 "one of the crowd"; done
[[ ! -e wrong ]] || die "$(<wrong)"
if grep panicked "$CLEAVE_TEST_LOG" >&2; then die "the daemon panicked"; fi
gone "$daemon" && die "the daemon has ended"

# What runs has a device, and what does not has none.
rows() { cleave --json list | jq -c '.volumes[]'; }
while read -r row; do
    device=$(jq -r '.device // empty' <<<"$row")
    [[ $(jq -r .kernel_state <<<"$row") != ENABLED || -b $device ]] || die "it runs without a device: $row"
done < <(rows)
assert_eq "$(rows | jq -r 'select(.kernel_state == "ENABLED").device' | sort)" "$(find /dev -maxdepth 1 -name 'ublkb*' | sort)" "the devices"

# It can be brought to rest, started, written and compared.
cleave -q stop s >/dev/null 2>&1 || true
cleave -q stop v >/dev/null 2>&1 || true
step 60 cleave -q start v
dd if=/dev/urandom of="$(device_of v)" bs=1M count=16 oflag=direct conv=fsync status=none
idle() { ! cleave --json task list | jq -e '.tasks[] | select(.state == "running")'; }
wait_for 60 idle
assert_equal_plexes v
step 60 cleave -q stop v
