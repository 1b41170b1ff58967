//! What this host can do.

use std::fmt;
use std::path::{Path, PathBuf};

use io_uring::{IoUring, Probe, opcode, squeue};

use super::View;
use super::driver::{Driver, Module};
use super::texts::{self, Limit};
use crate::base::Errno;
use crate::export::ublk;

/// The version of the running kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

impl KernelVersion {
    /// That of `major.minor`.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// From a release like `6.12.38+deb13-amd64` or `7.0-rc1`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Who may make io_urings (`kernel.io_uring_disabled`, `kernel.io_uring_group`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingsFor {
    /// Every process.
    Everybody,
    /// Processes with `CAP_SYS_ADMIN`, and those of a group if one is named.
    Privileged {
        /// The number of the group.
        group: Option<u32>,
    },
    /// None.
    Nobody,
}

/// What of ublk devices was found in sysfs and at the driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Devices {
    /// How many there are, of whatever program.
    pub there: usize,
    /// The driver's limit, where it can be read: of all devices before Linux 6.15, of those of ordinary users since.
    pub limit: Option<u32>,
    /// How many of Cleave's devices have no server; `None` when the driver cannot be asked.
    pub unserved: Option<usize>,
}

/// What a process may lock in memory, and has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockedMemory {
    /// The soft limit, if it could be read.
    pub limit: Option<Limit>,
    /// Bytes that are locked, if that could be read.
    pub locked: Option<u64>,
}

/// What was found about this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// The kernel's release as it calls itself.
    pub release: String,
    /// Its version, if the release begins with one.
    pub kernel: Option<KernelVersion>,
    /// The machine's architecture as the kernel names it.
    pub machine: String,
    /// What the distribution calls itself and those that it is like (`ID` and `ID_LIKE` of os-release(5)).
    pub distribution: Vec<String>,
    /// Where the kernel's ublk driver is.
    pub module: Module,
    /// What the driver says of itself.
    pub driver: Driver,
    /// The devices that there are.
    pub devices: Devices,
    /// Who may make io_urings.
    pub rings: RingsFor,
    /// Whether one could be made, and takes the commands of drivers.
    pub ring: Result<bool, Errno>,
    /// Whether udev runs.
    pub udev: bool,
    /// The number of the group `cleave`, if `/etc/group` has it.
    pub readers: Option<u32>,
    /// Whether this process has root's rights by its user.
    pub root: bool,
}

impl Host {
    /// Look at this host. Asking the driver takes some milliseconds, at most the time limit of a control command.
    #[must_use]
    pub fn probe() -> Self {
        let view = View::host();
        let system = rustix::system::uname();
        let release = system.release().to_string_lossy().into_owned();
        let (there, limit) = ublk::occupancy();
        let os_release =
            ["/etc/os-release", "/usr/lib/os-release"].map(read).into_iter().find(Option::is_some);
        Self {
            kernel: KernelVersion::parse(&release),
            machine: system.machine().to_string_lossy().into_owned(),
            distribution: texts::distribution(&os_release.flatten().unwrap_or_default()),
            module: module(&view, &release),
            driver: Driver::of(&ublk::features()),
            devices: Devices { there, limit, unserved: unserved() },
            rings: texts::rings_for(
                &view.proc_file("sys/kernel/io_uring_disabled"),
                &view.proc_file("sys/kernel/io_uring_group"),
            ),
            ring: ring(),
            udev: Path::new("/run/udev/control").exists(),
            readers: texts::group_number(&read("/etc/group").unwrap_or_default(), "cleave"),
            root: rustix::process::geteuid().is_root(),
            release,
        }
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn module(view: &View, release: &str) -> Module {
    let directory = PathBuf::from("/lib/modules").join(release);
    let loaded = view.sys.join("module/ublk_drv").exists() || Path::new("/dev/ublk-control").exists();
    Module::judge(
        loaded,
        directory.is_dir(),
        &read(directory.join("modules.builtin")).unwrap_or_default(),
        &read(directory.join("modules.dep")).unwrap_or_default(),
    )
}

/// How many of Cleave's devices nobody serves.
fn unserved() -> Option<usize> {
    let waits = |device: &&ublk::Existing| {
        device.mark.is_some()
            && matches!(device.state, ublk::DeviceState::Quiesced | ublk::DeviceState::FailIo)
    };
    Some(ublk::existing().ok()?.iter().filter(waits).count())
}

/// Make a ring as the driver is asked through; whether it takes such commands.
fn ring() -> Result<bool, Errno> {
    let ring = IoUring::<squeue::Entry128>::builder().build(4)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    Ok(probe.is_supported(opcode::UringCmd80::CODE))
}

impl View {
    /// What the process `pid`, or this one, may lock in memory and has locked.
    #[must_use]
    pub fn locked_memory(&self, pid: Option<u32>) -> LockedMemory {
        let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        LockedMemory {
            limit: texts::locked_limit(&self.proc_file(&format!("{process}/limits"))),
            locked: texts::locked_bytes(&self.proc_file(&format!("{process}/status"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(KernelVersion::parse("6.12.38+deb13-amd64"), Some(KernelVersion::new(6, 12)));
        assert_eq!(KernelVersion::parse("7.0-rc1"), Some(KernelVersion::new(7, 0)));
        assert_eq!(KernelVersion::parse("unknown"), None);
        assert!(KernelVersion::parse("6.9").unwrap() < KernelVersion::parse("6.12").unwrap());
    }

    #[test]
    fn this_host_has_a_kernel_version() {
        let host = Host::probe();
        assert!(host.kernel.is_some(), "{}", host.release);
        assert!(!host.machine.is_empty());
        if let Driver::Fails { way_out, .. } = &host.driver {
            assert!(!way_out.is_empty());
        }
        let own = View::host().locked_memory(None);
        assert!(own.limit.is_some() && own.locked.is_some(), "{own:?}");
    }
}
