//! How block devices lie on each other, from `/sys/dev/block` and `/sys/block`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::View;
use super::mounts::parse_mounts;

/// Stacks are a few devices high; one that is higher than this is a circle that the kernel should not have made.
const DEEPEST: usize = 32;

/// The number of a block device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device of the driver.
    pub minor: u32,
}

impl DeviceNumber {
    /// From `MAJOR:MINOR`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// From a `dev_t`.
    #[must_use]
    pub fn from_raw(number: u64) -> Self {
        Self { major: rustix::fs::major(number), minor: rustix::fs::minor(number) }
    }

    /// The number of the block device node at `path`.
    ///
    /// # Errors
    /// There is nothing, or it is not a block device (`ENOTBLK`).
    pub fn of_node(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        if !found.file_type().is_block_device() {
            return Err(io::Error::from_raw_os_error(libc::ENOTBLK));
        }
        Ok(Self::from_raw(found.rdev()))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn number_in(directory: &Path) -> Option<DeviceNumber> {
    DeviceNumber::parse(&fs::read_to_string(directory.join("dev")).ok()?)
}

impl View {
    pub(super) fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(self.proc.join(name)).unwrap_or_default()
    }

    fn directory(&self, number: DeviceNumber) -> PathBuf {
        self.sys.join("dev/block").join(number.to_string())
    }

    /// The kernel's name of a device: `sda1`, `dm-0`.
    pub(super) fn name(&self, number: DeviceNumber) -> String {
        let name = fs::canonicalize(self.directory(number))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        name.unwrap_or_else(|| number.to_string())
    }

    /// The file behind a loop device.
    fn backing_file(&self, number: DeviceNumber) -> Option<PathBuf> {
        let text = fs::read_to_string(self.directory(number).join("loop/backing_file")).ok()?;
        // A file that was removed while the loop device holds it has no name to follow.
        let name = text.strip_suffix('\n').unwrap_or(&text);
        (!name.ends_with(" (deleted)")).then(|| name.into())
    }

    /// The kernel's names of the loop devices over the file at `path`.
    pub(super) fn loops_over(&self, path: &Path) -> Vec<String> {
        let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        let Some(wanted) = identity(path) else { return Vec::new() };
        let over = |disk: PathBuf| {
            let number = number_in(&disk).filter(|_| disk.join("loop").exists())?;
            let file = self.backing_file(number)?;
            (identity(&file) == Some(wanted)).then(|| self.name(number))
        };
        entries(&self.sys.join("block")).into_iter().filter_map(over).collect()
    }

    /// The devices that lie directly on `number`: partitions, device-mapper and md, loop devices over its node.
    pub(super) fn above(&self, number: DeviceNumber) -> Vec<DeviceNumber> {
        let directory = self.directory(number);
        let partitions = entries(&directory).into_iter().filter(|path| path.join("partition").exists());
        let holders = entries(&directory.join("holders"));
        let mut found: BTreeSet<DeviceNumber> =
            partitions.chain(holders).filter_map(|path| number_in(&path)).collect();
        for disk in entries(&self.sys.join("block")) {
            let Some(above) = number_in(&disk).filter(|_| disk.join("loop").exists()) else { continue };
            let node = self.backing_file(above).and_then(|file| DeviceNumber::of_node(&file).ok());
            if node == Some(number) {
                found.insert(above);
            }
        }
        found.into_iter().collect()
    }

    /// `number` and everything that is stacked on it.
    pub(super) fn stack_from(&self, number: DeviceNumber) -> Vec<DeviceNumber> {
        let mut found = vec![number];
        let mut at = 0;
        while let Some(next) = found.get(at).copied() {
            for above in self.above(next) {
                if !found.contains(&above) {
                    found.push(above);
                }
            }
            at += 1;
        }
        found
    }

    /// See [`ublk_below`](super::ublk_below).
    ///
    /// # Errors
    /// As there.
    pub fn ublk_below(&self, path: &Path) -> io::Result<Option<Vec<String>>> {
        let found = fs::metadata(path)?;
        let mut passed = Vec::new();
        let numbers = if found.file_type().is_block_device() {
            vec![DeviceNumber::from_raw(found.rdev())]
        } else {
            self.devices_of_file(path, found.dev())
        };
        let below = numbers.into_iter().any(|number| self.descend(number, &mut passed));
        Ok(below.then_some(passed))
    }

    /// The block devices that hold a file: that of its file system, or of the mount for a file system whose files have
    /// numbers of their own.
    fn devices_of_file(&self, path: &Path, device: u64) -> Vec<DeviceNumber> {
        let number = DeviceNumber::from_raw(device);
        if number.major != 0 {
            return vec![number];
        }
        let Ok(path) = fs::canonicalize(path) else { return Vec::new() };
        // The last of the deepest mounts is the one that is seen.
        parse_mounts(&self.proc_file("self/mountinfo"))
            .into_iter()
            .filter(|mount| path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.components().count())
            .and_then(|mount| DeviceNumber::of_node(Path::new(&mount.source)).ok())
            .into_iter()
            .collect()
    }

    /// Go down from `number`; true when a ublk device is met, with the names passed in `passed`.
    fn descend(&self, number: DeviceNumber, passed: &mut Vec<String>) -> bool {
        if passed.len() >= DEEPEST {
            return false;
        }
        let name = self.name(number);
        passed.push(name.clone());
        if name.strip_prefix("ublkb").is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_digit())) {
            return true;
        }
        let directory = self.directory(number);
        let mut below: Vec<DeviceNumber> =
            entries(&directory.join("slaves")).iter().filter_map(|path| number_in(path)).collect();
        if directory.join("partition").exists() {
            // The directory of a partition lies in that of its disk.
            let disk = fs::canonicalize(&directory).ok().and_then(|path| number_in(path.parent()?));
            below.extend(disk);
        }
        if let Some(file) = self.backing_file(number)
            && let Ok(found) = fs::metadata(&file)
        {
            if found.file_type().is_block_device() {
                below.push(DeviceNumber::from_raw(found.rdev()));
            } else {
                below.extend(self.devices_of_file(&file, found.dev()));
            }
        }
        if below.into_iter().any(|next| self.descend(next, passed)) {
            return true;
        }
        passed.pop();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A sysfs with a ublk disk 259:0, its partition 259:1, a dm device 253:0 on the partition, and a plain disk 8:0.
    fn tree() -> (TempDir, View) {
        let root = TempDir::new().unwrap();
        let sys = root.path().join("sys");
        let devices = sys.join("devices/virtual/block");
        let disk = |path: &Path, number: &str| {
            fs::create_dir_all(path.join("holders")).unwrap();
            fs::create_dir_all(path.join("slaves")).unwrap();
            fs::write(path.join("dev"), format!("{number}\n")).unwrap();
            fs::create_dir_all(sys.join("dev/block")).unwrap();
            symlink(path, sys.join("dev/block").join(number)).unwrap();
        };
        let (ublk, part) = (devices.join("ublkb0"), devices.join("ublkb0/ublkb0p1"));
        disk(&ublk, "259:0");
        disk(&part, "259:1");
        fs::write(part.join("partition"), "1\n").unwrap();
        disk(&devices.join("dm-0"), "253:0");
        disk(&devices.join("sda"), "8:0");
        symlink(devices.join("dm-0"), part.join("holders/dm-0")).unwrap();
        symlink(&part, devices.join("dm-0/slaves/ublkb0p1")).unwrap();
        let view = View::of(&root.path().join("proc"), &sys);
        (root, view)
    }

    fn number(text: &str) -> DeviceNumber {
        DeviceNumber::parse(text).unwrap()
    }

    #[test]
    fn a_stack_is_walked_up_and_down() {
        let (_root, view) = tree();
        let numbers = ["259:0", "259:1", "253:0"].map(number);
        assert_eq!(view.stack_from(numbers[0]), numbers);
        assert_eq!(view.stack_from(number("8:0")), [number("8:0")]);
        let mut passed = Vec::new();
        assert!(view.descend(number("253:0"), &mut passed));
        assert_eq!(passed, ["dm-0", "ublkb0p1", "ublkb0"]);
        let mut passed = Vec::new();
        assert!(!view.descend(number("8:0"), &mut passed));
        assert!(passed.is_empty());
        assert!(!view.descend(number("1:1"), &mut passed), "a device that sysfs does not know");
    }

    #[test]
    fn a_loop_device_over_a_file_is_found_by_the_file_and_not_by_its_name() {
        let (root, view) = tree();
        let (file, other) = (root.path().join("image"), root.path().join("other"));
        fs::write(&file, "x").unwrap();
        fs::write(&other, "x").unwrap();
        fs::hard_link(&file, root.path().join("link")).unwrap();
        let devices = root.path().join("sys/devices/virtual/block");
        fs::create_dir_all(devices.join("loop3/loop")).unwrap();
        fs::write(devices.join("loop3/dev"), "7:3\n").unwrap();
        fs::write(devices.join("loop3/loop/backing_file"), format!("{}\n", file.display())).unwrap();
        symlink(devices.join("loop3"), root.path().join("sys/dev/block/7:3")).unwrap();
        fs::create_dir_all(root.path().join("sys/block")).unwrap();
        symlink(devices.join("loop3"), root.path().join("sys/block/loop3")).unwrap();
        assert_eq!(view.loops_over(&file), ["loop3"]);
        assert_eq!(view.loops_over(&root.path().join("link")), ["loop3"]);
        assert!(
            view.loops_over(&other).is_empty() && view.loops_over(&root.path().join("nosuch")).is_empty()
        );
    }

    #[test]
    fn a_circle_ends() {
        let (_root, view) = tree();
        let sda = fs::canonicalize(view.directory(number("8:0"))).unwrap();
        symlink(&sda, sda.join("slaves/sda")).unwrap();
        symlink(&sda, sda.join("holders/sda")).unwrap();
        assert!(!view.descend(number("8:0"), &mut Vec::new()));
        assert_eq!(view.stack_from(number("8:0")).len(), 1);
    }

    #[test]
    fn numbers_are_read_or_refused() {
        assert_eq!(DeviceNumber::parse("259:12\n"), Some(DeviceNumber { major: 259, minor: 12 }));
        assert_eq!(DeviceNumber::parse("259"), None);
        assert_eq!(DeviceNumber::parse("a:b"), None);
        let wrong = DeviceNumber::of_node(Path::new("/dev/null")).unwrap_err();
        assert_eq!(wrong.raw_os_error(), Some(libc::ENOTBLK));
    }
}
