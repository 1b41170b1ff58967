//! What this host can do and who holds a device.
//!
//! Read from `/proc` and `/sys` at the moment of asking; nothing is remembered, nothing is changed. What vanishes while
//! it is read is left out: the answer is a help to a person and a guard against mistakes, not a lock. Media are locked
//! when they are opened.
//!
//! The texts of the kernel are parsed by functions without I/O; [`View`] reads them, of this host or of a copy of the two
//! trees.

mod disks;
mod driver;
mod holders;
mod host;
mod mounts;
mod place;
mod stack;
mod texts;

pub use disks::disks;
pub use driver::{Abilities, Driver, Module};
pub use holders::Holder;
pub use host::{Devices, Host, KernelVersion, LockedMemory, RingsFor};
pub use mounts::Mount;
pub use place::{FileSystem, Form, Nature, Place, Unseen, leads_to, look};
pub use stack::DeviceNumber;
pub use texts::Limit;

use std::path::{Path, PathBuf};

/// Where the kernel's two trees are.
#[derive(Clone, Debug)]
pub struct View {
    proc: PathBuf,
    sys: PathBuf,
}

impl View {
    /// This host's own.
    #[must_use]
    pub fn host() -> Self {
        Self::of(Path::new("/proc"), Path::new("/sys"))
    }

    /// A copy of the trees.
    #[must_use]
    pub fn of(proc: &Path, sys: &Path) -> Self {
        Self { proc: proc.to_owned(), sys: sys.to_owned() }
    }
}

/// Who holds the block device of `number` or what lies on it: mounts, swap areas, device-mapper, md and loop devices
/// (and who holds those), processes that have it open.
#[must_use]
pub fn holders(number: DeviceNumber) -> Vec<Holder> {
    View::host().holders(number)
}

/// The mounts, in any mount namespace, of the block device of `number` and of what is stacked on it.
#[must_use]
pub fn mounts_of(number: DeviceNumber) -> Vec<Mount> {
    View::host().mounts_of(number)
}

/// The kernel's names of the loop devices over the file at `path`: who uses one of them writes to the file, and no lock on the file
/// keeps it from that.
#[must_use]
pub fn loops_over(path: &Path) -> Vec<String> {
    View::host().loops_over(path)
}

/// When the file, directory or block device at `path` lies on a ublk device, through partitions, device-mapper, md, loop
/// devices and file systems: the names of the devices passed, the ublk device last.
///
/// # Errors
/// There is nothing at `path`, or it cannot be looked at.
pub fn ublk_below(path: &Path) -> std::io::Result<Option<Vec<String>>> {
    View::host().ublk_below(path)
}
