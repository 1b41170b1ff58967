#!/usr/bin/env bash
# Who may ask for what, with real users and groups; what the daemon takes from the kernel for itself, and that it serves
# without; and that nothing that it or cleave makes can be read by anybody else.
# smoke
# timeout: 240
. "$(dirname "$0")/cleave.sh"

# The daemon's own place, since this directory is closed to others.
unset CLEAVE_SOCKET
socket=/run/cleave/control
umask 077

# The daemon sees a group file of ours.
{
    grep -Ev '^(cleave|storage):' /etc/group
    echo cleave:x:970:
    echo storage:x:971:
} >group
# spawn [WORD]...: starts cleaved, under the command WORD..., from a shell that lets everybody read what it makes.
spawn() {
    (
        umask 022
        ulimit -c unlimited
        # shellcheck disable=SC2016
        exec unshare --mount --propagation slave "$BASH" -c 'mount --bind "$1" /etc/group && shift && exec "$@"' - \
            "$PWD/group" "$@" cleaved --state "$PWD/state" --admin-group storage
    ) >>"$CLEAVE_TEST_LOG" 2>&1 </dev/null &
    daemon=$!
    echo $daemon >pid
    daemon_answers
}
end() {
    local process
    process=$(<pid)
    gone "$process" || cleave daemon stop --volumes || kill "$process"
    wait_for 20 gone "$process"
}
export -f end
need_module ublk_drv
at_exit end

# A copy of the program where everybody can run it.
bin=$(mktemp -d /tmp/cleave-bin.XXXXXX)
at_exit rm -rf "$bin"
chmod 755 "$bin"
install -m 755 "$(command -v cleave)" "$bin/cleave"
# as GROUPS ARGUMENT...: cleave as user 1000 of its own group and GROUPS.
as() {
    local groups=(--clear-groups)
    [[ -z $1 ]] || groups=(--groups "$1")
    shift
    timeout -k 2 60 setpriv --reuid 1000 --regid 1000 "${groups[@]}" "$bin/cleave" "$@"
}
# refused ID GROUPS ARGUMENT...: not permitted, by one clear line.
refused() {
    local id=$1 said status=0
    shift
    said=$(as "$@" 2>&1) || status=$?
    assert_eq 67 $status "the exit code of cleave ${*:2} for a user of groups '$1'"
    [[ $said =~ ^cleave:\ .+:\ .+\;\ .+ && $said != *$'\n'* ]] || die "'${*:2}' of groups '$1' said: $said"
    said=$(as "$1" --json "${@:2}" 2>&1) || true
    [[ $said == *"\"id\":\"$id\""* ]] || die "'${*:2}' of groups '$1' has not the id $id: $said"
}

# Without the right to any of it the daemon says so, a line each, and serves.
(
    ulimit -l 65536
    spawn setpriv --bounding-set=-sys_resource,-ipc_lock
)
daemon=$(<pid)
for what in 'I/O flusher' 'memory locked' 'no end for want of memory'; do
    assert_eq 1 "$(grep -c "WARN .*$what: not granted: .*; " "$CLEAVE_TEST_LOG")" "the number of warnings of '$what'"
done
step 30 cleave --quiet make u 16m
step 10 dd if=/dev/urandom of=/dev/vx/rdsk/u bs=1M count=4 oflag=direct status=none
step 30 cleave --quiet rm --force u
end

: >stamp
sleep 0.1
spawn
assert_protected $daemon
assert_eq '750 root 970' "$(stat -c '%a %U %g' /run/cleave)" "the socket's directory"
assert_eq '660 root 970' "$(stat -c '%a %U %g' $socket)" "the socket"

# The table of rights. A member of the admin group alone does not get to the socket.
refused daemon.no-access '' list
refused daemon.no-access 971 list
as 970 list >/dev/null
as 970 daemon status >/dev/null
refused control.may-only-look 970 make v 16m
refused control.may-only-look 970 daemon stop
as 970,971 --quiet make v 16m --nmirror 2
as 970,971 list | grep -qw v || die "an admin's volume is not there"
# By a socket that everybody can open, the daemon itself turns strangers away.
chmod 755 /run/cleave
chmod 666 $socket
refused control.stranger '' list
refused control.stranger 1001,27 make w 16m
as 971 list >/dev/null
chmod 660 $socket
chmod 750 /run/cleave
# Each change stands in the log with who asked for it, and so does each refusal.
grep -qE 'request verb="make" uid=1000 pid=[1-9]' "$CLEAVE_TEST_LOG" || die "the admin's change is not in the log"
grep -qE 'not permitted verb="make" uid=1000 pid=[1-9]' "$CLEAVE_TEST_LOG" || die "the refusal is not in the log"
grep -qE 'stranger.* uid=1000 pid=[1-9]' "$CLEAVE_TEST_LOG" || die "the stranger is not in the log"
if grep -E 'request verb="(query|status)"' "$CLEAVE_TEST_LOG"; then die "a look is logged as a change"; fi

# Everything that makes files, from a shell that lets everybody read what it makes.
(
    umask 022
    step 30 mkfs.ext4 -q /dev/vx/rdsk/v
    step 60 cleave --quiet mirror v
    step 60 cleave --quiet snapstart v
    step 60 cleave --quiet snapshot v snap
    step 60 cleave --quiet archive snap snap.zst
    step 60 cleave --quiet unarchive snap.zst snap.img
    step 60 cleave --quiet group create g
    step 60 cleave --quiet make -g g w 8m
    step 30 cleave --quiet stop v
    step 30 cleave --quiet start v
)
# open_files: what was made or changed since the start and lets anybody but its owner at it. On a host of its own, all of it.
open_files() {
    local -a where=("$PWD" /run/cleave /run/ublksrvd /dev/cleave /dev/vx /dev/ublk*)
    [[ ! -d /cleave/tests ]] || where=(/)
    find "${where[@]}" \( -path /proc -o -path /sys -o -path "$bin" -o -path /dev/pts \) -prune -o \
        ! -type l -cnewer stamp -perm /077 -printf '%m %g %p\n' | grep -vE " (/|/dev|/run|/tmp|/etc|$PWD)\$" | sort -k 3
}
# Names of volumes are no secret, and who may use a node is a matter of its own mode.
expected=$({
    printf '755 root %s\n' /dev/cleave{,/default,/g} /dev/vx/{dsk,rdsk}{,/default,/g}
    printf '%s\n' '750 970 /run/cleave' '660 970 /run/cleave/control'
} | sort -k 3)
found=$(open_files)
[[ $found == "$expected" ]] || die "modes: $(diff <(echo "$expected") <(echo "$found"))"
# It sees what it looks for.
victim=$(find state -type f | head -n 1)
chmod 604 "$victim"
open_files | grep -qF "604 root $PWD/$victim" || die "a file for everybody is not found"
chmod 600 "$victim"
echo "files and directories looked at: $(find state /run/cleave snap.zst snap.img | wc -l)"
calm_log
