//! What the daemon stands on, as one trait: threads, time, media, state directories, devices.
//!
//! [`ThisHost`](super::this_host::ThisHost) is the real one. The simulator has another, in one thread and under a clock of
//! its own, so that the verbs and the recovery that are tried against a million crashes are the daemon's own.
//!
//! Contract: nothing blocks the caller, who runs on the owner's thread; what takes long is awaited. A future that was
//! polled once may be dropped at any moment, with the process: what it had begun may or may not come to pass then.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use crate::base::{Affinity, Errno, Name, Refused, Uuid};
use crate::bitmap::SharedWords;
use crate::catalog::StateFiles;
use crate::control::row::IoCounts;
use crate::device::{Flushes, Host, Moment, SharedFlushes};
use crate::export::ublk::{DataMode, DeviceMark, DeviceOptions};
use crate::ring::{Allocation, Identity, MediaKind, MediumError, Opening};
use crate::state::place::Room;
use crate::state::{Noted, PoolMedium};
use crate::volume::Volume;

use super::udev::Entry;

/// A thread that runs devices, as others see it.
pub trait Ring: Clone + 'static {
    /// What it offers to the code on it.
    type Host: Host;

    /// Run `start` on the thread and its future as a task there. The receiver gets the outcome, or an error when the thread
    /// ends first.
    fn run<T, F, Fut>(&self, start: F) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        F: FnOnce(Self::Host) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static;
}

/// An open, locked medium: the lock goes with the last clone.
pub trait OpenMedium: Clone + Send + Sync + 'static {
    /// The name it was opened by.
    fn path(&self) -> &Path;
    /// What tells it from others, whatever it is called.
    fn identity(&self) -> Identity;
    /// Bytes that it had when it was opened.
    fn length(&self) -> u64;
    /// Unit and alignment of offsets and lengths, in bytes.
    fn block_size(&self) -> u32;
    /// Alignment that memory needs, in bytes.
    fn memory_alignment(&self) -> u32;
    /// Bytes that it has now.
    ///
    /// # Errors
    /// The system call's.
    fn size_now(&self) -> Result<u64, Errno>;
    /// What stands at its path now.
    ///
    /// # Errors
    /// The system call's.
    fn name_now(&self) -> Result<crate::ring::Name, Errno>;
    /// The same, with its labels on another one.
    #[must_use]
    fn with_labels(self, labels: Self) -> Self;
    /// The medium that has its labels: itself, or another one.
    #[must_use]
    fn labels(&self) -> Self;
    /// Whether it is a file or a disk.
    fn kind(&self) -> MediaKind {
        match self.identity() {
            Identity::File { .. } => MediaKind::File,
            Identity::Disk { .. } => MediaKind::Disk,
        }
    }
}

/// A device that serves.
pub trait Shown: 'static {
    /// What it was asked for; nothing where nobody counts.
    fn counts(&self) -> IoCounts {
        IoCounts::default()
    }
    /// N of `/dev/ublkbN`.
    fn id(&self) -> u32;
    /// How its data travel.
    fn data(&self) -> DataMode;
    /// How many queues it has.
    fn queues(&self) -> u16;
    /// Whether file systems on it leave pages alone while they are written.
    fn keeps_pages_still(&self) -> bool;
    /// How many operations at media have pages of its requests.
    fn lent(&self) -> u32;
    /// Fail the requests in hand and all that come.
    fn cut_off(&self);
}

/// A device that there is, whoever made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Living {
    /// N of `/dev/ublkbN`.
    pub id: u32,
    /// Bytes that it has; 0 before it was given its size.
    pub length: u64,
    /// The mark that it bears, if Cleave made it.
    pub mark: Option<DeviceMark>,
    /// Whether it can be taken over: it is served, or waits for somebody to serve it.
    pub recoverable: bool,
}

/// What stands at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// A directory.
    Directory,
    /// A block device.
    Disk,
    /// A file or anything else.
    Other,
}

/// Between two looks at files that cannot be watched. One that was cut off is found by the next read or write of it anyway.
pub const UNWATCHED: Duration = Duration::from_secs(5);

/// What is free on a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// What tells file systems apart.
    pub device: u64,
    /// Bytes free.
    pub free: u64,
    /// Bytes that files have and have not taken yet.
    pub promised: u64,
}

/// What the daemon stands on. Cheap to clone; clones are the same one.
pub trait Machine: Clone + 'static {
    /// A ring thread.
    type Ring: Ring<Host: Host<Medium = Self::Medium>>;
    /// An open medium.
    type Medium: OpenMedium;
    /// A locked state directory.
    type Files: StateFiles + Send + 'static;
    /// A device that serves.
    type Device: Shown;
    /// File systems that are frozen, thawed when this is dropped.
    type Frozen: 'static;

    /// The monotonic clock.
    fn now(&self) -> Moment;
    /// Completes after `span`.
    fn sleep(&self, span: Duration) -> impl Future<Output = ()>;
    /// Be told of what happens to `files` from the moment on at which this completes: its outcome completes when one of them may
    /// have another name or another end. Where they cannot be watched it does so after [`UNWATCHED`].
    fn watch(&self, _files: Vec<PathBuf>) -> impl Future<Output = impl Future<Output = ()>> {
        std::future::ready(self.sleep(UNWATCHED))
    }
    /// The clock on the wall.
    fn wall(&self) -> SystemTime;
    /// Run `task` on the owner's thread beside the caller.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// Run `work`, which may block on files, off the owner's thread.
    fn worker<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static)
    -> impl Future<Output = T>;
    /// Random bytes.
    ///
    /// # Errors
    /// The source cannot be read.
    fn seed(&self) -> Result<[u8; 32], Refused>;

    /// Whether devices can be served from their requests' own pages.
    fn zero_copy(&self) -> impl Future<Output = bool>;

    /// See [`crate::ring::Medium::open`].
    fn open(&self, path: &Path, opening: Opening) -> impl Future<Output = Result<Self::Medium, MediumError>>;
    /// See [`crate::ring::Medium::create_file`].
    fn create_file(
        &self,
        path: &Path,
        bytes: u64,
        allocation: Allocation,
    ) -> impl Future<Output = Result<Self::Medium, MediumError>>;
    /// See [`crate::ring::Medium::enlarge`]; nothing is enlarged where a machine cannot.
    fn enlarge(
        &self,
        medium: &Self::Medium,
        _bytes: u64,
        _allocation: Allocation,
    ) -> impl Future<Output = Result<u64, MediumError>> {
        let step = crate::ring::Fault::System { step: "extend" };
        let error = MediumError::new(medium.path(), step, Some(Errno::UNSUPPORTED));
        std::future::ready(Err(error))
    }
    /// See [`crate::ring::Medium::shorten`]; what is too long stays so where a machine cannot.
    fn shorten(&self, _medium: &Self::Medium, _bytes: u64) -> impl Future<Output = Result<(), MediumError>> {
        std::future::ready(Ok(()))
    }
    /// What stands at `path`, links followed.
    ///
    /// # Errors
    /// The system call's.
    fn standing(&self, path: &Path) -> impl Future<Output = io::Result<Standing>>;
    /// What tells the medium at `path` from others, if there is one.
    fn identity_at(&self, path: &Path) -> impl Future<Output = Option<Identity>>;
    /// What the file at `path` looks like, if there is one.
    fn look(&self, path: &Path) -> impl Future<Output = Option<Noted>>;
    /// When `path`, or the directory in which it would be made, lies on a ublk device: the names of the devices passed on the
    /// way down, that one last. What cannot be looked at lies on none.
    fn ublk_below(&self, _path: &Path) -> impl Future<Output = Option<Vec<String>>> {
        std::future::ready(None)
    }
    /// The names of the loop devices over the file at `path`.
    fn loops_over(&self, _path: &Path) -> impl Future<Output = Vec<String>> {
        std::future::ready(Vec::new())
    }
    /// What is free below `directory`, and what the sparse `files` may still take of it; none where that cannot be seen.
    fn usage(&self, _directory: &Path, _files: Vec<PathBuf>) -> impl Future<Output = Option<Usage>> {
        std::future::ready(None)
    }
    /// The disks of this host on which a plex may lie, each by a path that stays the same.
    fn disks(&self) -> impl Future<Output = Vec<PathBuf>> {
        std::future::ready(Vec::new())
    }
    /// What there is of a pool medium.
    fn room(&self, medium: &PoolMedium) -> impl Future<Output = Room>;
    /// Remove the file at `path` so that it stays removed; nothing happens when there is none.
    ///
    /// # Errors
    /// The system call's.
    fn remove_durably(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Where the flushes of `plex` are counted, in memory that the end of the process does not take and that of the host does.
    /// New counts where a machine has no such memory.
    ///
    /// # Errors
    /// The system call's.
    fn flushes(&self, _plex: Uuid) -> impl Future<Output = io::Result<SharedFlushes>> {
        std::future::ready(Ok(SharedFlushes::new(Flushes::default())))
    }
    /// Nobody will ask for the counts of `plex` any more.
    fn forget_flushes(&self, _plex: Uuid) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// Where the regions of `volume` are noted that may hold writes not flushed everywhere: `bytes` of such memory.
    ///
    /// # Errors
    /// The system call's, or a machine has no such memory.
    fn unflushed(&self, _volume: Uuid, _bytes: u64) -> impl Future<Output = io::Result<SharedWords>> {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
    /// What the memory of `volume` says counts for nothing any more; who asks next gets new memory.
    fn forget_unflushed(&self, _volume: Uuid) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// Make a directory that only root may look into, where it is missing.
    ///
    /// # Errors
    /// `system.failed`.
    fn make_directory(&self, path: &Path) -> impl Future<Output = Result<(), Refused>>;
    /// The state directories below `root`.
    ///
    /// # Errors
    /// `state.directory`.
    fn group_directories(&self, root: &Path) -> impl Future<Output = Result<Vec<PathBuf>, Refused>>;
    /// The directories below `root` in which the making or removal of a group was interrupted, perhaps; none where a
    /// machine keeps no such directories.
    ///
    /// # Errors
    /// `state.directory`.
    fn unsettled_directories(&self, _root: &Path) -> impl Future<Output = Result<Vec<PathBuf>, Refused>> {
        std::future::ready(Ok(Vec::new()))
    }
    /// Whether it is known that nothing was ever written to the first `length` bytes of a file.
    fn holds_no_data(&self, _path: &Path, _length: u64) -> impl Future<Output = bool> {
        std::future::ready(false)
    }
    /// Make a state directory where it is missing, and lock it.
    ///
    /// # Errors
    /// `state.directory`, `state.locked`.
    fn create_files(&self, path: &Path) -> impl Future<Output = Result<Self::Files, Refused>>;
    /// Lock a state directory.
    ///
    /// # Errors
    /// `state.directory`, `state.locked`.
    fn open_files(&self, path: &Path) -> impl Future<Output = Result<Self::Files, Refused>>;

    /// Whether a device that is in use can change its length.
    fn can_resize(&self) -> impl Future<Output = bool> {
        std::future::ready(false)
    }
    /// Give the device `number`, which this machine serves, `length` bytes.
    ///
    /// # Errors
    /// It cannot, or the driver's.
    fn resize(&self, number: u32, _length: u64) -> impl Future<Output = Result<(), Refused>> {
        let refused = super::owner::system(
            format_args!("/dev/ublkb{number}"),
            "the length of a device in use cannot be changed",
            Errno::UNSUPPORTED,
        );
        std::future::ready(Err(refused))
    }
    /// The ublk devices that there are, whoever made them.
    ///
    /// # Errors
    /// The driver cannot be asked.
    fn devices(&self) -> impl Future<Output = Result<Vec<Living>, Refused>>;
    /// Remove the devices of the daemon before this one that are not among the `known` and that nobody has open; their
    /// numbers. None where it is not known whose a device was.
    fn remove_strays(&self, _known: BTreeSet<DeviceMark>) -> impl Future<Output = Vec<u32>> {
        std::future::ready(Vec::new())
    }
    /// Show `volume` as a new device, of which `entry` says what it is.
    ///
    /// # Errors
    /// What keeps it from serving; nothing of it is left.
    fn add(
        &self,
        options: DeviceOptions,
        entry: Entry,
        volume: Arc<Volume<Self::Medium>>,
    ) -> impl Future<Output = Result<Self::Device, Refused>>;
    /// Serve the device `number` of a daemon that is gone, waiting at most `patience` for the last of what that one did, on queue
    /// threads with `affinity`.
    ///
    /// # Errors
    /// What keeps it from serving; it goes on waiting for a daemon.
    fn recover(
        &self,
        number: u32,
        patience: Duration,
        affinity: Affinity,
        volume: Arc<Volume<Self::Medium>>,
    ) -> impl Future<Output = Result<Self::Device, Refused>>;
    /// End a device, with requests that take longer than `limit` failed.
    ///
    /// # Errors
    /// It does not end.
    fn stop(&self, device: Self::Device, limit: Duration) -> impl Future<Output = Result<(), Refused>>;
    /// [`Machine::stop`] for a device below which something may hang; whether requests were failed.
    ///
    /// # Errors
    /// It does not end.
    fn force(&self, device: Self::Device, limit: Duration) -> impl Future<Output = Result<bool, Refused>> {
        async move { self.stop(device, limit).await.map(|()| false) }
    }
    /// Keep everybody from opening the device `number`, which this machine serves and is about to stop; false, and nothing
    /// was done, when somebody has it open. True as well where that cannot be asked and done in one step: who holds the
    /// device is only known by [`Machine::holders`] then.
    ///
    /// # Errors
    /// The driver's.
    fn withhold(&self, _number: u32, _limit: Duration) -> impl Future<Output = Result<bool, Refused>> {
        std::future::ready(Ok(true))
    }
    /// End a device that this machine does not serve: what waits for its daemon fails. Nothing happens where a machine has
    /// no such devices.
    ///
    /// # Errors
    /// There is none, or it does not end within `limit`.
    fn delete(&self, _number: u32, _limit: Duration) -> impl Future<Output = Result<(), Refused>> {
        std::future::ready(Ok(()))
    }
    /// Wait at most `limit` for the node of the device `number`, then make the links of `entry`. What stands in the way of a
    /// link is told.
    ///
    /// # Errors
    /// The node does not appear.
    fn make_links(
        &self,
        entry: &Entry,
        number: u32,
        limit: Duration,
    ) -> impl Future<Output = Result<Vec<Refused>, Refused>>;
    /// Remove the links of a volume.
    ///
    /// # Errors
    /// One cannot be removed.
    fn remove_links(&self, group: &Name, volume: &Name) -> impl Future<Output = Result<(), Refused>>;
    /// Remove all links of volumes that are not in `keep`.
    ///
    /// # Errors
    /// One cannot be removed.
    fn sweep_links(&self, keep: BTreeSet<(Name, Name, u32)>) -> impl Future<Output = Result<(), Refused>>;
    /// Who has the device open, as people are told it.
    fn holders(&self, number: u32) -> impl Future<Output = Vec<String>>;

    /// Where file systems on the device are mounted.
    ///
    /// # Errors
    /// That cannot be told.
    fn mounts(&self, number: u32) -> impl Future<Output = Result<Vec<PathBuf>, Refused>>;
    /// Freeze file systems, all or none, for at most `limit`.
    ///
    /// # Errors
    /// `freeze.*`; nothing is frozen.
    fn freeze(
        &self,
        points: Vec<PathBuf>,
        limit: Duration,
    ) -> impl Future<Output = Result<Self::Frozen, Refused>>;
    /// Thaw them: how long they were frozen.
    ///
    /// # Errors
    /// They were let go before.
    fn thaw(&self, frozen: Self::Frozen) -> impl Future<Output = Result<Duration, Refused>>;
    /// Thaw what a cut may have left frozen whose daemon and guard died together (ordering rule 12); where that was.
    fn thaw_left_over(&self, number: u32) -> impl Future<Output = Vec<PathBuf>>;
}
