#!/usr/bin/env bash
# A volume is overwritten from its snapshot and put back again: nothing is overwritten without a way back, nobody sees what is
# half one and half the other, whatever is killed meanwhile, and every other snapshot of the volume goes on telling the truth.
# timeout: 600
. "$(dirname "$0")/cleave.sh"

need_state_disk "$(long_or 4G 1G)"
start_daemon

size=$(long_or 256 32)
content() { dd if="$(device_of "$1")" bs=1M iflag=direct status=none; }
sum() { content "$1" | sha256sum | cut -d ' ' -f 1; }
# change VOLUME SEED [BYTES]: writes at places that depend on SEED.
change() {
    step 120 fio --name=change --filename="$(device_of "$1")" --rw=randwrite --bs=64k --blockalign=4k --size=${size}m \
        --io_size="${3:-$((size << 17))}" --direct=1 --ioengine=libaio --iodepth=8 --randseed="$2" --refill_buffers --output=change.log
}
# refused CODE ID PATTERN VERB...: with that exit code, id and text.
refused() {
    local code=$1 id=$2 pattern=$3 status=0
    shift 3
    cleave --json "$@" >said 2>error || status=$?
    assert_eq "$code" "$status" "the exit code of: cleave $*: $(<error)"
    assert_eq "$id" "$(jq -r '.error.id // .id' error)" "the id of the refusal of: cleave $*: $(<error)"
    grep -qE -- "$pattern" error || die "'cleave $*' is refused with $(<error), not with what matches '$pattern'"
}
snapdone() { cleave --json show v | jq '[.volumes[0].plexes[] | select(.state == "SNAPDONE")] | length'; }
archives() { find "$CLEAVE_TEST_STATE" -name 'v-*-*-*:*:*.*' | wc -l; }
running() { cleave --json task list | jq -e '[.tasks[] | select(.state == "running")] | length > 0' >/dev/null; }
idle() { ! running; }
shown() { [[ -b /dev/vx/dsk/v ]]; }

echo '== a file system goes back to what it was, and forth again'
step 60 cleave -q make v ${size}m -n 2
node=$(device_of v)
step 60 mkfs.ext4 -q "$node"
mount_volume v mnt
cp -r /cleave/tests mnt/then
sync -f mnt
for _ in 1 2; do step 120 cleave -q snapstart v; done
step 60 cleave -q snapshot v snap
step 60 cleave -q snapshot v other
umount mnt
then=$(sum snap)
step 60 mount "$node" mnt
rm -r mnt/then
dd if=/dev/urandom of=mnt/now bs=1M count=8 status=none
refused 31 volume.open "\"v\".*$PWD/mnt" restore snap
umount mnt
now=$(sum v)
mounted /dev/vx/dsk/snap snapmnt -o ro
refused 31 volume.open "\"snap\".*$PWD/snapmnt" restore snap
umount snapmnt
refused 20 snapshot.not-a-snapshot '' restore v
refused 11 volume.unknown '' restore nosuch
refused 11 undo.none '' undo v
# Told only.
cleave restore --dry-run snap >told
grep -qE 'v: [0-9]+ of [0-9]+ regions .* are overwritten from snap; what they hold is kept in .*; nothing was changed' told || die "$(<told)"
assert_eq "$now" "$(sum v)" "the content of v after a restore that was told only"

step 120 cleave restore snap >result 2>announced
grep -qE '^v: [0-9]+ of [0-9]+ regions .* are overwritten from snap; what they hold is kept in /.*/v-[0-9-]+-[0-9:]+\.[0-9a-f]{8}$' announced ||
    die "what is overwritten was not told: $(<announced)"
assert_eq "$then" "$(sum v)" "the content of v after its restore"
assert_eq "$node" "$(device_of v)" "the node of v after its restore"
assert_eq 1 "$(snapdone)" "the number of SNAPDONE plexes after the restore"
assert_equal_plexes v 3
assert_eq 1 "$(archives)" "the number of undo archives"
step 60 fsck.ext4 -fn "$node" >fsck.log || die "the restored file system is not clean: $(<fsck.log)"

step 120 cleave undo v >result
assert_eq "$now" "$(sum v)" "the content of v after the undo"
assert_equal_plexes v 3
assert_eq 0 "$(archives)" "the number of undo archives after the undo"
refused 11 undo.none '' undo v

echo '== the other snapshot of the volume still knows what differs'
step 120 cleave -q snapback other
assert_equal_plexes v 4
step 60 cleave -q snapshot v again
assert_same <(content v) <(content again) 'v and a snapshot of it after a restore and an undo'

echo '== an undo that would mix two states is refused'
change v 1
before=$(sum v) then=$(sum again)
step 120 vxassist -o resyncfromreplica snapback again
assert_eq "$then" "$(sum v)" "the content of v after its restore"
archive=$(cleave --json undo --list v | jq -r '.undo_archives[0].archive')
# Written to where nothing differed.
change v 77 $((size << 18))
refused 20 undo.written-since 'regions? .* that the archive does not hold were written since' undo v
step 120 cleave -q undo --force --keep v "$archive"
assert_eq 1 "$(archives)" "the number of undo archives that are kept"
refused 11 undo.unknown '' undo --delete v 00000000
step 30 cleave undo --delete v "$archive"
assert_eq 0 "$(archives)" "the number of undo archives"

echo '== a snapshot that is kept, in the background'
step 60 cleave -q snapshot v kept
change v 2
change kept 3
before=$(sum v) then=$(sum kept)
step 30 cleave -q restore -b --keep --rate 1m kept
refused 13 volume.restoring 'it is being overwritten' stop v
refused 13 volume.restoring 'v is being restored from it' rm -f kept
if shown; then die "a volume that is being overwritten has a device"; fi
for word in pause resume; do step 30 cleave -q task $word "$(cleave --json task list | jq '.tasks[-1].task')"; done
wait_for 120 idle
wait_for 30 shown
wait_for 30 test -b /dev/vx/dsk/kept
assert_eq "$then" "$(sum v)" "the content of v after its restore"
assert_same <(content v) <(content kept) 'v and the snapshot it was restored from'

echo '== aborted half way, everything is put back'
change v 4
before=$(sum v)
step 30 cleave -q restore -b --keep --rate 1m kept
overwriting() { [[ $(cleave --json group list >/dev/null; cat "$CLEAVE_TEST_STATE"/default/configuration) == *'"writing"'* ]]; }
wait_for 60 overwriting
sleep 0.3
step 60 cleave -q task abort "$(cleave --json task list | jq '.tasks[-1].task')"
wait_for 60 shown
assert_eq "$before" "$(sum v)" "the content of v after an aborted restore"
assert_equal_plexes v

echo '== killed half way, it goes on by itself'
for phase in saving writing undoing; do
    change v 5
    before=$(sum v) then=$(sum kept)
    if [[ $phase == undoing ]]; then
        step 120 cleave -q restore --keep kept
        step 30 cleave -q undo -b --rate 1m v
        then=$before
    else
        step 30 cleave -q restore -b --keep --rate 1m kept
    fi
    under_way() { grep -qE "\"?phase\"? *[:=] *\"$phase\"" "$CLEAVE_TEST_STATE"/default/configuration; }
    wait_for 60 under_way
    sleep 0.2
    kill_daemon
    if [[ $phase == writing ]]; then
        # Once more while it comes up and goes on.
        spawn_daemon
        daemon_answers
        kill_daemon
    fi
    spawn_daemon
    daemon_answers
    if [[ $phase == saving ]]; then
        # Nothing was overwritten: as if it had never begun.
        wait_for 30 cleave start v
        then=$before
    fi
    wait_for 120 shown
    wait_for 120 idle
    assert_eq "$then" "$(sum v)" "the content of v after a kill while $phase"
    assert_equal_plexes v
    [[ -b /dev/vx/dsk/kept ]] || step 30 cleave -q start kept
    for archive in $(cleave --json undo --list v | jq -r '.undo_archives[].archive'); do
        step 30 cleave undo --delete v "$archive"
    done
    assert_eq 0 "$(archives)" "the number of undo archives after a kill while $phase"
done

echo '== without room for the way back nothing is done'
change v 6
before=$(sum v)
free=$(($(stat -f -c '%a * %S' "$CLEAVE_TEST_STATE")))
fallocate -l $((free - (17 << 20))) "$CLEAVE_TEST_STATE/ballast"
refused 64 restore.no-room 'the undo archive needs .*[0-9]+ bytes. in .*, and .*bytes.? are available.*--no-safety' restore --keep kept
assert_eq "$before" "$(sum v)" "the content of v after a refusal"
then=$(sum kept)
step 120 cleave restore --keep --no-safety kept >result 2>announced
grep -q 'there is no way back' announced || die "that there is no way back was not told: $(<announced)"
assert_eq "$then" "$(sum v)" "the content of v after its restore"
rm "$CLEAVE_TEST_STATE/ballast"
assert_eq 0 "$(archives)" "the number of undo archives"

echo '== what is removed takes its archives along'
change v 7
step 120 cleave -q restore --keep kept
assert_eq 1 "$(archives)" "the number of undo archives"
step 60 cleave -q rm -f v
assert_eq 0 "$(archives)" "the number of undo archives of a volume that is gone"
if grep -E 'panicked' "$CLEAVE_TEST_LOG" >&2; then die "cleaved panicked"; fi
