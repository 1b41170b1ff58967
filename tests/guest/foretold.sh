#!/usr/bin/env bash
# What --dry-run tells is what then comes, and until then nothing has changed: neither a record nor a medium.
# timeout: 280
. "$(dirname "$0")/cleave.sh"

need_state_disk
start_daemon
loop_device disk 24M --direct-io=on
disk=$device

# told VERB...: what is foretold of it; nothing but that may have happened when it returns.
told() {
    local before
    before=$(cleave --json list; find "$CLEAVE_TEST_STATE" -type f -printf '%p %s\n' | sort; sha256sum "$disk")
    step 60 cleave "$@" --dry-run >foretold
    assert_eq "nothing was changed" "$(tail -n 1 foretold)" "the end of what is told of $*"
    assert_eq "$before" "$(cleave --json list; find "$CLEAVE_TEST_STATE" -type f -printf '%p %s\n' | sort; sha256sum "$disk")" \
        "what is there after cleave $* --dry-run"
}
# tells TEXT: a line of what was foretold.
tells() { grep -qF -- "$1" foretold || die "'$1' is not foretold: $(<foretold)"; }

step 30 cleave --quiet group create default
told make v 16m --plex "$disk"
tells "v: is made, 16 MiB, 1 copy of it"
tells "$disk: its first 18 MiB are overwritten"
step 60 cleave --quiet make v 16m --nmirror 2
assert_eq '' "$(losetup -n -O BACK-FILE -j "$disk")" 'what lies over the disk'
step 30 mkfs.ext4 -q -F "$disk"
expect_fail 'ext4' cleave mirror v --plex "$disk" --dry-run
told mirror v --plex "$disk" --force
tells "v-03: is added to v"
tells "$disk: holds ext2, ext3 or ext4, which is overwritten"
told make w 16m --plex "$disk" --force
tells "$disk: holds ext2, ext3 or ext4, which is overwritten"
told snapstart v
tells "a file is made, 18 MiB"
step 60 cleave --quiet snapstart v
step 30 cleave --quiet snapshot v snap
step 30 dd if=/dev/urandom of="$(device_of snap)" bs=64k count=3 oflag=direct status=none
step 30 dd if=/dev/urandom of="$(device_of v)" bs=64k seek=100 count=2 oflag=direct status=none
told snapback snap
tells "v-03: goes from snap to v"
tells "snap: goes"
tells "v: at least 320 KiB in 5 regions are copied from it to what comes back"
tells "snap: 192 KiB changed in it since its cut are given up"
told snapclear snap
tells "snap: is no snapshot of v any more"
told rm v --force
tells "snap: is no snapshot of v any more: no snapback, no restore"
told rm snap --force
tells "snap: goes, with v-03"
tells "the file is removed, 18 MiB"
tells "snap: 192 KiB changed in it since its cut are given up"
told remove-mirror v
tells "v-02: goes from v"
told plex replace v-01 "$disk" --force
tells "v-01: goes when the new one is complete"
# What cannot be done is not foretold.
expect_fail 'snap' cleave resize v +1m --dry-run
expect_fail 'it is in use|still started|stop it' cleave rm v --dry-run
expect_fail 'no such volume' cleave rm w --dry-run
step 60 cleave --json snapback snap >returned
assert_eq '196608 5' "$(jq -r '"\(.lost_bytes) \(.dirty_regions)"' returned)" 'what was given up and copied, as it was foretold'
step 30 cleave --quiet snapabort v
# Several go back in turn, and none where one of them cannot.
step 60 cleave --quiet snapstart v -n 2
for name in s1 s2; do step 30 cleave --quiet snapshot v $name; done
assert_eq 's1 s2' "$(cleave complete snapback s | xargs)" 'the snapshots that a shell is told of'
exec 7<"$(device_of s2)"
expect_fail 's2: the volume is in use.*; done: none; not done: s1, s2' cleave snapback s1 s2
exec 7<&-
assert_eq 's1 s2' "$(cleave complete snapback s | xargs)" 'the snapshots after one of both could not go back'
step 60 cleave --json snapback s1 s2 >returned
assert_eq 'true true' "$(jq -r '[.results[].snapshot_removed] | join(" ")' returned)" 'that both snapshots went'
step 30 cleave --quiet snapabort v -n 2
if ! cleave resize v +8m --dry-run >foretold; then grep -q . foretold && die "refused, and yet something was told: $(<foretold)"; fi
# A snapshot mirror that is still being copied does not outlive a stop, which says so.
step 30 dd if=/dev/urandom of="$(device_of v)" bs=1M count=12 oflag=direct status=none
step 30 cleave --quiet snapstart -b --rate 1m v
step 30 cleave stop v >said
grep -qE '^v-0[0-9]: the snapshot mirror of v was not complete and goes at its next start; begin anew then: cleave snapstart v$' said ||
    die "the mirror that went is not named: $(<said)"
step 30 cleave --quiet start v
assert_eq 2 "$(cleave --json show v | jq '.volumes[0].plexes | length')" "the number of plexes left"
step 30 cleave --quiet stop v
told resize v +8m
tells "v: has 24 MiB then; its last 8 MiB read as zero"
expect_fail 'then add -f' cleave resize v -8m --dry-run
told resize v -8m --force
tells "v: has 8 MiB then; its last 8 MiB are cut off"
# An origin that is removed by force leaves its snapshots behind, each for itself, and names them, by VxVM's command as well.
step 60 cleave --quiet make o 4m
for snapshot in s1 s2; do
    step 60 cleave --quiet snapstart o
    step 30 cleave --quiet snapshot o $snapshot -o consistency=crash
done
step 60 vxedit -rf rm o >said 2>&1
assert_eq "$(printf '%s: is no snapshot of o any more, but independent: no snapback, no restore\n' s1 s2)" "$(<said)" \
    "what vxedit says"
step 60 cleave --json rm -f s1 s2 >said
assert_eq '[]' "$(jq -c '[.results[].independent[]]' said)" "what is independent then"
told release v
tells "stays, as a plain image of the volume"
calm_log
