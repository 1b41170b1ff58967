#!/usr/bin/env bash
# VxVM's commands, as runbooks type them: a snapshot backup, plexes taken out, in again and converted, read policies, counts.
# timeout: 300
. "$(dirname "$0")/cleave.sh"

start_daemon
for number in 0 1; do
    loop_device plex-$number 80M --direct-io=on
    disks[number]=$device
done
step 60 vxassist make v 64m nmirror=2 "${disks[@]}"
assert_eq 'ACTIVE 0' "$(cleave --json show v | jq -r '.volumes[0].state') $(cleave --json task list | jq '[.tasks[] | select(.state == "running")] | length')" \
    'the volume when make has returned, and the tasks at work on it'
node=$(device_of v)
content() { dd if="$(device_of "$1")" bs=1M iflag=direct status=none; }
column() { vxprint -q -p -t "$1" | awk '{print $'"$2"'}'; }
# dirty KIND OBJECT: %DIRTY of a line of vxassist snapprint.
dirty() { vxassist snapprint | awk -v kind="$1" -v object="$2" '$1 == kind && $2 == object {print $5}'; }

# The typical runbook.
step 60 mkfs.ext4 -q -F /dev/vx/rdsk/v
mounted /dev/vx/dsk/v mnt
head -c 4M /dev/urandom >mnt/file
step 60 vxassist -b snapstart v
step 60 vxassist snapwait v
step 60 vxassist snapshot v tmp
status=0
step 60 fsck -y /dev/vx/rdsk/tmp >fsck.log || status=$?
((status <= 1)) || die "fsck of the snapshot ended with $status: $(<fsck.log)"
mounted /dev/vx/dsk/tmp copy -o ro
assert_same mnt/file copy/file 'a file and its copy'
expect_fail 'is in use' vxassist snapback tmp
umount copy
step 60 vxassist snapback tmp
step 60 vxassist snapwait v
step 60 vxassist snapshot v tmp
step 60 vxedit -rf rm tmp
umount mnt

# Reads go where they are sent: a plex that is not preferred is not read.
reads_of() { awk '{print $1}' "/sys/block/${1#/dev/}/stat"; }
step 30 vxvol rdpol prefer v v-02
assert_eq 'PREFER v-02' "$(vxprint -q -v -t v | awk '{print $7, $8}')" 'the read policy'
before=$(reads_of "${disks[0]}")
content v >whole
assert_eq "$before" "$(reads_of "${disks[0]}")" 'reads of the plex that is not preferred'
step 30 vxvol rdpol round v
content v >/dev/null
(($(reads_of "${disks[0]}") > before)) || die 'read in turn, one plex is not read'

# Out and in again.
step 30 vxplex det v-02
assert_eq STALE "$(column v-02 5)" 'a plex that was taken out'
dd if=/dev/urandom of="$node" bs=1M count=16 oflag=direct conv=notrunc status=none
# And what it may not have flushed before.
(($(dirty dp v-02) >= 25)) || die "a plex that missed a quarter lacks $(dirty dp v-02) %"
expect_fail 'no such volume' vxplex att tmp v-02
step 60 vxplex att v v-02
assert_eq ACTIVE "$(column v-02 5)" 'a plex that was taken in'
step 30 vxplex det v-02
step 30 cleave -q stop v
step 60 vxrecover -s v
step 60 cleave -q task watch
assert_eq ACTIVE "$(column v-02 5)" 'a plex behind when its volume was started'
step 30 vxplex det v-02
step 60 vxrecover
assert_eq ACTIVE "$(column v-02 5)" 'a plex that was taken in'
step 30 vxmend off v-02
assert_eq OFFLINE "$(column v-02 5)" 'a plex that was taken offline'
step 30 vxmend on v-02
step 60 cleave -q task watch
assert_eq ACTIVE "$(column v-02 5)" 'a plex that was brought online'
assert_equal_plexes v 2

# A mirror that is there already is broken off, while it is written to.
fio --name=load --filename="$node" --rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --time_based --runtime=4 \
    --output=load.log &
load=$!
kill_at_exit $load
sleep 1
step 30 vxplex convert state=SNAPDONE v-02
assert_eq 'SNAPDONE WO' "$(column v-02 5) $(column v-02 9)" 'a converted plex'
expect_fail 'last complete plex' vxplex convert state=SNAPDONE v-01
wait_child $load 60 'the load'
content v >whole
step 60 vxassist -o consistency=crash snapshot v half
assert_same whole <(content half) 'the volume and what was broken off'
dd if=/dev/urandom of="$node" bs=1M count=16 oflag=direct conv=notrunc status=none
dd if=/dev/urandom of="$(device_of half)" bs=64k count=1 oflag=direct conv=notrunc status=none
assert_eq '25 1' "$(dirty ss half_snp) $(dirty ss v_snp)" '%DIRTY of both sides'

# Parted for good.
expect_fail 'is a snapshot of v' vxassist snapclear half half_snp
expect_refusal snapshot.of-another 20 vxassist snapclear half half_snp
step 30 vxassist snapclear half v_snp
expect_fail 'not a snapshot' vxassist snapback half
step 30 cleave -q stop half
step 30 vxassist remove volume half

# A group of whole disks: one plex a disk, and one disk a group.
for number in 1 2 3; do
    loop_device of-$number 48M --direct-io=on
    of[number]=$device
done
step 30 vxdg init dg d1="${of[1]}" "d2=$(basename "${of[2]}")"
expect_refusal medium.of-group 12 cleave group create other "${of[1]}"
# Of two that want it at once one gets it.
create() { if cleave -q group create "$1" "${of[3]}" 2>/dev/null; then echo "$1" >>got; fi; }
create one &
asked=$!
create other
wait $asked
assert_eq 1 "$(wc -l <got)" 'the groups that got one disk'
step 30 cleave -q group destroy "$(<got)"
step 60 vxassist -g dg make w 16m layout=mirror
expect_refusal medium.none-left 65 vxassist -g dg snapstart w
expect_fail 'cleave -g dg snapstart w|vxassist -g dg snapstart w' vxassist -g dg snapshot w
step 30 vxdg -g dg adddisk "d3=$(basename "${of[3]}")"
step 60 vxassist -g dg snapstart w
step 30 vxplex -g dg -o rm dis w-02
assert_eq 'd1 98304 d2 98304 d3 98304' "$(vxprint -g dg -dF '%name %pub_len' | xargs)" 'disks in use and free, and their lengths'
assert_eq 'w-01 w w-03 w' "$(vxprint -g dg -F 'p:%name %v_name' | xargs)" 'a format for plexes alone'
assert_eq 'w DISABLED' "$(step 30 vxvol -g dg stop w; vxprint -g dg -F '%name %kstate' w)" 'a stopped volume'
vxprint -g dg -m w | grep -qx $'\tstate="CLEAN' || die "no state for vxmake: $(vxprint -g dg -m w)"
vxprint -g dg -l w | grep -qx 'state:    state=CLEAN kernel=DISABLED' || die "not told at length: $(vxprint -g dg -l w)"
assert_eq 'w-01 w-03' "$(cleave -g dg --json show w | jq -r '[.volumes[0].plexes[].plex] | join(" ")')" 'the plexes that are left'
expect_fail 'has a plex of that name; .*cleave -g dg print' vxplex -g dg -o rm dis w-02
[[ $(vxprint -q) == *dg* ]] || die "the group is not among all: $(vxprint -q)"
step 30 vxedit -g dg -rf rm w
step 30 vxdg destroy dg

# What it was asked for.
step 30 vxstat -r >/dev/null
dd if=/dev/zero of="$node" bs=1M count=8 oflag=direct conv=notrunc status=none
assert_eq '0 16384' "$(vxstat v | awk '$2 == "v" {print $3, $6}')" 'reads, and blocks written'
(($(cleave --json stat v | jq '.volumes[0].writes') >= 8)) || die "too few writes: $(cleave stat v)"
(($(vxstat -i 1 -c 2 v | grep -c '^vol v ') == 2)) || die 'two looks show something else than two lines'
calm_log
