# shellcheck shell=bash
# What tests source after cleave.sh that kill the daemon below a mounted file system: fio, which writes files and verifies
# them without an end, and a look at whether its writes move on.

# start_load DIR: passes of fio on files in DIR, each of which writes every block of its files once in random order and
# reads all of them back. Sets `writer`, the process that runs them.
start_load() {
    rm -f stop passed
    cat >job <<JOB
[global]
directory=$1
ioengine=libaio
direct=1
rw=randwrite
verify=crc32c
verify_fatal=1
verify_backlog=64
[blocks]
size=24m
bssplit=4k/60:16k/30:64k/10
iodepth=16
[synced]
size=4m
bs=4k
fsync=8
iodepth=4
JOB
    load_passes &
    writer=$!
    kill_at_exit $writer
}
load_passes() {
    until [[ -e stop ]]; do
        fio --output=fio.out job || return
        echo pass >>passed
    done
}

# load_lives: fio has met no error yet.
load_lives() {
    gone "$writer" || return 0
    die "an application error, fio has ended: $(<fio.out)"
}

# end_load: the passes end, without an error; prints how many there were.
end_load() {
    touch stop
    wait_child "$writer" 300 "fio"
    echo "fio passes without an error: $(wc -l <passed)"
}

# completed NODE: sets `done_writes` to the writes that the device has completed so far, `done_requests` to reads and writes,
# and `waiting` to the requests that are under way, held ones among them, which its file `inflight` does not count.
completed() {
    local -a stat
    read -ra stat <"/sys/block/${1##*/}/stat"
    done_writes=${stat[4]} done_requests=$((stat[0] + stat[4])) waiting=${stat[8]}
}

# nap MICROSECONDS: sleeps, without a process, which would take ten milliseconds in a guest that is emulated.
nap() {
    local seconds
    printf -v seconds %d.%06d $(($1 / 1000000)) $(($1 % 1000000))
    read -rt "$seconds" -u "$never" || true
}
exec {never}<> <(:)

# moves_on NODE: waits until a write completes.
moves_on() {
    local before end=$((SECONDS + 60))
    completed "$1"
    before=$done_writes
    while completed "$1" && ((done_writes == before)); do still_due; done
}
# still_due: one turn of waiting for what must come before second `end`.
still_due() {
    load_lives
    ((SECONDS < end)) || die "nothing completes any more: $(tail -n 5 "$CLEAVE_TEST_LOG")"
    nap 10000
}

# pause_of COMMAND...: runs it, which ends and replaces the daemon below `node`, at a moment when requests are under way. Sets
# `pause` to how long the load waited, in milliseconds: until the first request completes after it, from its beginning, or
# from when one waits again if those were done before the end.
pause_of() {
    local began before end=$((SECONDS + 60))
    while completed "$node" && ((waiting == 0)); do still_due; done
    began=$(now_ms)
    "$@"
    end=$((SECONDS + 60))
    completed "$node"
    before=$done_requests
    while ((done_requests == before)); do
        ((waiting)) || began=$(now_ms)
        still_due
        completed "$node"
    done
    pause=$(($(now_ms) - began))
}
