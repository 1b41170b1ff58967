# shellcheck shell=bash
# What the stages source: the tests' words, and some of a host under systemd.
. /cleave/tests/lib.sh
cd /root

uuid_of() { blkid -p -s UUID -o value "$1"; }

# by_uuid UUID: the kernel's name of the device that its link leads to.
by_uuid() { basename "$(readlink -f "/dev/disk/by-uuid/$1")"; }

# settled: udev has nothing to do.
settled() { step 60 udevadm settle --timeout=50; }

# calm_boot BOOT [LINE]: that boot's units all came up and went down in their time, but for what LINE says.
calm_boot() {
    local said
    said=$(journalctl -b "$1" -t systemd -o cat --no-pager | grep -E 'Timed out|timed out|Failed (un)?mounting|Dependency failed|Failed with result' || true)
    said=$(grep -vxF -- "${2:-none}" <<<"$said" || true)
    [[ -z $said ]] || die "boot $1 was not calm: $said"
}

# state_of VOLUME
state_of() { cleave --json show "$1" | jq -r '.volumes[0].state'; }
