//! Where the file systems on a volume are mounted: on the device itself, on its partitions, and on what is stacked on them
//! (device mapper, md), in every mount name space of this host.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::base::{Kind, Refusal, Refused};

/// File systems whose mounts show a device number of no device: they are known by their source. A source that another
/// file system shows may be any text.
const ANONYMOUS: [&[u8]; 2] = [b"btrfs", b"bcachefs"];

/// How deep devices may be stacked; the kernel's own bound for file systems and md is lower.
const MAX_DEPTH: usize = 16;

/// A block device.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// The kernel's name for it, as `ublkb0p1`.
    pub name: String,
}

/// One line of `/proc/PID/mountinfo`, as proc_pid_mountinfo(5) describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Its id, as `STATX_MNT_ID` gives it.
    pub id: u64,
    /// Major and minor number that stand for its file system.
    pub device: (u32, u32),
    /// Where it is mounted, as the process sees it.
    pub point: PathBuf,
    /// The file system's type.
    pub kind: OsString,
    /// What it was mounted from.
    pub source: OsString,
}

/// The mount points of the file systems on volume device `number`, one for each file system, in the order in which they were
/// mounted.
///
/// # Errors
/// `mount.unknown`: the kernel does not tell; `mount.hidden`: a file system is mounted, but each of its mount points lies
/// below a later mount.
pub fn mounts_of_volume(number: u32) -> Result<Vec<PathBuf>, Refused> {
    let devices = devices_of(Path::new("/sys/class/block"), &format!("ublkb{number}"));
    if devices.is_empty() {
        return Err(unknown(&format!("/dev/ublkb{number}"), "the device is not in /sys/class/block"));
    }
    mounts_of(&devices)
}

/// The mount points of the file systems on `devices`, as [`mounts_of_volume`].
///
/// # Errors
/// As [`mounts_of_volume`].
pub fn mounts_of(devices: &[Device]) -> Result<Vec<PathBuf>, Refused> {
    let own = fs::read("/proc/self/mountinfo")
        .map_err(|error| unknown("/proc/self/mountinfo", &error.to_string()))?;
    let siblings = btrfs_siblings(Path::new("/sys/fs/btrfs"), devices);
    let mut found = Found::default();
    found.add(&own, Path::new("/"), devices, &siblings);
    for (process, text) in other_name_spaces(Path::new("/proc")) {
        found.add(&text, &process.join("root"), devices, &siblings);
    }
    found.points()
}

/// Which file systems were found, and one way to each.
#[derive(Default)]
struct Found {
    systems: Vec<((u32, u32), Option<PathBuf>, PathBuf)>,
}

impl Found {
    /// Takes in the mounts of a name space whose root directory can be reached as `root`.
    fn add(&mut self, text: &[u8], root: &Path, devices: &[Device], siblings: &[Device]) {
        for mount in parse(text).into_iter().filter(|mount| is_on(mount, devices, siblings)) {
            let path = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
            let reached = (mount_id(&path) == Some(mount.id)).then(|| path.clone());
            match self.systems.iter_mut().find(|(device, ..)| *device == mount.device) {
                Some((_, known, _)) => *known = known.take().or(reached),
                None => self.systems.push((mount.device, reached, path)),
            }
        }
    }

    fn points(self) -> Result<Vec<PathBuf>, Refused> {
        let hidden = |path: PathBuf| {
            Refusal::new(
                Kind::InvalidState,
                "mount.hidden",
                path.display(),
                "the file system mounted here cannot be reached: another mount covers it",
                "unmount what covers it, or ask for -o consistency=crash",
            )
        };
        self.systems.into_iter().map(|(_, reached, path)| reached.ok_or_else(|| hidden(path))).collect()
    }
}

/// The mounts in the text of a `mountinfo` file; lines that cannot be read are left out.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /point rw,noatime [optional field]... - ext3 /dev/source rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
    let id = number(words.next()?)?;
    let _parent = words.next()?;
    let device = words.next()?;
    let colon = device.iter().position(|byte| *byte == b':')?;
    let part = |word: &[u8]| number(word).and_then(|part: u64| u32::try_from(part).ok());
    let device = (part(&device[..colon])?, part(&device[colon + 1..])?);
    let _root = words.next()?;
    let point = PathBuf::from(unescape(words.next()?));
    // Any number of optional fields stands before the lone dash.
    words.find(|word| *word == b"-")?;
    Some(Mount { id, device, point, kind: unescape(words.next()?), source: unescape(words.next()?) })
}

/// The bytes of a field: the kernel writes space, tab, newline, backslash and `#` as `\` and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let octal = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\').and_then(|digits| {
            let value = |sum: u32, digit: &u8| {
                (b'0'..=b'7').contains(digit).then(|| sum * 8 + u32::from(digit - b'0'))
            };
            digits.iter().try_fold(0, value).and_then(|value| u8::try_from(value).ok())
        });
        bytes.push(octal.unwrap_or(field[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    OsString::from_vec(bytes)
}

/// Whether the file system of `mount` lies on one of `devices`, or is a btrfs that shares data with one (`siblings`).
fn is_on(mount: &Mount, devices: &[Device], siblings: &[Device]) -> bool {
    let is = |device: &Device, number: (u32, u32)| (device.major, device.minor) == number;
    if devices.iter().any(|device| is(device, mount.device)) {
        return true;
    }
    if mount.device.0 != 0 || !ANONYMOUS.contains(&mount.kind.as_bytes()) {
        return false;
    }
    // bcachefs joins the members of a file system by colons.
    mount.source.as_bytes().split(|byte| *byte == b':').any(|source| {
        let source = Path::new(std::ffi::OsStr::from_bytes(source));
        let Ok(found) = fs::metadata(source) else { return false };
        let number = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        number != (0, 0) && devices.iter().chain(siblings).any(|device| is(device, number))
    })
}

/// The id of the mount that `path` leads to.
fn mount_id(path: &Path) -> Option<u64> {
    let found = rustix::fs::statx(CWD, path, AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID).ok()?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
    known.then_some(found.stx_mnt_id)
}

/// One process of each mount name space other than ours, with the text of its mounts. A process that ends meanwhile, or may
/// not be looked at, is left out.
fn other_name_spaces(proc: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let name_space = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let mut seen: BTreeSet<PathBuf> = name_space(&proc.join("self")).into_iter().collect();
    let Ok(entries) = fs::read_dir(proc) else { return Vec::new() };
    let processes =
        entries.flatten().filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit));
    processes
        .filter_map(|entry| {
            let process = entry.path();
            let text = || Some((process.clone(), fs::read(process.join("mountinfo")).ok()?));
            if seen.insert(name_space(&process)?) { text() } else { None }
        })
        .collect()
}

/// The device `name`, its partitions, and all that is stacked on them, as `sysfs` (normally `/sys/class/block`) tells.
#[must_use]
pub fn devices_of(sysfs: &Path, name: &str) -> Vec<Device> {
    let mut found = BTreeSet::new();
    collect_devices(sysfs, name, 0, &mut found);
    found.into_iter().collect()
}

fn collect_devices(sysfs: &Path, name: &str, depth: usize, found: &mut BTreeSet<Device>) {
    let directory = sysfs.join(name);
    let Some(device) = device(&directory, name) else { return };
    if depth > MAX_DEPTH || !found.insert(device) {
        return;
    }
    let names = |directory: &Path| -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let partitions =
        names(&directory).into_iter().filter(|name| directory.join(name).join("partition").exists());
    for above in partitions.chain(names(&directory.join("holders"))) {
        collect_devices(sysfs, &above, depth + 1, found);
    }
}

fn device(directory: &Path, name: &str) -> Option<Device> {
    let text = fs::read_to_string(directory.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()?, name: name.to_owned() })
}

/// The devices of each btrfs that has one of `devices`: its mounts may name any of them as their source.
fn btrfs_siblings(sysfs: &Path, devices: &[Device]) -> Vec<Device> {
    let mut found = Vec::new();
    for system in fs::read_dir(sysfs).into_iter().flatten().flatten() {
        let members = system.path().join("devices");
        let names = fs::read_dir(&members).into_iter().flatten().flatten();
        let members: Vec<_> =
            names.filter_map(|entry| device(&entry.path(), &entry.file_name().to_string_lossy())).collect();
        if members.iter().any(|member| devices.contains(member)) {
            found.extend(members);
        }
    }
    found
}

fn unknown(object: &str, why: &str) -> Refused {
    Refusal::new(
        Kind::System,
        "mount.unknown",
        object,
        format!("it cannot be told what is mounted from the volume: {why}"),
        "ask for -o consistency=crash",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const TEXT: &[u8] = br"23 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
36 35 259:3 / /mnt/with\040space\134x rw,noatime master:1 propagate_from:2 - ext4 /dev/ublkb0 rw,errors=continue
37 35 259:3 /sub /srv rw - ext4 /dev/ublkb0 rw
40 35 0:55 /home /home rw shared:1 - btrfs /dev/mapper/a\011b rw,subvol=/home
torn 35 0:5
";

    #[test]
    fn lines_of_mountinfo_are_read_and_torn_ones_left_out() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 4);
        assert_eq!(
            mounts[1],
            Mount {
                id: 36,
                device: (259, 3),
                point: PathBuf::from("/mnt/with space\\x"),
                kind: "ext4".into(),
                source: "/dev/ublkb0".into(),
            }
        );
        assert_eq!(mounts[3].source, "/dev/mapper/a\tb");
        assert_eq!(unescape(br"\18\400\"), OsString::from(r"\18\400\"));
        assert_eq!(unescape(br"\303\244"), OsString::from("ä"));
    }

    #[test]
    fn a_mount_lies_on_a_device_by_number_or_a_btrfs_by_its_source() {
        let null = fs::metadata("/dev/null").unwrap().rdev();
        let device = |major, minor| Device { major, minor, name: String::new() };
        let mount = |device, kind: &str, source: &str| Mount {
            id: 1,
            device,
            point: PathBuf::from("/m"),
            kind: kind.into(),
            source: source.into(),
        };
        let here = [device(rustix::fs::major(null), rustix::fs::minor(null))];
        let there = [device(259, 3)];
        assert!(is_on(&mount((259, 3), "ext4", "x"), &there, &[]));
        assert!(!is_on(&mount((259, 4), "ext4", "/dev/null"), &here, &[]));
        assert!(is_on(&mount((0, 55), "btrfs", "/dev/null"), &here, &[]));
        assert!(is_on(&mount((0, 55), "btrfs", "/dev/null"), &there, &here));
        assert!(is_on(&mount((0, 55), "bcachefs", "/nowhere:/dev/null"), &here, &[]));
        assert!(!is_on(&mount((0, 55), "btrfs", "/dev/null"), &there, &[]));
        // Whoever mounts a fuse file system chooses its source.
        assert!(!is_on(&mount((0, 55), "fuse.x", "/dev/null"), &here, &[]));
    }

    #[test]
    fn what_is_mounted_here_is_found_once_and_by_a_path_that_leads_there() {
        let own = parse(&fs::read("/proc/self/mountinfo").unwrap());
        let proc = own.iter().find(|mount| mount.point == Path::new("/proc")).unwrap();
        let device = Device { major: proc.device.0, minor: proc.device.1, name: String::new() };
        assert_eq!(mounts_of(&[device]).unwrap().len(), 1);
        let mut found = Found::default();
        let line = |id: u64| format!("{id} 1 7:9 / /proc rw - ext4 /dev/x rw\n").into_bytes();
        let on = [Device { major: 7, minor: 9, name: String::new() }];
        found.add(&line(proc.id + 1_000_000), Path::new("/"), &on, &[]);
        let covered = Found { systems: found.systems.clone() };
        assert_eq!(covered.points().unwrap_err().id, "mount.hidden");
        found.add(&line(mount_id(Path::new("/proc")).unwrap()), Path::new("/"), &on, &[]);
        assert_eq!(found.points().unwrap(), [PathBuf::from("/proc")]);
    }

    #[test]
    fn partitions_and_stacked_devices_belong_to_a_volume() {
        let sysfs = tempfile::tempdir().unwrap();
        let block = sysfs.path().join("block");
        let make = |name: &str, number: &str| {
            fs::create_dir_all(block.join(name).join("holders")).unwrap();
            fs::write(block.join(name).join("dev"), number).unwrap();
        };
        make("ublkb0", "259:0\n");
        make("ublkb0/ublkb0p1", "259:1\n");
        fs::write(block.join("ublkb0/ublkb0p1/partition"), "1\n").unwrap();
        symlink(block.join("ublkb0/ublkb0p1"), block.join("ublkb0p1")).unwrap();
        make("dm-0", "253:0\n");
        make("dm-1", "253:1\n");
        make("ublkb1", "259:5\n");
        fs::create_dir(block.join("ublkb0/queue")).unwrap();
        symlink(block.join("dm-0"), block.join("ublkb0p1/holders/dm-0")).unwrap();
        symlink(block.join("dm-1"), block.join("dm-0/holders/dm-1")).unwrap();
        symlink(block.join("dm-0"), block.join("dm-1/holders/dm-0")).unwrap();
        let names: Vec<_> = devices_of(&block, "ublkb0").into_iter().map(|device| device.name).collect();
        assert_eq!(names, ["dm-0", "dm-1", "ublkb0", "ublkb0p1"]);
        assert_eq!(devices_of(&block, "ublkb7"), []);
        assert_eq!(mounts_of_volume(999_999).unwrap_err().id, "mount.unknown");

        let btrfs = sysfs.path().join("btrfs");
        for (system, members) in [("one", ["ublkb0p1", "ublkb1"]), ("two", ["dm-0", "dm-1"])] {
            fs::create_dir_all(btrfs.join(system).join("devices")).unwrap();
            for member in members {
                symlink(block.join(member), btrfs.join(system).join("devices").join(member)).unwrap();
            }
        }
        let siblings = btrfs_siblings(&btrfs, &devices_of(&block, "ublkb1"));
        assert_eq!(siblings.iter().filter(|sibling| sibling.name == "ublkb0p1").count(), 1);
        assert!(!siblings.iter().any(|sibling| sibling.name == "dm-0"));
    }
}
