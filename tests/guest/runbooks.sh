#!/usr/bin/env bash
# Runbooks of VxVM, character for character: each file of runbooks/ is a session at a prompt, whose commands are typed again and
# whose answers must be those that stand there.
#
#   ## words             for people
#   # COMMAND            typed; behind it what it prints, standard error as well, and [N] for an exit status that is not 0
#
# In a session NAME stands for what differs from run to run: <n> for a number, <uuid>, <time>. With CLEAVE_RECORD=1 the sessions
# are printed as they went instead of compared.
# timeout: 600
. "$(dirname "$0")/cleave.sh"

sessions=$(realpath "$(dirname "$0")/runbooks")
need_state_disk 2G
start_daemon
# The disks that sessions name, and a small one.
for disk in sdb sdc; do
    loop_device "disk-$disk" 120M --direct-io=on
    ln -s "$device" "/dev/$disk"
    at_exit rm -f "/dev/$disk"
done
loop_device disk-small 20M
ln -s "$device" /dev/sdd
at_exit rm -f /dev/sdd
unmount_at_exit /mnt

# steady: what a command printed, without what differs from run to run.
steady() {
    sed -E \
        -e 's/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/<uuid>/g' \
        -e 's/-[0-9a-f]{8}\.img/-<id>.img/g' \
        -e 's/-[0-9]{4}(-[0-9]{2}){2}-[0-9]{2}(:[0-9]{2}){2}\.[0-9a-f]{8}/-<archive>/g' \
        -e 's,/dev/loop[0-9]+,/dev/loop<n>,g; s,/dev/ublkb[0-9]+,/dev/ublkb<n>,g' \
        -e 's/ *$//' \
        -e "s,$CLEAVE_TEST_STATE,<state>,g" \
        -e 's/[0-9.]+ (s|ms|us),? [0-9.]+ .B\/s/<n> s, <n> MB\/s/' \
        -e 's/held (for )?[0-9.]+ ms/held \1<n> ms/; s/[0-9.]+ ms/<n> ms/g'
}

# play FILE: its session as it goes now.
play() {
    local line status said
    while IFS= read -r line; do
        case $line in
        '## '*) printf '%s\n' "$line" ;;
        '# '*)
            printf '%s\n' "$line"
            status=0
            said=$(timeout -k 2 120 bash -c "${line#\# }" 2>&1 </dev/null) || status=$?
            [[ -z $said ]] || steady <<<"$said"
            ((status == 0)) || echo "[$status]"
            ;;
        esac
    done <"$1"
}

otherwise=
for file in "$sessions"/*; do
    name=${file##*/}
    play "$file" >"$name.now"
    if [[ ${CLEAVE_RECORD:-} ]]; then
        printf '==== %s\n' "$name"
        cat "$name.now"
    elif ! diff -u "$file" "$name.now" >&2; then
        otherwise+=" $name"
    fi
done
[[ -z $otherwise ]] || die "sessions went otherwise:$otherwise"
[[ ${CLEAVE_RECORD:-} ]] || calm_log
