#!/usr/bin/env bash
# `cleave doctor` on a good host, with a plex in memory, without the daemon, as an ordinary user, and without the driver:
# what it tells, and its exit code.
# smoke
# timeout: 300
. "$(dirname "$0")/cleave.sh"

# examined CODE WORDS...: `cleave doctor WORDS` ends with CODE; what it told is in `said`, as a text and as JSON in `report`.
examined() {
    local code=$1 status=0
    shift
    said=$(timeout -k 2 60 cleave doctor "$@") || status=$?
    echo "$said"
    assert_eq "$code" "$status" "the exit code of doctor"
    status=0
    report=$(timeout -k 2 60 cleave --json doctor "$@") || status=$?
    assert_eq "$code" "$status" "the exit code of doctor with --json"
}
# told LEVEL ID OBJECT PATTERN: there is such a line.
told() { grep -qE -- "^$1 +$2 +$3: .*$4" <<<"$said" || die "no line has: $1 $2 $3: $4"; }
# level_of ID OBJECT: how good that is.
level_of() {
    jq -r --arg id "$1" --arg object "$2" '.checks[] | select(.id == $id and .object == $object) | .level' <<<"$report"
}
level() { assert_eq "$1" "$(level_of "$2" "$3")" "the level of $2 $3"; }
# Who is not ok is told what to do, and only he.
ways_out() { jq -e 'all(.checks[]; (.level == "ok") != has("way_out"))' <<<"$report" >/dev/null || die "ways out are not as they should be"; }

need_state_disk
chmod 700 "$CLEAVE_TEST_STATE"
start_daemon
grep -q '^cleave:' /etc/group && groups=ok || groups=note

echo "== a good host"
step 60 cleave -q make v 32m
step 60 cleave -q make w 32m -n 2
step 60 cleave -q make s 32m --sparse
examined 0
ways_out
for id in kernel.release ublk.module ublk.control ublk.recovery ublk.devices io-uring.allowed io-uring.ring memory.locked \
    daemon.runs daemon.version daemon.volumes volume.health; do
    told ok "$id" '.*' .
done
for id in directory filesystem room below; do level ok "state.$id" "$CLEAVE_TEST_STATE"; done
told ok daemon.volumes cleaved 'serves 3 of 3 volumes'
told ok volume.health volumes '3 of 3 are well'
told ok state.filesystem .* 'ext4'
told ok links.lead /dev/cleave 'its 3 links lead to their devices'
# Of the group `default` there are two names more of each.
told ok links.lead /dev/vx 'its 12 links lead to their devices'
level "$groups" users.group 'group cleave'
for plex in v-01 w-01 w-02 s-01; do
    for id in medium filesystem direct room; do level ok "plex.$id" "default/$plex"; done
done
told ok plex.room default/v-01 'has all its room'
told ok plex.room default/s-01 'may still need 3[0-9.]+ MiB'
if [[ $(cleave --json show v | jq -r '.volumes[0].data_path') == zero ]]; then
    told ok ublk.zero-copy 'ublk driver' "requests' own pages are lent"
    told ok volume.data default/v "requests' own pages are lent"
else
    told note ublk.zero-copy 'ublk driver' 'data are copied; Linux 6.16 and later'
    told ok volume.data default/v 'data are copied'
fi
told ok volume.data default/w 'data are copied, as it has several plexes'
assert_eq 0 "$(wc -l < <(cleave doctor 2>&1 >/dev/null))" "lines on standard error"

echo "== what an ordinary user sees"
chmod 711 "$PWD" "${PWD%/*}"
status=0
said=$(setpriv --reuid 65534 --regid 65534 --clear-groups timeout -k 2 60 cleave doctor --state "$CLEAVE_TEST_STATE") || status=$?
echo "$said"
assert_eq 0 "$status" "the exit code of doctor for an ordinary user"
told note ublk.control /dev/ublk-control 'may not be opened by this user; run it as root'
told note ublk.features 'ublk driver' 'not known'
told note daemon.runs cleaved '.'

echo "== a plex in memory, a sparse one without room, a link that leads elsewhere"
mkdir memory
step 10 mount -t tmpfs -o size=80m none memory
unmount_at_exit "$PWD/memory"
step 60 cleave -q make m 64m --plex "$PWD/memory/plex" --sparse
at_exit eval "cleave -q rm -f m || true"
head -c 40m /dev/zero >memory/filler
rm /dev/vx/dsk/default/v
examined 80
ways_out
told warn plex.filesystem default/m-01 'lies on tmpfs, which is memory'
told warn plex.room default/m-01 'may still need .* MiB, and .* are free; make room'
told warn links.lead /dev/vx/dsk/default/v 'does not lead to the device of default/v'
level ok links.lead /dev/cleave
rm memory/filler
step 60 cleave -q rm -f m
step 60 cleave -q stop v
step 60 cleave -q start v
examined 0

echo "== a state directory with little room that others may read"
chmod 755 "$CLEAVE_TEST_STATE"
fallocate -l "$(($(stat -f -c '%f * %S' "$CLEAVE_TEST_STATE") - (32 << 20)))" "$CLEAVE_TEST_STATE/filler" || df "$CLEAVE_TEST_STATE" >&2
examined 80
told warn state.directory "$CLEAVE_TEST_STATE" 'is open to others than root \(mode 755\); chmod 700'
told warn state.room "$CLEAVE_TEST_STATE" 'make room'
rm "$CLEAVE_TEST_STATE/filler"
chmod 700 "$CLEAVE_TEST_STATE"

echo "== no daemon, and devices that wait for it"
kill_daemon
waiting() { [[ $(cleave doctor) == *'3 devices wait for it'* ]]; }
wait_for 20 waiting
examined 81
ways_out
told fail daemon.runs cleaved 'the daemon does not run, and 3 devices wait for it; '
level ok state.directory "$CLEAVE_TEST_STATE"
spawn_daemon
daemon_answers
examined 0

echo "== no driver"
for volume in v w s; do step 60 cleave -q rm -f "$volume"; done
step 60 cleave daemon stop
wait_for 20 gone "$daemon"
examined 80
told warn daemon.runs cleaved 'the daemon does not run'
if modprobe -r ublk_drv; then
    examined 80
    ways_out
    told note ublk.module ublk_drv 'is not loaded; cleaved does so when it starts'
    told note ublk.control /dev/ublk-control 'is missing; '
    modprobe ublk_drv
    examined 80
else
    echo "the driver cannot be taken out here: not tested"
fi
