#!/usr/bin/env bash
# Volumes become longer under mounted file systems that fio writes to, and shorter while they are stopped: ext4 and XFS follow,
# plexes stay equal, what cannot be is refused in one line, and a daemon that is killed at any moment leaves the old length
# or the new one. Where the kernel cannot change the length of a device in use, that is said, and the way by a stop works.
# smoke
# timeout: 900
. "$(dirname "$0")/cleave.sh"
. "$(dirname "$0")/load.sh"

need_module ext4 xfs
start_daemon
mkdir mnt
unmount_at_exit mnt
at_exit revive_daemon

length_of() { cleave --json show "$1" | jq '.volumes[0].length_bytes'; }
node_bytes() { blockdev --getsize64 "$1"; }
state_of() { cleave --json show "$1" | jq -r '.volumes[0].state'; }
is_active() { [[ $(state_of "$1") == ACTIVE ]]; }
refused() { # CODE ID PATTERN COMMAND...
    local want=$1 id=$2 pattern=$3 said code=0
    shift 3
    said=$(timeout -k 2 60 "$@" 2>&1) || code=$?
    assert_eq "$want" "$code" "the exit code of '$*', which said '$said',"
    grep -qE -- "$pattern" <<<"$said" || die "'$*' said '$said', not what matches '$pattern'"
    assert_eq 1 "$(wc -l <<<"$said")" "the number of lines of '$said'"
    expect_refusal "$id" "$want" "$@"
}
# checked TYPE NODE: the unmounted file system is clean.
checked() {
    local status=0
    case $1 in
    ext4) timeout -k 2 60 e2fsck -fn "$2" ;;
    xfs) timeout -k 2 60 xfs_repair -n "$2" ;;
    esac >checked 2>&1 || status=$?
    ((status == 0)) || die "$1 on $2 is not clean, $status: $(<checked)"
}
# told_command FILE COMMAND: what the answer in FILE says makes the file system larger is this, and does it.
told_command() {
    assert_eq "$2" "$(sed -n 's/.* larger: //p' "$1")" "what is to be typed after '$(<"$1")'"
    timeout 120 bash -c "$2" >typed 2>&1 || die "$2: $(<typed)"
}
# used_disk NAME MIB: a disk that somebody used before: what a volume gets of it is not zero. Sets `device`.
used_disk() {
    head -c "$2M" /dev/zero | tr '\0' '\245' >"$1.content"
    loop_device "$1" "$2M" --direct-io=on
    step 60 dd if="$1.content" of="$device" bs=1M oflag=direct status=none
    rm "$1.content"
}
# zero_from NODE FROM TO: reads as zero there.
zero_from() {
    step 60 cmp -n $(($3 - $2)) --ignore-initial="$2:0" "$1" /dev/zero >&2 || die "$1 does not read as zero from $2 to $3"
}

online=
release=$(uname -r)
step 60 cleave -q make probe 1m
if timeout 60 cleave -q resize probe +1m 2>said; then online=yes; else grep -q 'cannot change the length of a device in use' said || die "$(<said)"; fi
[[ $online || $release == 6.1[0-5].* || $release == 6.[0-9].* ]] || die "Linux $release changes no length: $(<said)"
echo "Linux $release: online ${online:-no}"
step 60 cleave -q rm -f probe

# One plex on a disk that somebody used before, one in a file.
part_ext4() {
    used_disk disk 180
    step 120 cleave -q make v 64m -n 2 --plex "$device" -f
    step 120 cleave -q task watch
    node=$(device_of v)
    step 60 mkfs.ext4 -q "$node"
    if [[ $online ]]; then
        step 60 mount "$node" mnt
        start_load mnt
        moves_on "$node"
        now=64 add=$(long_or 32 96)
        while ((now < 160)); do
            step 120 cleave resize v +"$add"m >said 2>progress
            grep -q "$((now + add)) MiB, $now MiB before" said || die "$(<said)"
            assert_eq $(((now + add) << 20)) "$(node_bytes "$node")" "the length of $node"
            assert_eq $(((now + add) << 20)) "$(length_of v)" "the length of v"
            moves_on "$node"
            assert_equal_plexes v 2
            zero_from "$node" $((now << 20)) $(((now + add) << 20))
            now=$((now + add))
        done
        told_command said "resize2fs /dev/cleave/default/v"
        [[ $(df --output=size -m mnt | tail -n 1) -gt 130 ]] || die "the file system: $(df -m mnt)"
        # What it got is used.
        dd if=/dev/urandom of=mnt/new bs=1M count=60 oflag=direct status=none
        end_load
        rm mnt/new
        refused 25 resize.started 'shorter only while it is stopped' cleave resize v 64m
        refused 1 resize.direction 'are not more' vxassist growto v 64m
        step 60 umount mnt
        checked ext4 "$node"
    else
        refused 5 resize.kernel 'cannot change the length.*cleave stop v; cleave resize v' cleave resize v +32m
        refused 5 resize.kernel 'cannot change the length' vxassist growby v 32m
        assert_eq $((64 << 20)) "$(length_of v)" "the length of v"
        step 60 cleave -q stop v
        step 60 cleave resize v 160m >said
        step 60 cleave -q start v
        node=$(device_of v)
        zero_from "$node" $((64 << 20)) $((160 << 20))
        step 60 cleave -q stop v
        told_command said "cleave start v && e2fsck -fp /dev/cleave/default/v && resize2fs /dev/cleave/default/v"
        node=$(device_of v)
        assert_eq $((160 << 20)) "$(node_bytes "$node")" "the length of $node"
    fi
    assert_equal_plexes v 2

    # The disk has no room for more, by bytes; nor has what holds the file. Nothing is different after it.
    for state in started stopped; do
        if [[ $state == stopped || $online ]]; then
            refused 64 plex.too-small 'too small by .*[0-9]+ bytes. for a plex of volume v' cleave resize v 1g
            assert_eq $((160 << 20)) "$(length_of v)" "the length of v"
        fi
        if [[ $state == started ]]; then step 60 cleave -q stop v; fi
    done
    step 60 cleave -q make w 4m
    [[ $online ]] || step 60 cleave -q stop w
    refused 64 medium.no-space 'no room for' cleave resize w 30t
    assert_eq $((4 << 20)) "$(length_of w)" "the length of w"
    step 60 cleave -q rm -f w

    # Shorter: not shorter than its file system, which says how far it reaches.
    refused 20 resize.content 'file system .ext2, ext3 or ext4. has .*[0-9]+ bytes.: .*would be cut off.*resize2fs' cleave resize v -- -80m
    refused 20 resize.content 'would be cut off' vxassist -f shrinkby v 80m
    step 60 cleave -q start v
    node=$(device_of v)
    timeout 60 e2fsck -fp "$node" >said 2>&1 || (($? < 2)) || die "e2fsck: $(<said)"
    timeout 120 resize2fs "$node" 100m >said 2>&1 || die "resize2fs: $(<said)"
    sum=$(head -c 100M "$node" | sha256sum)
    step 60 cleave -q stop v
    step 60 cleave resize v -- -56m >said
    grep -qE '104 MiB, 160 MiB before; 56 MiB .58720256 bytes. at its end are cut off' said || die "$(<said)"
    file=$(cleave --json show v | jq -r '.volumes[0].plexes[] | select(.path | startswith("/dev") | not) | .path')
    assert_eq $((106 << 20)) "$(stat -c %s "$file")" "the length of its file"
    step 60 cleave -q start v
    node=$(device_of v)
    assert_eq $((104 << 20)) "$(node_bytes "$node")" "the length of $node"
    assert_eq "$sum" "$(head -c 100M "$node" | sha256sum)" "what is left of v"
    checked ext4 "$node"
    assert_equal_plexes v 2
    # Longer again: what was cut off does not come back.
    step 60 cleave -q stop v
    step 60 cleave -q resize v 160m
    step 60 cleave -q start v
    node=$(device_of v)
    zero_from "$node" $((104 << 20)) $((160 << 20))
    assert_equal_plexes v 2

    # What is related to a snapshot, and what lacks something, stays as long as it is.
    if [[ $online ]]; then
        step 120 cleave -q snapstart v
        # A mirror in step grows with the others.
        step 120 cleave -q resize v +4m
        assert_equal_plexes v 3
        step 60 cleave -q snapshot v s -o consistency=crash
        assert_eq $((164 << 20)) "$(length_of s)" "the length of s"
        step 60 cmp -n $((164 << 20)) "$(device_of v)" "$(device_of s)" || die "a snapshot after a growth differs"
        refused 20 resize.related 'tracked against it: s;.*snapclear s' cleave resize v +4m
        refused 20 resize.related 'it is a snapshot that keeps to its origin.*snapclear s' cleave resize s +4m
        step 60 cleave -q snapclear s
        step 60 cleave -q resize s +4m
        step 60 cleave -q rm -f s
        plex=$(cleave --json show v | jq -r '.volumes[0].plexes[0].plex')
        step 60 cleave -q plex detach "$plex"
        refused 20 resize.plex "$plex: it is STALE.*cleave recover v" cleave resize v +4m
        step 120 cleave -q recover v
        wait_for 60 is_active v
    fi
    cleave events -n 1000 >said
    grep -q 'volume.resized v: ' said || die "no event tells of it: $(tail -n 20 said)"
    step 60 cleave -q rm -f v
}

# XFS: longer alone.
part_xfs() {
    step 120 cleave -q make x 320m -n 2 --sparse
    node=$(device_of x)
    step 60 mkfs.xfs -q "$node"
    if [[ $online ]]; then
        step 60 mount "$node" mnt
        start_load mnt
        moves_on "$node"
        command=$(timeout 60 vxassist --json growby x 128m | jq -r '"\(.holds): \(.next_command)"')
        assert_eq "XFS: xfs_growfs $PWD/mnt" "$command" "what makes the XFS larger"
        step 60 bash -c "${command#XFS: }" >said
        grep -q 'data blocks changed' said || die "$(<said)"
        end_load
        step 60 umount mnt
    else
        step 60 cleave -q stop x
        step 60 cleave resize x +128m >said
        grep -q 'larger: cleave start x && cleave mount x MOUNTPOINT && xfs_growfs MOUNTPOINT$' said || die "$(<said)"
        step 60 cleave -q start x
        node=$(device_of x)
        step 60 mount "$node" mnt
        step 60 xfs_growfs mnt >/dev/null
        step 60 umount mnt
    fi
    checked xfs "$node"
    assert_equal_plexes x 2
    step 60 cleave -q stop x
    refused 20 resize.content 'XFS has 448 MiB .469762048 bytes.: .*XFS cannot become smaller' cleave resize x 320m

    # The labels alone say how long it is now.
    media=$(cleave --json show x | jq -r '.volumes[0].plexes[].path')
    step 60 cleave -q start x
    sum=$(sha256sum <"$(device_of x)")
    cleave daemon stop --volumes
    wait_for 20 gone "$daemon"
    mv "$CLEAVE_TEST_STATE" "$CLEAVE_TEST_STATE.lost"
    mkdir -p "$CLEAVE_TEST_STATE"
    spawn_daemon
    daemon_answers
    moved=()
    for medium in $media; do
        where=${medium/#$CLEAVE_TEST_STATE/$CLEAVE_TEST_STATE.lost}
        [[ -e $where ]] || where=$medium
        moved+=("$where")
    done
    step 60 cleave -q group import "${moved[@]}"
    assert_eq $((448 << 20)) "$(length_of x)" "the length of the imported x"
    step 60 cleave -q start x
    assert_eq "$sum" "$(sha256sum <"$(device_of x)")" "what the imported x holds"
    wait_for 120 is_active x
    assert_equal_plexes x 2
    step 60 cleave -q rm -f x
    # The medium of the group, which was lost with its state.
    mkdir -p "$CLEAVE_TEST_STATE/default/media"
}

# A daemon that is killed at any moment of it, below a mounted file system where the kernel can, else at rest.
part_kills() {
    kills=$(long_or 40 8) old=0 new=0 length=$((64 << 20))
    used_disk victim $((64 + 4 * kills + 4))
    step 120 cleave -q make k 64m -n 2 --plex "$device" -f
    step 120 cleave -q task watch
    node=$(device_of k)
    step 60 mkfs.ext4 -q "$node"
    if [[ $online ]]; then
        step 60 mount "$node" mnt
        start_load mnt
    else
        step 60 cleave -q stop k
    fi
    for ((kill = 1; kill <= kills; kill++)); do
        want=$((length + (4 << 20)))
        (cleave -q resize k "$((want / 512))s" >/dev/null 2>&1 || true) &
        asker=$!
        nap $((RANDOM % 50 * 10000))
        kill_daemon
        spawn_daemon
        daemon_answers
        wait $asker
        if [[ $online ]]; then
            load_lives
            moves_on "$node"
            wait_for 120 is_active k
        else
            step 60 cleave -q start k
            wait_for 120 is_active k
            node=$(device_of k)
        fi
        now=$(length_of k)
        assert_eq "$now" "$(node_bytes "$node")" "the length of $node after kill $kill"
        case $now in
        "$length") old=$((old + 1)) ;;
        "$want") new=$((new + 1)) ;;
        *) die "after kill $kill k has $now bytes" ;;
        esac
        ((now == length)) || zero_from "$node" "$length" "$now"
        length=$now
        assert_equal_plexes k 2
        [[ $online ]] || step 60 cleave -q stop k
    done
    echo "killed $kills times: $old kept the old length, $new had the new one"
    if [[ $online ]]; then
        timeout 60 resize2fs "$node" >said 2>&1 || die "resize2fs: $(<said)"
        end_load
        step 60 umount mnt
    else
        step 60 cleave -q start k
        node=$(device_of k)
    fi
    checked ext4 "$node"
    step 60 cleave -q rm -f k
}

# CLEAVE_PARTS says which of them.
for part in ${CLEAVE_PARTS:-ext4 xfs kills}; do "part_$part"; done
