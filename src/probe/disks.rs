//! The disks of this host that may carry a plex.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Kinds of devices, by how their names begin, that carry no plex: devices of volumes, memory, drives for removable media.
const NONE_OF_OURS: [&str; 5] = ["ublk", "ram", "zram", "sr", "fd"];

/// The disks, partitions and what is made of them, as `sysfs` (`/sys/class/block`) lists them. What another device lies on, such
/// as a path of a multipath device, is left out: that device has the same content. Each by a path below `dev` (`/dev`) that stays
/// the same when disks are found in another order, if udev has made one (`disk/by-id`).
#[must_use]
pub fn disks(sysfs: &Path, dev: &Path) -> Vec<PathBuf> {
    let lasting = lasting_names(dev);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(sysfs).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let has_holders =
            || std::fs::read_dir(entry.path().join("holders")).is_ok_and(|mut held| held.next().is_some());
        let sectors = std::fs::read_to_string(entry.path().join("size")).unwrap_or_default();
        if NONE_OF_OURS.iter().any(|kind| name.starts_with(kind)) || sectors.trim() == "0" || has_holders() {
            continue;
        }
        // The kernel writes a slash of a device's name as an exclamation mark.
        let node = dev.join(name.replace('!', "/"));
        found.push(lasting.get(&node).cloned().unwrap_or(node));
    }
    found.sort_unstable();
    found
}

/// For each node below `dev` the first of the links to it in `disk/by-id`.
fn lasting_names(dev: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let links = std::fs::read_dir(dev.join("disk/by-id")).into_iter().flatten().flatten();
    let mut links: Vec<PathBuf> = links.map(|link| link.path()).collect();
    links.sort_unstable();
    let mut names = BTreeMap::new();
    for link in links {
        if let Ok(node) = link.canonicalize() {
            names.entry(node).or_insert(link);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    #[test]
    fn disks_that_others_lie_on_and_devices_of_volumes_are_left_out_and_lasting_names_preferred() {
        let root = tempfile::tempdir().unwrap();
        // Links are resolved: the directory itself may lie behind one.
        let root = root.path().canonicalize().unwrap();
        let (sysfs, dev) = (root.join("sys"), root.join("dev"));
        create_dir_all(dev.join("disk/by-id")).unwrap();
        for (name, sectors, holder) in [
            ("sda", "8", None),
            ("sdb", "8", Some("dm-0")),
            ("dm-0", "8", None),
            ("sdc", "0", None),
            ("ublkb0", "8", None),
            ("cciss!c0d0", "8", None),
        ] {
            create_dir_all(sysfs.join(name).join("holders")).unwrap();
            write(sysfs.join(name).join("size"), sectors).unwrap();
            if let Some(holder) = holder {
                create_dir_all(sysfs.join(name).join("holders").join(holder)).unwrap();
            }
        }
        write(dev.join("sda"), "").unwrap();
        for link in ["wwn-0x2", "ata-1"] {
            std::os::unix::fs::symlink("../../sda", dev.join("disk/by-id").join(link)).unwrap();
        }
        let found = disks(&sysfs, &dev);
        let expected = ["cciss/c0d0", "disk/by-id/ata-1", "dm-0"].map(|name| dev.join(name));
        assert_eq!(found, expected);
        assert_eq!(disks(&root.join("none"), &dev), [] as [PathBuf; 0]);
    }
}
