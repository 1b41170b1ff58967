#!/usr/bin/env bash
# ext4, XFS and btrfs on volumes of one, two and three plexes: they come through a mount, a stop and a restart of the
# daemon clean and with the same bytes, and each plex file is a plain image of them.
# smoke
# timeout: 1200
. "$(dirname "$0")/cleave.sh"

need_state_disk 3G
start_daemon

# A tree with files of many sizes, holes, links and an empty directory.
mkdir -p tree/some/deep/path tree/empty
for ((i = 0; i < $(long_or 2000 24); i++)); do
    head -c $((i * 97 % 9000)) /dev/urandom >"tree/some/deep/path/file $i"
done
head -c 1500001 /dev/urandom >tree/large
truncate -s 3M tree/hole
printf end >>tree/hole
ln -s large tree/link
ln tree/large tree/some/twin
(cd tree && find . -type f -print0 | sort -z | xargs -0 sha256sum) >sums

# holds_tree DIR: DIR/tree holds what was copied there.
holds_tree() {
    (cd "$1/tree" && step 60 sha256sum --quiet -c -) <sums
    assert_eq large "$(readlink "$1/tree/link")" "the link in $1"
    [[ -d $1/tree/empty ]] || die "the empty directory is missing in $1"
    assert_eq "$(stat -c %i "$1/tree/large")" "$(stat -c %i "$1/tree/some/twin")" "the inode of the second name in $1"
}

# check_clean TYPE DEVICE: the file system's own checker finds nothing to mend.
check_clean() {
    case $1 in
    ext4) step 60 e2fsck -fn "$2" ;;
    xfs) step 60 xfs_repair -n "$2" ;;
    btrfs) step 60 btrfs check --readonly "$2" ;;
    esac >checked 2>&1 || die "$1 on $2 is not clean: $(<checked)"
}

# holds_files TYPE VOLUME: mounted once more, and checked, the volume holds the tree.
holds_files() {
    check_clean "$1" "/dev/vx/rdsk/$2"
    step 60 mount -o ro "/dev/vx/dsk/$2" mnt
    holds_tree mnt
    step 30 umount mnt
}

# round TYPE PLEXES
round() {
    local type=$1 plexes=$2 volume=$1-$2 size=64m path count=0
    need_module "$type"
    case $type in
    xfs) size=320m ;;
    btrfs) size=144m ;;
    esac
    step 120 cleave --quiet make "$volume" $size --nmirror "$plexes"
    step 60 "mkfs.$type" -q "/dev/vx/rdsk/$volume"
    step 60 mount "/dev/vx/dsk/$volume" mnt
    step 120 cp -a tree mnt/
    step 60 umount mnt
    holds_files "$type" "$volume"
    assert_equal_plexes "$volume" "$plexes"

    step 60 cleave --quiet stop "$volume"
    step 60 cleave --quiet start "$volume"
    holds_files "$type" "$volume"

    step 60 cleave --quiet stop "$volume"
    # Each plex by itself, without Cleave.
    while read -r path; do
        step 60 mount -o loop,ro "$path" mnt
        holds_tree mnt
        step 30 umount mnt
        count=$((count + 1))
    done < <(cleave --json show "$volume" | jq -r '.. | objects | select(has("sparse")) | .path')
    assert_eq "$plexes" $count "the number of plex files"
    echo "$type on $plexes: clean, equal, plain"
}

mkdir mnt
unmount_at_exit mnt
if [[ ${CLEAVE_LONG:-} ]]; then
    for type in ext4 xfs btrfs; do
        for plexes in 1 2 3; do
            round $type $plexes
            rounds+=("$type $type-$plexes")
            # Room for the next one.
            [[ $type == ext4 ]] || { step 60 cleave --quiet rm "$type-$plexes"; unset 'rounds[-1]'; }
        done
    done
else
    for pair in 'ext4 3' 'xfs 1' 'btrfs 2'; do
        # shellcheck disable=SC2086
        round $pair
        rounds+=("${pair% *} ${pair/ /-}")
    done
fi

# All of them through an end of the daemon in good order.
step 60 cleave daemon stop --volumes
wait_for 30 gone "$daemon"
spawn_daemon
daemon_answers
step 120 cleave --quiet start --all
for pair in "${rounds[@]}"; do
    # shellcheck disable=SC2086
    holds_files $pair
done
calm_log
