# shellcheck shell=bash
# What tests of the whole system source instead of lib.sh: a daemon of their own, on a state directory of their own.
#
# Every word of `cleave` goes to that daemon by CLEAVE_SOCKET. When the test ends, however it ends, its volumes are stopped
# and the daemon with them; one that a test has killed is started once more for that.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export CLEAVE_SOCKET=$PWD/control CLEAVE_TEST_STATE=$PWD/state CLEAVE_TEST_LOG=$PWD/cleaved.log

# long_or LONG SHORT: which of the two counts this run takes.
long_or() { if [[ ${CLEAVE_LONG:-} ]]; then echo "$1"; else echo "$2"; fi; }

# now_ms: milliseconds since 1970, without a process of its own.
now_ms() { local now=${EPOCHREALTIME/[.,]/}; echo $((now / 1000)); }

# need_state_disk [SIZE]: the state directory, and with it the plexes, on ext4 on a loop device rather than in memory.
need_state_disk() {
    local device
    loop_device state-disk "${1:-1G}" --direct-io=on
    step 60 mkfs.ext4 -q -F "$device"
    mounted "$device" "$CLEAVE_TEST_STATE"
}

# spawn_daemon: starts cleaved, with CLEAVE_TEST_WORDS among its arguments, and does not wait for it; sets `daemon` to its process id.
spawn_daemon() {
    # shellcheck disable=SC2086 # its words are split
    cleaved --state "$CLEAVE_TEST_STATE" ${CLEAVE_TEST_WORDS:-} >>"$CLEAVE_TEST_LOG" 2>&1 </dev/null &
    daemon=$!
    echo "$daemon" >"$CLEAVE_SOCKET.pid"
}

# daemon_answers [SECONDS]: waits until it does.
daemon_answers() {
    local end=$(($(uptime_ms) + ${1:-30} * 1000))
    until cleave daemon status >/dev/null 2>&1; do
        if gone "$daemon"; then
            tail -n 20 "$CLEAVE_TEST_LOG" >&2
            die "cleaved ended"
        fi
        (($(uptime_ms) < end)) || die "cleaved does not answer: $(tail -n 3 "$CLEAVE_TEST_LOG")"
        sleep 0.05
    done
}

# start_daemon: starts cleaved, waits until it answers, and has it end with the test.
start_daemon() {
    need_module ublk_drv
    at_exit end_daemon
    spawn_daemon
    daemon_answers
}

# kill_daemon: SIGKILL, and waits until the process is gone.
kill_daemon() {
    kill -9 "$daemon"
    { wait "$daemon" || true; } 2>/dev/null
}

# revive_daemon: starts cleaved if it does not run, so that what hangs on its devices can go on. For `at_exit`.
revive_daemon() {
    local process
    process=$(<"$CLEAVE_SOCKET.pid")
    if ! gone "$process"; then return; fi
    spawn_daemon
    daemon_answers 15
}

# end_daemon: ends cleaved with its volumes. For `at_exit`.
end_daemon() {
    local process
    revive_daemon
    process=$(<"$CLEAVE_SOCKET.pid")
    cleave daemon stop --volumes || kill "$process"
    wait_for 15 gone "$process"
}
export -f revive_daemon end_daemon spawn_daemon daemon_answers gone

# device_of VOLUME: its device node.
device_of() { readlink -f "/dev/vx/dsk/$1"; }

# mount_volume VOLUME DIR [OPTION]...: mounts until the test ends, even if its daemon is dead by then.
mount_volume() {
    local volume=$1 dir=$2
    shift 2
    mounted "/dev/vx/dsk/$volume" "$dir" "$@"
    at_exit revive_daemon
}

# wait_child PROCESS SECONDS WHAT: a child that must end well within that time.
wait_child() {
    local end=$(($(uptime_ms) + $2 * 1000)) status=0
    while ! gone "$1"; do
        (($(uptime_ms) < end)) || die "$3 has not ended within $2 s"
        sleep 0.1
    done
    wait "$1" || status=$?
    ((status == 0)) || die "$3 ended with status $status"
}

# assert_equal_plexes VOLUME [COUNT]: `cleave verify` finds no difference, among COUNT plexes.
assert_equal_plexes() {
    local said
    said=$(timeout -k 2 300 cleave --json verify "$1") || die "verify of $1: $said"
    assert_eq 0 "$(jq .differing_bytes <<<"$said")" "what differs between the plexes of $1"
    [[ -z ${2:-} ]] || assert_eq "$2" "$(jq .plexes <<<"$said")" "the number of plexes compared"
}

# calm_log: the daemon lost no plex and reported no error.
calm_log() {
    if grep -E ' ERROR |panicked' "$CLEAVE_TEST_LOG" >&2; then die "cleaved reported errors"; fi
}

# assert_protected PROCESS: a cleaved that has been granted all that it asks of the kernel for itself.
assert_protected() {
    local process=$1 thread words
    status_of() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$process/status"; }
    assert_eq 0077 "$(status_of Umask)" "the umask of cleaved"
    assert_eq -1000 "$(<"/proc/$process/oom_score_adj")" "the OOM score of cleaved"
    assert_eq 65536 "$(awk '/^Max open files/ {print $4}' "/proc/$process/limits")" "the limit of open files"
    assert_eq '0 0' "$(awk '/^Max core file size/ {print $5, $6}' "/proc/$process/limits")" "the limit of core dumps"
    words=$(status_of VmLck)
    ((${words%% *} > 1024)) || die "cleaved has locked only $words"
    # Its code is locked whole, so that none of it is ever read back.
    grep -A 30 ' r-xp .*/cleaved$' "/proc/$process/smaps" | grep -m 1 '^VmFlags:' | grep -qw lo || die "its code is not locked"
    for thread in "/proc/$process"/task/*; do
        # Field 9 of stat(5): flags; 0x80000 is PF_MEMALLOC_NOIO.
        words=$(sed 's/.*) //' "$thread/stat" 2>/dev/null) || continue
        (($(cut -d ' ' -f 7 <<<"$words") & 0x80000)) || die "thread $(<"$thread/comm") is no I/O flusher"
    done
}
