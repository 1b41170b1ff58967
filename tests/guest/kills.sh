#!/usr/bin/env bash
# cleaved is killed again and again below mounted file systems that fio writes to and verifies, on volumes of one to three
# plexes, every other time while a snapshot mirror is copied or given back: no I/O error, the same node, the copy goes on,
# equal plexes, a clean file system. A line `kill FILE-SYSTEM PLEXES DOING PAUSE` tells of each kill, the pause of I/O in
# milliseconds.
#
# CLEAVE_KILLS says how many.
# smoke
# timeout: 900
. "$(dirname "$0")/cleave.sh"
. "$(dirname "$0")/load.sh"

kills=${CLEAVE_KILLS:-$(long_or 20 6)}
if ((kills < 12)); then rounds=('ext4 2' 'xfs 3'); else rounds=('ext4 1' 'xfs 2' 'ext4 3' 'xfs 1' 'ext4 2' 'xfs 3'); fi

start_daemon

idle() { ! running_task; }
running_task() { cleave --json task list | jq -e '[.tasks[] | select(.state == "running")] | length > 0' >/dev/null; }
# So that the kill meets a copy under way; the next daemon goes on with it at full speed.
slowly=(--rate 1m)

# The next three set `doing` to what is under way when they return.
do_nothing() {
    doing=writes
}
do_snapstart() {
    [[ ! $mirrored ]] || step 60 cleave -q snapabort v
    step 60 cleave -q snapstart -b "${slowly[@]}" v
    mirrored=1 doing=snapstart
    running_task || die "a snapstart has ended at once"
}
do_snapback() {
    local turn
    for turn in 1 2 3; do
        [[ $mirrored ]] || step 120 cleave -q snapstart v
        mirrored=1
        step 60 cleave -q snapshot v s -o consistency=crash
        # Its origin moves on.
        sleep "$turn"
        step 60 cleave -q snapback -b "${slowly[@]}" s
        running_task && doing=snapback && return
        step 120 cleave -q snapwait v
    done
    die "a snapback is never met under way"
}

kill_and_restart() {
    kill_daemon
    spawn_daemon
}

# round FILE-SYSTEM PLEXES KILLS
round() {
    local type=$1 plexes=$2 left=$3 size=96m options=() doing pause copies files file
    if [[ $type == xfs ]]; then size=320m options=(--sparse); fi
    need_module "$type"
    step 120 cleave -q make v $size -n "$plexes" "${options[@]}"
    node=$(device_of v)
    step 60 "mkfs.$type" -q "$node"
    step 60 mount "$node" mnt
    start_load mnt
    mirrored=
    while ((left > 0)); do
        moves_on "$node"
        # While plexes are made equal after the last kill no snapshot is taken; the kill alone may meet that.
        ((number % 2 == 0)) || wait_for 120 idle
        number=$((number + 1)) left=$((left - 1))
        case $((number % 4)) in
        1 | 3) do_nothing ;;
        2) do_snapstart ;;
        0) do_snapback ;;
        esac
        # Not always at the same point of a pass.
        sleep "$((RANDOM % 2)).$((RANDOM % 10))$((RANDOM % 10))"
        pause_of kill_and_restart
        echo "kill $type $plexes $doing $pause"
        daemon_answers
        assert_eq "$node" "$(device_of v)" "the node after kill $number"
        # What was interrupted goes on, and ends.
        [[ $doing == writes ]] || step 120 cleave -q snapwait v
    done
    end_load
    copies=$((plexes + ${mirrored:-0}))
    wait_for 120 idle
    assert_equal_plexes v $copies
    assert_eq "$plexes" "$(cleave --json show v | jq '[.volumes[0].plexes[] | select(.state == "ACTIVE")] | length')" "the number of ACTIVE plexes"
    assert_eq $((copies - plexes)) "$(cleave --json show v | jq '[.volumes[0].plexes[] | select(.state == "SNAPDONE")] | length')" "the number of SNAPDONE plexes"
    step 60 umount mnt
    case $type in
    ext4) step 60 e2fsck -fn "$node" ;;
    xfs) step 60 xfs_repair -n "$node" ;;
    esac >checked 2>&1 || die "$type is not clean: $(<checked)"
    calm_log
    files=$(cleave --json show v | jq -r '.volumes[0].plexes[].path')
    [[ $files ]] || die "v has no files"
    step 60 cleave -q rm -f v
    for file in $files; do
        [[ ! -e $file ]] || die "the file of a plex is left: $file"
    done
}

mkdir mnt
unmount_at_exit mnt
at_exit revive_daemon
number=0
for ((turn = 0; turn < ${#rounds[@]}; turn++)); do
    share=$((kills * (turn + 1) / ${#rounds[@]} - kills * turn / ${#rounds[@]}))
    # shellcheck disable=SC2086
    round ${rounds[turn]} $share
done
echo "$number kills survived"
