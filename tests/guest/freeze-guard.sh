#!/usr/bin/env bash
# The guard of a frozen file system thaws it whatever becomes of the process that asked for the freeze.
# smoke
. "$(dirname "$0")/lib.sh"

# ask LIMIT_MS: a stand-in for the daemon asks for a freeze and then only lives; sets `daemon` and `guard`.
ask() {
    rm -f heard said code
    mkfifo heard
    sh -c 'exec 3>heard; echo freeze >&3; exec sleep 1000 <&- >/dev/null' &
    daemon=$!
    at_exit sh -c "kill -9 $daemon || true"
    (status=0; cleaved freeze-guard "$PWD/mnt" "$1" <heard >said || status=$?; echo $status >code) &
    wait_for 20 grep -q '^frozen$' said
    guard=$(pgrep -x cleaved)
    rm -f written
    (echo more >>mnt/file; touch written) &
    sleep 0.5
    [[ ! -e written ]] || die "a write passed the freeze"
}

# thawed WORD CODE: the write goes through, and the guard says so and ends.
thawed() {
    wait_for 20 test -e written
    wait_for 20 test -e code
    assert_eq "$2" "$(<code)" "the guard's exit code"
    grep -qE "^$1 [0-9]+$" said || die "the guard said '$(<said)'"
    local ns
    ns=$(sed -n "s/^$1 //p" said)
    ((ns >= 500000000 && ns < 30000000000)) || die "frozen for $ns ns"
    kill -9 $daemon 2>/dev/null || true
    step 20 sync -f mnt
}

for type in ext4 xfs; do
    loop_device "image-$type" 400M
    need_module $type
    case $type in
    ext4) step 60 mkfs.ext4 -q -F "$device" ;;
    xfs) step 60 mkfs.xfs -q -f "$device" ;;
    esac
    mounted "$device" "mnt-$type"
    # When a case failed in the middle, the unmount must not hang.
    at_exit sh -c "fsfreeze --unfreeze $PWD/mnt-$type || true"
    ln -sfn "mnt-$type" mnt

    ask 600000
    kill -9 $daemon
    thawed thawed 0

    # Neither a signal nor the terminal ends a guard that holds something frozen.
    ask 600000
    kill -TERM "$guard"
    kill -INT "$guard"
    kill -HUP "$guard"
    sleep 0.5
    [[ ! -e written ]] || die "a signal thawed the file system"
    kill -9 $daemon
    thawed thawed 0

    # A daemon that hangs. The limit leaves an emulated machine the time to see that a write is held.
    ask 8000
    kill -STOP $daemon
    thawed expired 69

    # What somebody else has frozen is left as it is.
    fsfreeze --freeze "mnt-$type"
    code=0
    echo freeze | cleaved freeze-guard "$PWD/mnt" 1000 >said || code=$?
    assert_eq 5 $code "the exit code of a guard that finds a frozen file system"
    assert_eq "ready error: freeze 16" "$(xargs <said)" "what the guard said"
    step 20 fsfreeze --unfreeze "mnt-$type"

    # And what somebody else has thawed is told.
    ask 600000
    fsfreeze --unfreeze "mnt-$type"
    kill -9 $daemon
    wait_for 20 test -e written
    wait_for 20 test -e code
    assert_eq "error: thaw 22" "$(tail -n 1 said)" "what the guard said"
done
