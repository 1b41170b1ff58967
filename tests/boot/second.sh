#!/usr/bin/env bash
# The second boot: what fstab says is mounted, the last shutdown was a clean one; then the daemon is killed, restarted and
# replaced by that of a newer package below fio, and the package does not go while volumes are in use.
. "$(dirname "$0")/lib.sh"

calm_boot -1
calm_boot 0
for dir in v x; do
    mountpoint -q /srv/$dir || die "/srv/$dir is not mounted: $(journalctl -b -u cleaved -n 20 -o cat --no-pager)"
    (cd /srv/$dir && sha256sum --quiet -c sum) || die "/srv/$dir has other data"
done
for volume in v x snap xsnap; do assert_eq ACTIVE "$(state_of $volume)" "the state of $volume"; done
assert_eq CLEAN "$(state_of idle)" "the state of the volume that is not for the boot"
# Every volume was stopped in good order: none had to be made equal.
if cleave events --all 2>/dev/null | grep -E 'volume\.crashed|resync'; then die "the shutdown was not a clean one"; fi
journalctl -b 0 -u cleaved -o cat --no-pager | grep -E 'resync|not been stopped' && die "the shutdown was not a clean one"
settled
assert_eq "$(basename "$(readlink -f /dev/cleave/default/v)")" "$(by_uuid "$(uuid_of /dev/cleave/default/v)")" "the link by UUID"
assert_eq cleave_member "$(udevadm info -q property --property=ID_FS_TYPE --value /dev/vdb)" "what udev takes the disk for"
systemd-analyze critical-chain local-fs.target | head -n 6

# A volume that was stopped by hand stays stopped.
step 30 cleave --quiet stop xsnap
cat >job <<'JOB'
[global]
ioengine=libaio
direct=1
rw=randwrite
verify=crc32c
verify_fatal=1
size=24m
bssplit=4k/60:16k/30:64k/10
iodepth=16
[v]
directory=/srv/v
[x]
directory=/srv/x
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
main() { systemctl show -P MainPID cleaved; }
# moves_on WHAT: writes complete; says how long it took until one did.
moves_on() {
    local before began
    began=$(uptime_ms)
    before=$(<passed-writes)
    wrote() { awk '{print $5}' "/sys/class/block/$(basename "$(readlink -f /dev/cleave/default/v)")/stat"; }
    until (($(wrote) > before)); do
        kill -0 $writer 2>/dev/null || die "the writer has ended: $(<fio.out)"
        (($(uptime_ms) - began < 60000)) || die "no write completes after $1"
        sleep 0.05
    done
    echo "$1: a write completes $(($(uptime_ms) - began)) ms after"
}
note() { awk '{print $5}' "/sys/class/block/$(basename "$(readlink -f /dev/cleave/default/v)")/stat" >passed-writes; }
note
moves_on "the writer began"
first=$(main)
kill -9 "$first"
note
moves_on "a kill"
came_back() { [[ $(main) != 0 && $(main) != "$first" && $(systemctl is-active cleaved) == active ]]; }
wait_for 60 came_back
step 60 systemctl restart cleaved
note
moves_on "a restart"
assert_eq CLEAN "$(state_of xsnap)" "the state of the volume that was stopped by hand"
before=$(main)
step 120 dpkg -i /cleave/payload/newer.deb
note
moves_on "the upgrade of the package"
assert_eq "$before" "$(main)" "the process after the upgrade"
assert_eq 99.0-1 "$(dpkg-query -W -f '${Version}' cleave)" "the version installed"
moves=$(wc -l <passed 2>/dev/null || echo 0)
more() { (($(wc -l <passed) > moves + 1)); }
wait_for 150 more
touch stop
wait_for 120 gone $writer
wait $writer || die "fio: $(<fio.out)"
echo "fio passes without an error: $(wc -l <passed)"

# Used volumes keep the package.
expect_fail 'mounted on|in use' dpkg -r cleave
step 10 cleave daemon status
# The daemon was restarted below the mounts: the host lets go of one, and the volume is free.
step 30 umount /srv/x
step 30 cleave --quiet stop x
step 30 cleave --quiet start x
settled
step 30 mount /srv/x
