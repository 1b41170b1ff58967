# shellcheck shell=bash
# A whole Debian of this machine's release on a disk of its own, with systemd, udev and dpkg, for what only shows on one: boots,
# shutdowns, packages. Made through this machine's apt configuration, its kernel is the rig's.

# Of the machine that makes it.
debian_builder=(mmdebstrap)
# Of the system that is made.
debian_packages=(
    bash-completion btrfs-progs busybox-static e2fsprogs fio jq kmod lvm2 man-db mount procps systemd systemd-sysv udev
    util-linux xfsprogs
)

# build_debian KERNEL: prints the path of that disk, made once per kernel and release; it is for copies to boot from.
build_debian() {
    local kernel version key disk
    kernel=$(kernel_dir "$1")
    version=$(<"$kernel/version")
    key=$( (cat /etc/debian_version "$root"/scripts/rig/debian.sh) | sha256sum | cut -c 1-16)
    disk=$cache/image-debian-$version-$key
    if [[ ! -e $disk ]]; then
        (
            flock 9
            [[ ! -e $disk ]] || exit 0
            work=$(mktemp -d "$cache/debian.XXXXXX")
            trap 'rm -rf "$work"' EXIT
            make_debian "$work/root"
            cp -a "$kernel/usr/lib/modules/$version" "$work/root/usr/lib/modules/"
            truncate -s 2G "$work/disk"
            mke2fs -q -t ext4 -L guest -d "$work/root" "$work/disk"
            mv "$work/disk" "$disk"
        ) 9>"$kernel.debian.lock"
    fi
    touch -c "$disk"
    echo "$disk"
}

# make_debian DIR: the system without its kernel.
make_debian() {
    local dir=$1 base key suite name
    suite=$(
        # shellcheck source=/dev/null
        . /etc/os-release
        echo "$VERSION_CODENAME"
    )
    base=$(debian_base)
    key=$(debian_key)
    say "making a Debian $suite for the guest, once"
    mmdebstrap --quiet --variant=essential --include="${debian_packages[*]}" --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$dir" "deb [signed-by=$key] $base $suite main" >&2 || die "a Debian $suite could not be made"
    echo guest >"$dir/etc/hostname"
    : >"$dir/etc/machine-id"
    echo 'LABEL=guest / ext4 defaults 0 1' >"$dir/etc/fstab"
    mkdir -p "$dir/var/log/journal" "$dir/usr/lib/modules"
    # No time-outs of a minute and a half that a slow processor makes, and nothing started that no test looks at.
    for name in getty-static.service getty@tty1.service serial-getty@ttyS0.service e2scrub_reap.service; do
        ln -s /dev/null "$dir/etc/systemd/system/$name"
    done
    rm -f "$dir"/etc/systemd/system/timers.target.wants/*
    ln -s /run/guest "$dir/cleave"
    cat >"$dir/etc/systemd/system/guest.target" <<'END'
[Unit]
Description=The guest's command
Requires=multi-user.target
Wants=guest.service
After=multi-user.target
END
    cat >"$dir/etc/systemd/system/guest.service" <<'END'
[Unit]
Description=The guest's command
After=multi-user.target

[Service]
Type=simple
ExecStart=/cleave/init
StandardInput=null
StandardOutput=null
StandardError=null
# It powers the guest off, and is stopped by that.
TimeoutStopSec=5
END
    ln -sf guest.target "$dir/etc/systemd/system/default.target"
}
