#!/usr/bin/env bash
# A volume's device has as many queues as were set, each with a thread on the processors that were set, also once another
# daemon has taken it over; and it serves.
# timeout: 180
. "$(dirname "$0")/cleave.sh"

(($(nproc) > 1)) || die "one processor is too few to tell"
start_daemon
step 60 cleave -q make v 24m -n 2
step 60 cleave -q task watch

# threads: the processors on which each queue thread of the volume may run, in order of the queues.
threads() {
    local number thread
    number=$(device_of v) number=${number##*/ublkb}
    for thread in "/proc/$daemon/task"/*; do
        [[ $(<"$thread/comm") == "ublk${number}q"* ]] || continue
        sed -n "s/^Cpus_allowed_list:[[:space:]]*/$(<"$thread/comm") /p" "$thread/status"
    done | sort | sed "s/^ublk$number//"
}
all=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
# again SETTING...: sets them, and starts the volume once more.
again() {
    step 30 cleave -q set v "$@"
    step 60 cleave -q stop v
    step 60 cleave -q start v
}
serves() {
    step 120 fio --name=queues --filename="$(device_of v)" --rw=randwrite --bs=4k --size=24m --numjobs=2 --iodepth=8 --ioengine=libaio \
        --offset_increment=12m --io_size=12m --size=12m --direct=1 --verify=crc32c --cpus_allowed="$all" --cpus_allowed_policy=split >/dev/null
    assert_equal_plexes v 2
}

assert_eq "q0 $all" "$(threads)" "what a volume has that was never set"
again queues=2
case $(threads) in
$'q0 0\nq1 1' | $'q0 1\nq1 0') ;;
*) die "two queues are not each where its requests come from: $(threads)" ;;
esac
cleave show v | grep -qx 'queues   2: 2 in use' || die "show says: $(cleave show v)"
serves
again affinity=1
assert_eq $'q0 1\nq1 1' "$(threads)" "two queues on the second processor"
kill_daemon
spawn_daemon
daemon_answers
served() { cleave --json show v | jq -e '.volumes[0].device_queues == 2'; }
wait_for 30 served
assert_eq $'q0 1\nq1 1' "$(threads)" "two queues on the second processor, taken over,"
serves
again affinity=any queues=auto
assert_eq "q0 $all" "$(threads)" "what a volume has that was set back"
# More than there are processors is no more than these; processors that are not there are nobody's prison.
again queues=32 affinity=900
assert_eq $'q0 '"$all"$'\nq1 '"$all" "$(threads)" "what is there of what cannot be had"
grep -q 'cannot run on processors 900' "$CLEAVE_TEST_LOG" || die "nobody was told"
serves
