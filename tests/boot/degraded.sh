#!/usr/bin/env bash
# The third boot, with a disk missing: its volume comes up by the other one, in time for its mount. Then the package goes, and
# what carries data stays.
. "$(dirname "$0")/lib.sh"

# The stage before this one killed the daemon.
calm_boot -1 "cleaved.service: Failed with result 'signal'."
for dir in v x; do
    mountpoint -q /srv/$dir || die "/srv/$dir is not mounted: $(journalctl -b -u cleaved -n 20 -o cat --no-pager)"
    (cd /srv/$dir && sha256sum --quiet -c sum) || die "/srv/$dir has other data"
done
grep -q 'v-02' < <(cleave status) || die "nobody is told that a plex is missing: $(cleave status)"
journalctl -b -u cleaved -o short-monotonic --no-pager | grep -E 'listens|volume comes up' | head

step 60 umount /srv/v /srv/x
step 60 dpkg --purge cleave
[[ ! -e /usr/sbin/cleaved && ! -e /run/cleave ]] || die "the package left something behind"
[[ -z $(ls /dev/ublkb* 2>/dev/null) ]] || die "devices are left"
[[ -s /var/lib/cleave/default/configuration ]] || die "the configuration was purged with the package"
# A plex is a plain image, also of a host that never heard of Cleave.
step 30 mount -o ro,loop,sizelimit=200M /dev/vdb /mnt
(cd /mnt && sha256sum --quiet -c sum) || die "the plex has other data"
step 30 umount /mnt
sed -i '\,/srv/,d' /etc/fstab
