#!/usr/bin/env bash
# cleaved is killed, and its successor three times in a row while it takes the device over; the next one comes up, no write
# is lost and the plexes are equal. A line `recovery FILE-SYSTEM KILLS PAUSE` tells of each round, the pause in milliseconds.
#
# CLEAVE_ROUNDS says how many rounds.
# timeout: 1200
. "$(dirname "$0")/cleave.sh"
. "$(dirname "$0")/load.sh"

rounds=${CLEAVE_ROUNDS:-$(long_or 10 2)}

start_daemon
mkdir mnt
unmount_at_exit mnt
at_exit revive_daemon

# killed_three_times: kills the daemon and three more while each takes the device over, and leaves it to another, which was
# started. Sets `kills`.
#
# A daemon is at it from when it has read the configuration until it says that it has taken the device over. Its log tells
# afterwards whether the kill met that, and the next one comes sooner or later by that.
killed_three_times() {
    local from turn said life=60000
    kills=0
    kill_daemon
    for ((turn = 0; kills < 3; turn++)); do
        ((turn < 100)) || die "a daemon is never met while it takes over: $(tail -n 5 "$CLEAVE_TEST_LOG")"
        from=$(($(wc -l <"$CLEAVE_TEST_LOG") + 1))
        spawn_daemon
        nap "$life"
        ! gone "$daemon" || die "cleaved ended: $(tail -n 3 "$CLEAVE_TEST_LOG")"
        kill_daemon
        said=$(tail -n +"$from" "$CLEAVE_TEST_LOG")
        case $said in
        *'taken over'*) life=$((life * 7 / 8)) ;;
        *'group loaded'*) kills=$((kills + 1)) life=$((life * (15 + RANDOM % 3) / 16)) ;;
        # Two seconds are enough for any.
        *) life=$((life < 2000000 ? life * 9 / 8 : life)) ;;
        esac
    done
    spawn_daemon
}

number=0
for ((round = 0; round < rounds; round++)); do
    type=ext4 size=96m plexes=$((2 + round % 2))
    if ((round % 2)); then type=xfs size=320m; fi
    need_module $type
    step 120 cleave -q make v $size -n $plexes --sparse
    node=$(device_of v)
    step 60 mkfs.$type -q "$node"
    step 60 mount "$node" mnt
    start_load mnt
    moves_on "$node"
    sleep "1.$((RANDOM % 10))"
    pause_of killed_three_times
    daemon_answers 60
    assert_eq "$node" "$(device_of v)" "the node after round $round"
    echo "recovery $type $kills $pause"
    number=$((number + kills))
    end_load
    idle() { cleave --json task list | jq -e '[.tasks[] | select(.state == "running")] | length == 0'; }
    wait_for 120 idle
    assert_equal_plexes v $plexes
    step 60 umount mnt
    case $type in
    ext4) step 60 e2fsck -fn "$node" ;;
    xfs) step 60 xfs_repair -n "$node" ;;
    esac >checked 2>&1 || die "$type is not clean: $(<checked)"
    calm_log
    step 60 cleave -q rm -f v
done
echo "$number daemons were killed while they took over"
