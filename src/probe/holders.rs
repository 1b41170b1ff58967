//! Who holds a block device.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::View;
use super::mounts::{Mount, parse_mounts, parse_swaps};
use super::stack::DeviceNumber;

/// One that holds a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holder {
    /// It is mounted.
    Mount(Mount),
    /// It is swapped to.
    Swap {
        /// The kernel's name of the device.
        name: String,
    },
    /// Another device lies on it: a partition is none.
    Layer {
        /// The kernel's name of that device: `dm-0`, `md127`, `loop3`.
        name: String,
    },
    /// A process has it open.
    Process {
        /// Its id.
        pid: u32,
        /// Its command.
        command: String,
        /// Whether it may write.
        writes: bool,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(Mount { point, seen_by: None, .. }) => write!(f, "mounted on {}", point.display()),
            Self::Mount(Mount { point, seen_by: Some(pid), .. }) => {
                write!(f, "mounted on {} in the name space of process {pid}", point.display())
            }
            Self::Swap { name } => write!(f, "{name} is swapped to"),
            Self::Layer { name } => write!(f, "{name} lies on it"),
            Self::Process { pid, command, writes: true } => write!(f, "open in {command} (process {pid})"),
            Self::Process { pid, command, writes: false } => {
                write!(f, "open for reading in {command} (process {pid})")
            }
        }
    }
}

/// Whether an open file's `fdinfo` text says that it may be written: the access mode in its octal flags.
fn may_write(fdinfo: &str) -> bool {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    // What cannot be read counts as the worse.
    flags.is_none_or(|flags| flags & 3 != 0)
}

impl View {
    /// The ids of the processes.
    fn processes(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.proc) else { return Vec::new() };
        let mut found: Vec<u32> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        found.sort_unstable();
        found
    }

    /// The mounts of all mount namespaces; those that this process sees first.
    fn all_mounts(&self) -> Vec<Mount> {
        let mut mounts = parse_mounts(&self.proc_file("self/mountinfo"));
        let space = |who: &str| fs::read_link(self.proc.join(who).join("ns/mnt")).ok();
        let mut known: BTreeSet<PathBuf> = space("self").into_iter().collect();
        for pid in self.processes() {
            // One process of each namespace is asked.
            if space(&pid.to_string()).is_some_and(|space| known.insert(space)) {
                let theirs = parse_mounts(&self.proc_file(&format!("{pid}/mountinfo")));
                // A service manager's sandbox is a copy of the host's tree: what both see is one mount to people.
                let ours = |mount: &Mount| mounts.iter().any(|known| known.is_copy_of(mount));
                let theirs: Vec<_> = theirs.into_iter().filter(|mount| !ours(mount)).collect();
                mounts.extend(theirs.into_iter().map(|mount| Mount { seen_by: Some(pid), ..mount }));
            }
        }
        mounts
    }

    fn mounts_of_stack(&self, stack: &[DeviceNumber]) -> Vec<Mount> {
        let on_stack = |mount: &Mount| {
            stack.contains(&mount.number)
                // A file system without a device number tells its device by name.
                || mount.number.major == 0
                    && mount.source.starts_with('/')
                    && DeviceNumber::of_node(Path::new(&mount.source))
                        .is_ok_and(|number| stack.contains(&number))
        };
        self.all_mounts().into_iter().filter(on_stack).collect()
    }

    /// See [`mounts_of`](super::mounts_of).
    #[must_use]
    pub fn mounts_of(&self, number: DeviceNumber) -> Vec<Mount> {
        self.mounts_of_stack(&self.stack_from(number))
    }

    /// See [`holders`](super::holders).
    #[must_use]
    pub fn holders(&self, number: DeviceNumber) -> Vec<Holder> {
        let stack = self.stack_from(number);
        let mut found: Vec<Holder> = self.mounts_of_stack(&stack).into_iter().map(Holder::Mount).collect();
        for swap in parse_swaps(&self.proc_file("swaps")) {
            if let Ok(number) = DeviceNumber::of_node(&swap)
                && stack.contains(&number)
            {
                found.push(Holder::Swap { name: self.name(number) });
            }
        }
        for above in &stack[1..] {
            if !self.sys.join("dev/block").join(above.to_string()).join("partition").exists() {
                found.push(Holder::Layer { name: self.name(*above) });
            }
        }
        // Who has a device open that lies on this one holds that one, which is listed.
        for pid in self.processes() {
            found.extend(self.opened_by(pid, &stack));
        }
        found
    }

    /// The process as a holder, if it has a device of `stack` open.
    fn opened_by(&self, pid: u32, stack: &[DeviceNumber]) -> Option<Holder> {
        let process = self.proc.join(pid.to_string());
        let mut holds = None;
        for entry in fs::read_dir(process.join("fd")).ok()?.flatten() {
            // Only what can be a node is looked at: looking at a file of a dead network server would hang.
            let node = fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("/dev/"));
            if node && DeviceNumber::of_node(&entry.path()).is_ok_and(|number| stack.contains(&number)) {
                let info = fs::read_to_string(process.join("fdinfo").join(entry.file_name()));
                holds = Some(holds == Some(true) || may_write(&info.unwrap_or_default()));
            }
        }
        let command = fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned();
        Some(Holder::Process { pid, command, writes: holds? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    #[test]
    fn access_modes_are_told_apart() {
        assert!(!may_write("pos:\t0\nflags:\t0100000\nmnt_id:\t12\n"));
        assert!(may_write("pos:\t0\nflags:\t0140002\n"));
        assert!(may_write("pos:\t0\nflags:\t0100001\n"));
        assert!(may_write(""), "what cannot be read counts as the worse");
    }

    #[test]
    fn mounts_of_partitions_and_other_name_spaces_are_found() {
        let root = TempDir::new().unwrap();
        let (proc, sys) = (root.path().join("proc"), root.path().join("sys"));
        let disk = sys.join("devices/ublkb3");
        fs::create_dir_all(disk.join("ublkb3p1")).unwrap();
        fs::create_dir_all(sys.join("dev/block")).unwrap();
        fs::write(disk.join("dev"), "259:3\n").unwrap();
        fs::write(disk.join("ublkb3p1/dev"), "259:4\n").unwrap();
        fs::write(disk.join("ublkb3p1/partition"), "1\n").unwrap();
        symlink(&disk, sys.join("dev/block/259:3")).unwrap();
        symlink(disk.join("ublkb3p1"), sys.join("dev/block/259:4")).unwrap();
        for (process, space, text) in [
            (
                "self",
                "mnt:[1]",
                "36 35 8:0 / / rw - ext4 /dev/sda rw\n37 35 259:4 / /srv rw - xfs /dev/ublkb3p1 rw\n",
            ),
            ("77", "mnt:[1]", ""),
            (
                "88",
                "mnt:[2]",
                "49 35 259:4 / /srv rw - xfs /dev/ublkb3p1 rw\n50 35 259:3 / /inside rw - ext4 /dev/ublkb3 rw\n",
            ),
            ("99", "mnt:[2]", "51 35 259:3 / /again rw - ext4 /dev/ublkb3 rw\n"),
        ] {
            fs::create_dir_all(proc.join(process).join("ns")).unwrap();
            symlink(space, proc.join(process).join("ns/mnt")).unwrap();
            fs::write(proc.join(process).join("mountinfo"), text).unwrap();
        }
        let view = View::of(&proc, &sys);
        let told: Vec<String> =
            view.holders(DeviceNumber { major: 259, minor: 3 }).iter().map(Holder::to_string).collect();
        assert_eq!(told, ["mounted on /srv", "mounted on /inside in the name space of process 88"]);
        assert_eq!(view.mounts_of(DeviceNumber { major: 259, minor: 4 }).len(), 1);
        assert!(view.holders(DeviceNumber { major: 8, minor: 99 }).is_empty());
    }
}
