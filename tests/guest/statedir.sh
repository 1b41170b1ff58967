#!/usr/bin/env bash
# The state directory is full, cannot be written any more, is lost: changing commands are refused in one line and change
# nothing, running volumes go on, and a lost group is taken in again from the labels of its media.
# timeout: 600
. "$(dirname "$0")/cleave.sh"

need_state_disk 48M
mkdir media
start_daemon
step 30 cleave group create g "$PWD/media"
step 60 cleave -g g make v 32m -n 2
node=$(device_of g/v)
step 60 dd if=/dev/urandom of="$node" bs=1M count=4 oflag=direct status=none

# refused PATTERN WORDS...: the command is refused in one line, and the group is as it was.
refused() {
    local pattern=$1 before after
    shift
    before=$(cleave -g g --json list | jq -c .)
    expect_fail "$pattern" cleave -g g "$@"
    after=$(cleave -g g --json list | jq -c .)
    assert_eq "$before" "$after" "the group after a refused: cleave $*"
}

echo "== full"
dd if=/dev/zero of="$CLEAVE_TEST_STATE/filler" bs=64k status=none 2>/dev/null || true
dd if=/dev/zero of="$CLEAVE_TEST_STATE/filler2" bs=512 status=none 2>/dev/null || true
full='No space left on device; see to the disk below the state directory'
refused "$full" make w 8m
refused "$full" mirror v
refused "$full" snapstart v
refused "$full" stop v
refused "$full" remove-mirror v
refused "$full" rm -f v
assert_eq "$node" "$(device_of g/v)" "the node of a running volume"
step 60 dd if=/dev/urandom of="$node" bs=1M count=4 seek=12 oflag=direct conv=fsync status=none
assert_eq 2 "$(find media -name '*.img' | wc -l)" "plex files"
rm "$CLEAVE_TEST_STATE"/filler*
[[ $(step 120 cleave -g g verify v) == *'2 plexes equal'* ]] || die "plexes differ"
step 60 cleave -g g snapstart v
step 60 cleave -g g stop v
step 60 cleave -g g start v

echo "== read-only when the daemon starts"
kill_daemon
mount -o remount,ro "$CLEAVE_TEST_STATE"
spawn_daemon
daemon_answers
said=$(cleave status 2>&1) && die "status finds nothing wrong: $said"
grep -qE '^g/v: its device waits; .*Read-only file system.* tried every' <<<"$said" || die "status does not say why v waits: $said"
assert_eq v "$(cleave -g g --json list | jq -r '.volumes[].volume')" "the volumes of a group that waits"
expect_fail '^cleave: g: its volumes wait: .*Read-only file system' cleave -g g start v
expect_refusal group.waits 5 cleave -g g start v
dd if="$node" of=/dev/null bs=4k count=1 iflag=direct status=none &
reader=$!
kill_at_exit $reader
sleep 1
gone $reader && die "a read does not wait for the state directory"
assert_eq "$node" "$(device_of g/v)" "the node of a volume that waits"
# Nobody has to tell the daemon that it can be written again.
mount -o remount,rw "$CLEAVE_TEST_STATE"
wait_child $reader 30 "a read that waited for the state directory"
serves() { cleave -g g status v; }
wait_for 30 serves
[[ $(step 120 cleave -g g verify v) == *equal* ]] || die "plexes differ"

mkdir bare
step 30 cleave group create e "$PWD/bare"

echo "== read-only after an error of its file system"
disk=$(findmnt -n -o SOURCE "$CLEAVE_TEST_STATE")
mount -o remount,errors=remount-ro "$CLEAVE_TEST_STATE"
echo 1 >"/sys/fs/ext4/${disk##*/}/trigger_fs_error"
wait_for 10 bash -c "findmnt -n -o FS-OPTIONS '$CLEAVE_TEST_STATE' | grep -qw ro || ! touch '$CLEAVE_TEST_STATE/x' 2>/dev/null"
refused 'Read-only file system|Input/output error' make w 8m
refused 'Read-only file system|Input/output error' stop v
expect_fail '^cleave: .*/e: cannot be removed: (Read-only file system|Input/output error); ' cleave group destroy e
cleave --json -g e list >/dev/null || die "a group that could not be destroyed is not known any more"
step 60 dd if=/dev/urandom of="$node" bs=1M count=4 seek=20 oflag=direct conv=fsync status=none
good=$(sha256sum <"$node")

echo "== lost, and taken in from the labels"
kill_daemon
wait_for 20 umount "$CLEAVE_TEST_STATE"
step 60 mkfs.ext4 -q -F "$disk"
mount "$disk" "$CLEAVE_TEST_STATE"
spawn_daemon
daemon_answers
expect_fail 'cleave: g: ' cleave -g g list
files=(media/*.img)
truncate -s 8M plain
expect_fail 'plain: it bears no label of Cleave; name media that carry plexes' cleave group import "${files[0]}" plain
expect_refusal import.unlabelled 65 cleave group import "${files[0]}" plain
step 60 cleave group import "${files[@]}"
expect_fail 'g' cleave group import "${files[@]}"
cleave -g g list | grep -q NEEDSYNC || die "$(cleave -g g list)"
step 60 cleave -g g start v
step 120 cleave task watch
assert_eq "$good" "$(sha256sum <"$(device_of g/v)")" "the volume that was taken in"
[[ $(step 120 cleave -g g verify v) == *equal* ]] || die "plexes differ"

echo "== exported, and taken in as it was"
expect_refusal group.started 25 cleave group export g
step 60 cleave -q -g g stop v
mapfile -t media < <(step 60 cleave --json group export g | jq -r '.media[]')
assert_eq 3 "${#media[@]}" "media of the export, a snapshot mirror among them"
expect_refusal group.unknown 9 cleave -g g list
mkdir copied
mv "${media[@]}" copied
step 60 cleave group import --name h copied/*.img
[[ $(cleave -g h list) == *CLEAN* ]] || die "a resync is due: $(cleave -g h list)"
step 60 cleave -q -g h start v
assert_eq "$good" "$(sha256sum <"$(device_of h/v)")" "the volume that was exported"
[[ $(step 120 cleave -g h verify v) == *equal* ]] || die "plexes differ"

echo "== moved, and found by its label"
cp copied/*02-*.img copy.img
expect_refusal medium.serving 13 cleave group moved h copy.img
rm copy.img
step 60 cleave -q -g h stop v
mv copied/*01-*.img elsewhere.img
step 60 cleave group moved h elsewhere.img
step 60 cleave -q -g h start v
step 60 cleave -q -g h recover v
assert_eq "$good" "$(sha256sum <"$(device_of h/v)")" "the volume whose plex moved"

echo "== killed while it is exported"
here=0 gone=0
for pause in 0 0.05 0.1 0.15 0.2 0.3 0.5; do
    step 60 cleave -q -g h stop v
    cleave -q group export h >/dev/null 2>&1 &
    exporting=$!
    sleep "$pause"
    kill_daemon
    wait $exporting || true
    spawn_daemon
    daemon_answers
    # It is here still, or its labels have it.
    if [[ $(cleave --json group list) == *'"h"'* ]]; then
        here=$((here + 1))
    else
        gone=$((gone + 1))
        step 60 cleave -q group import elsewhere.img copied/*.img
    fi
    step 60 cleave -q -g h start v
    step 60 cleave -q -g h recover v
    assert_eq "$good" "$(sha256sum <"$(device_of h/v)")" "the volume after a kill $pause s into its export"
done
echo "of 7 exports that were killed $here had not happened and $gone had"
