#!/usr/bin/env bash
# cleaved as its unit starts it, in its sandbox, with ext4 on a mirrored volume that fio writes to and verifies: it serves,
# freezes, is killed and comes back without an I/O error, does not keep the host's mounts, and its stop removes nothing.
# systemd
# timeout: 400
. "$(dirname "$0")/cleave.sh"
unset CLEAVE_SOCKET
package=/cleave/package
# told WHAT: how far the test has come, for one that is cut off.
told() { echo "$SECONDS s: $*"; }

# The disk drivers that media need come before the daemon: its device rules are made from what the kernel has.
need_module loop
install -m 644 $package/cleaved.service /etc/systemd/system/
install -D -m 644 $package/cleave.sysusers /usr/lib/sysusers.d/cleave.conf
install -D -m 644 $package/cleave.tmpfiles /usr/lib/tmpfiles.d/cleave.conf
step 10 systemd-sysusers cleave.conf
step 10 systemd-tmpfiles --create cleave.conf
step 20 systemctl daemon-reload
end_unit() {
    systemctl start cleaved
    cleave daemon stop --volumes
    systemctl stop cleaved
}
export -f end_unit
at_exit end_unit
journal() { journalctl -u cleaved -o cat --no-pager; }
# The driver is loaded by the unit's own means. Ready means that it answers.
step 10 modprobe -r ublk_drv
step 60 systemctl start cleaved || { journal >&2; die "the unit does not start"; }
step 10 cleave daemon status >/dev/null
main() { systemctl show -P MainPID cleaved; }

first=$(main)
told "the unit is up"
assert_protected "$first"
assert_eq 1 "$(sed -n 's/^NoNewPrivs:\t//p' "/proc/$first/status")" "NoNewPrivs"
assert_eq 2 "$(sed -n 's/^Seccomp:\t//p' "/proc/$first/status")" "Seccomp"
# DAC_READ_SEARCH, SYS_PTRACE, SYS_ADMIN, SYS_RESOURCE.
assert_eq "$(printf '%016x' $((1 << 2 | 1 << 19 | 1 << 21 | 1 << 24)))" "$(sed -n 's/^CapEff:\t//p' "/proc/$first/status")" \
    "the capabilities"
assert_eq '750 root cleave' "$(stat -c '%a %U %G' /run/cleave)" "the socket's directory"
assert_eq '660 root cleave' "$(stat -c '%a %U %G' /run/cleave/control)" "the socket"
assert_eq '700 root root' "$(stat -c '%a %U %G' /var/lib/cleave)" "the state directory"
expect_fail 'Read-only file system' touch "/proc/$first/root/etc/x"

# A mirror of a file and a disk, with all that is asked of a block device; mounted where a sandbox likes to hide things.
loop_device disk 200M
step 60 cleave make v 96m --nmirror 2 --plex "$device"
node=$(device_of v)
assert_eq 1 "$(<"/sys/block/${node##*/}/queue/stable_writes")" "stable_writes of the volume"
step 60 mkfs.ext4 -q "$node"
mnt=/home/data
mount_point_gone() { ! mountpoint -q /home/data || { systemctl start cleaved && umount /home/data; }; }
export -f mount_point_gone
mkdir -p $mnt
step 30 mount "$node" $mnt
at_exit mount_point_gone

cat >job <<JOB
[global]
directory=$mnt
ioengine=libaio
direct=1
rw=randwrite
verify=crc32c
verify_fatal=1
[blocks]
size=6m
bssplit=4k/60:16k/30:64k/10
iodepth=16
[synced]
size=512k
bs=4k
fsync=8
iodepth=4
JOB
passes() {
    until [[ -e stop ]]; do
        fio --output=fio.out job || return
        echo pass >>passed
    done
}
passes &
writer=$!
kill_at_exit $writer
writes() { awk '{print $5}' "/sys/block/${node##*/}/stat"; }
# moves_on: waits until a write completes.
moves_on() {
    local before end=$(($(now_ms) + 60000))
    before=$(writes)
    until (($(writes) > before)); do
        ! gone $writer || die "the writer has ended: $(<fio.out)"
        (($(now_ms) < end)) || die "no write completes any more: $(journal | tail -n 5)"
        sleep 0.02
    done
}

told "mounted"
# A snapshot of the mounted file system is frozen from inside the sandbox.
moves_on
step 60 cleave --quiet snapstart v
said=$(step 60 cleave --json snapshot v snap)
grep -q '"grade":"fs"' <<<"$said" || die "the file system was not frozen for the snapshot: $said"
step 60 e2fsck -fn /dev/vx/rdsk/snap >checked 2>&1 || die "the snapshot is not clean: $(<checked)"

told "a snapshot was taken"
# Killed under fio, it comes back by itself.
moves_on
began=$(now_ms)
kill -9 "$first"
wait_for 10 gone "$first"
moves_on
echo "a write completes $(($(now_ms) - began)) ms after the kill"
came_back() { [[ $(main) != 0 && $(main) != "$first" && $(systemctl is-active cleaved) == active ]]; }
wait_for 60 came_back
assert_eq 1 "$(systemctl show -P NRestarts cleaved)" "the number of restarts"
assert_eq "$node" "$(device_of v)" "the node after the kill"
assert_protected "$(main)"
told "protected again"
touch passed
passed=$(wc -l <passed)
more() { (($(wc -l <passed) > passed)); }
wait_for 150 more
touch stop
wait_child $writer 150 "the writer"
echo "fio passes without an error: $(wc -l <passed)"

# Stop is not removal: what is open stays, by whomever it is open, and waits for the next start.
setpriv --reuid 1000 --regid 1000 --clear-groups sleep 600 <"/dev/vx/dsk/snap" &
sleeper=$!
kill_at_exit $sleeper
step 60 systemctl stop cleaved
[[ -b $node && -b /dev/ublkb1 ]] || die "a device that was open is gone after the stop"
grep -q ' in the name space of ' < <(journal) && die "a mount is told twice: $(journal | tail -n 5)"
journal | grep -qE 'stays, it is open: open for reading in sleep .* volume=snap' || die "the user's process was not seen: $(journal | tail -n 5)"
dd if=/dev/urandom of=$mnt/late bs=4k count=64 oflag=direct status=none &
late=$!
step 60 systemctl start cleaved
wait_child $late 30 "a write that was asked while no daemon ran"
kill $sleeper

told "stopped and started under the mount"
# The daemon was started under the mount: it must not hold on to it after the host has let go.
step 30 umount $mnt
step 30 cleave --quiet stop v
step 30 cleave --quiet start v
assert_equal_plexes v 2
step 60 e2fsck -fn "$(device_of v)" >checked 2>&1 || die "not clean: $(<checked)"
if journal | grep -E ' ERROR |panicked|not granted'; then die "cleaved reported errors"; fi

told "unmounted, equal, clean"
# Bad words are not tried again and again.
mkdir -p /run/systemd/system/cleaved.service.d
printf '[Service]\nExecStart=\nExecStart=cleaved --no-such-word\n' >/run/systemd/system/cleaved.service.d/bad.conf
at_exit rm -rf /run/systemd/system/cleaved.service.d
step 60 systemctl stop cleaved
step 20 systemctl daemon-reload
expect_fail . systemctl start cleaved
assert_eq 0 "$(systemctl show -P NRestarts cleaved)" "the restarts after bad words"
rm /run/systemd/system/cleaved.service.d/bad.conf
step 20 systemctl daemon-reload
step 60 systemctl start cleaved

systemd-analyze security cleaved.service --no-pager --threshold=45 >analyzed || die "$(grep -v '^✓' analyzed)"
tail -n 1 analyzed
