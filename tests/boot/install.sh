#!/usr/bin/env bash
# The first boot: the package is installed, volumes are made on disks and files, fstab mounts them, udev's links lead to them.
. "$(dirname "$0")/lib.sh"

# Its links are those of the disks as they are.
settled
[[ -e /dev/disk/by-id/virtio-disk1 && -e /dev/disk/by-id/virtio-disk2 ]] || die "the disks have no links of their own"

step 120 dpkg -i /cleave/payload/cleave.deb
step 10 systemctl is-active cleaved
step 10 systemctl is-enabled cleaved
step 20 cleave daemon status
step 20 cleave doctor || true
[[ -x /usr/lib/cleave/vx/vxassist ]] || die "the applets are not there"
PATH=/usr/lib/cleave/vx:$PATH
man -w cleave cleave-snapstart >pages || die "the manual is not there"
(. /usr/share/bash-completion/completions/cleave && complete -p cleave) || die "no completion"

# A mirror on disks, one on files, a volume that is not for the boot, a snapshot.
step 60 cleave make v 200m --plex /dev/disk/by-id/virtio-disk1 --plex /dev/disk/by-id/virtio-disk2
step 60 vxassist make x 320m nmirror=2 layout=mirror
step 60 cleave make idle 16m
step 10 cleave set idle autostart=no
step 60 mkfs.ext4 -q -L data /dev/cleave/default/v
step 60 mkfs.xfs -q -L logs /dev/vx/rdsk/x
mkdir -p /srv/v /srv/x
cat >>/etc/fstab <<'END'
/dev/cleave/default/v   /srv/v  ext4  defaults  0 2
LABEL=logs              /srv/x  xfs   defaults  0 2
END
step 30 systemctl daemon-reload
settled
step 60 mount -a
for dir in v x; do
    dd if=/dev/urandom of=/srv/$dir/blob bs=1M count=40 status=none
    (cd /srv/$dir && sha256sum blob >sum)
done
step 60 cleave --quiet snapstart v
step 60 cleave --quiet snapshot v snap
step 60 cleave --quiet snapstart x
step 60 vxassist snapshot x xsnap
settled

# What stands on a snapshot has the names of its origin, and the plexes' disks begin with the same bytes.
ext4=$(uuid_of /dev/cleave/default/v) xfs=$(uuid_of /dev/cleave/default/x)
assert_eq "$ext4" "$(uuid_of /dev/cleave/default/snap)" "the UUID on the snapshot"
assert_eq "$ext4" "$(uuid_of /dev/disk/by-id/virtio-disk1)" "the UUID on the disk of a plex"
for round in now again; do
    echo "udev, $round"
    assert_eq "$(basename "$(readlink -f /dev/cleave/default/v)")" "$(by_uuid "$ext4")" "the link by the UUID of ext4"
    assert_eq "$(basename "$(readlink -f /dev/cleave/default/x)")" "$(by_uuid "$xfs")" "the link by the UUID of XFS"
    assert_eq "$(by_uuid "$ext4")" "$(basename "$(readlink -f /dev/disk/by-label/data)")" "the link by the label of ext4"
    for link in /dev/disk/by-id/virtio-disk{1,2} /dev/disk/by-path/*; do [[ -b $link ]] || die "$link is gone"; done
    # As at the next boot: everything is looked at once more, snapshots and disks last.
    step 60 udevadm trigger --action=change --subsystem-match=block
    settled
    for last in /dev/vdb /dev/vdc "$(readlink -f /dev/cleave/default/snap)"; do
        step 60 udevadm trigger --action=change "$last"
        settled
    done
done
# A mount of a snapshot is by its own name, and XFS' needs its nouuid.
mkdir -p /mnt/x
step 30 cleave mount xsnap /mnt/x
(cd /mnt/x && sha256sum --quiet -c sum) || die "the snapshot of XFS has other data"
step 30 umount /mnt/x
