# shellcheck shell=bash
# What every test in this folder sources: how it fails, waits, and cleans up behind itself.
#
# A test is an executable file NAME.sh that exits 0 when it passes. It runs as root in a scratch directory of its own,
# on a real kernel with ublk, and must leave nothing behind: no device, mount or process. Lines in its head say more:
#   # timeout: SECONDS   when it is given up as hanging (300)
#   # smoke              runs on the older kernel as well
#   # systemd            runs in a guest under systemd, and only there
#   # long               runs only in the long form, where CLEAVE_LONG=1 is set

set -euo pipefail

die() {
    echo "${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]}: $*" >&2
    exit 1
}
trap 'status=$?; echo "${BASH_SOURCE[0]##*/}:$LINENO: status $status from: $BASH_COMMAND" >&2' ERR
set -E

# What `cleanup` undoes, last first.
undo=()

# at_exit COMMAND...: runs COMMAND when the test ends, however it ends.
at_exit() {
    local line
    printf -v line '%q ' "$@"
    undo=("$line" "${undo[@]}")
}

cleanup() {
    local status=$? line
    trap - ERR
    set +eE
    for line in "${undo[@]}"; do
        timeout -k 1 20 bash -c "$line" >/dev/null 2>&1 || {
            echo "cleanup failed: $line" >&2
            ((status)) || status=1
        }
    done
    exit "$status"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

# step SECONDS COMMAND...: COMMAND, which must succeed within SECONDS.
step() {
    local limit=$1 status=0
    shift
    timeout -k 2 "$limit" "$@" || status=$?
    case $status in
    0) ;;
    124 | 137) die "no end within $limit s: $*" ;;
    *) die "status $status from: $*" ;;
    esac
}

# expect_fail PATTERN COMMAND...: COMMAND must fail within 30 s and say something that matches PATTERN (extended).
expect_fail() {
    local pattern=$1 said status=0
    shift
    said=$(timeout -k 2 30 "$@" 2>&1) || status=$?
    ((status != 0)) || die "succeeded but should have failed: $*"
    ((status != 124 && status != 137)) || die "hung but should have failed: $*"
    grep -qE -- "$pattern" <<<"$said" || die "'$*' failed with '$said', not with what matches '$pattern'"
}

# expect_refusal ID CODE COMMAND...: COMMAND, which knows --json, is refused within 60 s with this id and exit code, in one
# document on one line, and prints nothing else.
expect_refusal() {
    local id=$1 code=$2 command=$3 json status=0
    shift 3
    json=$(timeout -k 2 60 "$command" --json "$@" 2>&1) || status=$?
    [[ $status == "$code" ]] || die "'$command --json ${*@Q}' ended with $status, not $code: $json"
    [[ $json == "{\"error\":{\"exit_code\":$code,\"id\":\"$id\","*'}}' && $json != *$'\n'* ]] ||
        die "'$command --json ${*@Q}' said '$json', not exit code $code and id $id"
}

# uptime_ms: milliseconds since the boot, whatever the date is set to.
uptime_ms() {
    local up rest
    read -r up rest </proc/uptime
    # Two places behind the point; the first digits may be zeros.
    echo "$((10#${up/./} * 10))"
}

# wait_for SECONDS COMMAND...: until COMMAND succeeds; its output is dropped.
wait_for() {
    local limit=$1 end
    shift
    end=$(($(uptime_ms) + limit * 1000))
    until "$@" >/dev/null 2>&1; do
        (($(uptime_ms) < end)) || die "not within $limit s: $*"
        sleep 0.05
    done
}

# assert_eq WANT GOT WHAT
assert_eq() {
    [[ $1 == "$2" ]] || die "$3 is '$2', not '$1'"
}

# assert_same FILE FILE [WHAT]: both hold the same bytes.
assert_same() {
    cmp -- "$1" "$2" >&2 || die "${3:-$1 and $2} differ"
}

# gone PROCESS: it has ended, or is only waiting to be reaped.
gone() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
    [[ ${stat##*) } == Z* ]]
}

# kill_tree PROCESS: kills it and its descendants, unless it has ended.
kill_tree() {
    local child children
    kill -STOP "$1" 2>/dev/null || return 0
    children=$(pgrep -P "$1")
    kill -9 "$1"
    for child in $children; do kill_tree "$child"; done
}

# kill_at_exit PROCESS: with its descendants, which would keep a mount busy.
kill_at_exit() { at_exit kill_tree "$1"; }

# unmount_at_exit DIR: unless it is not mounted by then. What was killed may let go of it only after a while.
unmount_at_exit() { at_exit eval "! mountpoint -q $(printf %q "$1") || wait_for 15 umount $(printf %q "$1")"; }
export -f kill_tree wait_for uptime_ms die

# need_module NAME...: loads kernel modules that are not there yet; they stay loaded.
need_module() {
    local name
    for name in "$@"; do
        [[ -d /sys/module/${name//-/_} ]] || modprobe "$name" || die "the kernel has no module $name"
    done
}

# loop_device FILE SIZE [OPTION]...: makes FILE and sets `device` to a loop device on it, which goes when the test ends.
loop_device() {
    local file=$1 size=$2
    shift 2
    need_module loop
    truncate -s "$size" "$file"
    device=$(losetup --find --show "$@" "$file")
    at_exit losetup -d "$device"
}

# mounted DEVICE DIR [OPTION]...: mounts until the test ends, or has unmounted it itself.
mounted() {
    local from=$1 dir=$2
    shift 2
    mkdir -p "$dir"
    step 30 mount "$@" "$from" "$dir"
    unmount_at_exit "$dir"
}
