//! The real machine: ring threads, tokio's timers and blocking pool, files and disks, the ublk driver.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use crate::base::limits::SECTOR_BYTES;
use crate::base::{Affinity, Errno, Name, Refused, Uuid};
use crate::bitmap::SharedWords;
use crate::catalog::Directory;
use crate::control::row::IoCounts;
use crate::device::{Moment, SharedFlushes};
use crate::export::ublk::{
    self, DataMode, DeviceMark, DeviceOptions, DeviceState, Existing, ExportFault, TryStop, UblkDevice,
};
use crate::probe::DeviceNumber;
use crate::ring::shared::{SharedMemory, this_boot};
use crate::ring::{Allocation, Identity, Medium, MediumError, Opening, RingHandle, RingHost};
use crate::state::place::Room;
use crate::state::{Noted, PoolMedium};
use crate::volume::{Volume, VolumeQueue};

use super::freeze::{self, FreezeSet};
use super::machine::{Living, Machine, OpenMedium, Ring, Shown, Standing, UNWATCHED, Usage};
use super::owner::system;
use super::startup::RUN_DIRECTORY;
use super::udev::{self, Entry};
use super::{links, mounts, watch};

/// Where nodes and links are.
const DEV: &str = "/dev";

/// Where the flushes of plexes are counted and the unflushed regions of volumes noted, a file each: below what is on a tmpfs on
/// every host that systemd runs.
const FLUSHES: &str = "flushes";
const UNFLUSHED: &str = "unflushed";

/// How long the removal of a device that no volume has may take.
const STRAY_LIMIT: Duration = Duration::from_secs(10);

/// Set when the daemon before this one had the same state directory: what it left is told from that of a daemon with
/// another one, whose records nobody has read.
static SAME_STATE: OnceLock<()> = OnceLock::new();

/// Note that the daemon before this one had the same state directory.
pub(super) fn note_same_state() {
    // Once a process.
    let _ = SAME_STATE.set(());
}

/// Memory of this boot for `owner`.
fn shared_memory(kind: &str, owner: Uuid, bytes: u64) -> io::Result<SharedMemory> {
    let directory = Path::new(RUN_DIRECTORY).join(kind);
    match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    SharedMemory::open(&directory.join(owner.to_string()), bytes, this_boot()?)
}

/// Give such memory back. What is left behind goes with the next boot.
fn forget_memory(kind: &str, owner: Uuid) {
    let _ = std::fs::remove_file(Path::new(RUN_DIRECTORY).join(kind).join(owner.to_string()));
}

/// The host that the process runs on. Its tasks need a `LocalSet` of tokio around them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ThisHost;

impl Ring for RingHandle {
    type Host = RingHost;

    fn run<T, F, Fut>(&self, start: F) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        F: FnOnce(RingHost) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        Self::run(self, start)
    }
}

impl OpenMedium for Medium {
    fn path(&self) -> &Path {
        Self::path(self)
    }

    fn identity(&self) -> Identity {
        Self::identity(self)
    }

    fn length(&self) -> u64 {
        Self::length(self)
    }

    fn block_size(&self) -> u32 {
        Self::block_size(self)
    }

    fn memory_alignment(&self) -> u32 {
        Self::memory_alignment(self)
    }

    fn size_now(&self) -> Result<u64, Errno> {
        Self::size_now(self)
    }

    fn name_now(&self) -> Result<crate::ring::Name, Errno> {
        Self::name_now(self)
    }

    fn with_labels(self, labels: Self) -> Self {
        Self::with_labels(self, labels)
    }

    fn labels(&self) -> Self {
        Self::labels(self)
    }
}

/// What stands in `/sys/block/DEVICE/stat` (the kernel's Documentation/block/stat.rst; flushes from Linux 5.5 on).
fn counts_of(text: &str) -> IoCounts {
    let numbers: Vec<u64> = text.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let at = |place: usize| numbers.get(place).copied().unwrap_or(0);
    let bytes = |place| at(place).saturating_mul(SECTOR_BYTES);
    IoCounts {
        reads: at(0),
        read_bytes: bytes(2),
        read_ms: at(3),
        writes: at(4),
        write_bytes: bytes(6),
        write_ms: at(7),
        in_flight: at(8),
        flushes: at(15),
    }
}

impl Shown for UblkDevice {
    fn counts(&self) -> IoCounts {
        let stat = std::fs::read_to_string(format!("/sys/block/ublkb{}/stat", Self::id(self)));
        stat.map(|text| counts_of(&text)).unwrap_or_default()
    }

    fn id(&self) -> u32 {
        Self::id(self)
    }

    fn data(&self) -> DataMode {
        Self::data(self)
    }

    fn queues(&self) -> u16 {
        u16::try_from(Self::queues(self).count()).unwrap_or(u16::MAX)
    }

    fn keeps_pages_still(&self) -> bool {
        self.stable_writes()
    }

    fn lent(&self) -> u32 {
        Self::lent(self)
    }

    fn cut_off(&self) {
        Self::cut_off(self);
    }
}

/// Run blocking `work` on a worker of tokio's pool.
async fn worker<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // A worker that panics has ended the process: panics abort.
    tokio::task::spawn_blocking(work).await.expect("workers are never cancelled")
}

fn queue_of(
    volume: Arc<Volume<Medium>>,
) -> impl Fn(ublk::QueueHost) -> VolumeQueue<ublk::QueueHost> + Clone + Send + Sync + 'static {
    move |host| VolumeQueue::new(host, Arc::clone(&volume)).expect("one lane for each queue")
}

/// Say what device `number` is where udev looks, and have udev look once its links stand. A host may have no udev, and one
/// that is told nothing leaves the device alone.
fn tell_udev(number: u32, entry: &Entry, is_ready: bool) {
    let told = udev::tell(Path::new(udev::DIRECTORY), number, entry, is_ready).and_then(|is_news| {
        match is_news && is_ready {
            true => udev::send_change(number),
            false => Ok(()),
        }
    });
    if let Err(error) = told {
        tracing::warn!(number, "udev cannot be told what the device is: {error}");
    }
}

fn forget_for_udev(number: u32) {
    if let Err(error) = udev::forget(Path::new(udev::DIRECTORY), number) {
        tracing::warn!(number, "what udev is told of a device that is gone stays: {error}");
    }
}

fn number_is_taken(wanted: Option<u32>) -> bool {
    ublk::existing().is_ok_and(|all| all.iter().any(|device| Some(device.id) == wanted))
}

impl Machine for ThisHost {
    type Ring = RingHandle;
    type Medium = Medium;
    type Files = Directory;
    type Device = UblkDevice;
    type Frozen = FreezeSet;

    fn now(&self) -> Moment {
        static START: OnceLock<Instant> = OnceLock::new();
        let passed = START.get_or_init(Instant::now).elapsed();
        Moment(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX))
    }

    async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    async fn watch(&self, files: Vec<PathBuf>) -> impl Future<Output = ()> {
        let watch = worker(move || watch::begin(&files)).await;
        async move {
            let told = match watch {
                Ok(watch) => watch::told(watch).await,
                Err(error) => Err(error),
            };
            if told.is_err() {
                tokio::time::sleep(UNWATCHED).await;
            }
        }
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    async fn zero_copy(&self) -> bool {
        worker(|| ublk::features().is_ok_and(ublk::Features::zero_copy)).await
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    async fn worker<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        worker(work).await
    }

    fn seed(&self) -> Result<[u8; 32], Refused> {
        let mut seed = [0; 32];
        let mut filled = 0;
        while filled < seed.len() {
            match rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    let errno = Errno::from_raw(error.raw_os_error());
                    return Err(system("random source", "cannot be read", errno));
                }
            }
        }
        Ok(seed)
    }

    async fn open(&self, path: &Path, opening: Opening) -> Result<Medium, MediumError> {
        let path = path.to_owned();
        worker(move || Medium::open(&path, opening)).await
    }

    async fn create_file(
        &self,
        path: &Path,
        bytes: u64,
        allocation: Allocation,
    ) -> Result<Medium, MediumError> {
        let path = path.to_owned();
        worker(move || Medium::create_file(&path, bytes, allocation)).await
    }

    async fn enlarge(&self, medium: &Medium, bytes: u64, allocation: Allocation) -> Result<u64, MediumError> {
        let medium = medium.clone();
        worker(move || medium.enlarge(bytes, allocation)).await
    }

    async fn shorten(&self, medium: &Medium, bytes: u64) -> Result<(), MediumError> {
        let medium = medium.clone();
        worker(move || medium.shorten(bytes)).await
    }

    async fn can_resize(&self) -> bool {
        worker(|| ublk::features().is_ok_and(ublk::Features::resize)).await
    }

    async fn resize(&self, number: u32, length: u64) -> Result<(), Refused> {
        worker(move || ublk::resize(number, length)).await.map_err(Refused::from)
    }

    async fn standing(&self, path: &Path) -> io::Result<Standing> {
        let path = path.to_owned();
        let found = worker(move || std::fs::metadata(path)).await?;
        Ok(match found.file_type() {
            kind if kind.is_dir() => Standing::Directory,
            kind if kind.is_block_device() => Standing::Disk,
            _ => Standing::Other,
        })
    }

    async fn ublk_below(&self, path: &Path) -> Option<Vec<String>> {
        let path = path.to_owned();
        let found = worker(move || match crate::probe::ublk_below(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                crate::probe::ublk_below(path.parent().unwrap_or(Path::new("/")))
            }
            found => found,
        });
        found.await.ok().flatten()
    }

    async fn loops_over(&self, path: &Path) -> Vec<String> {
        let path = path.to_owned();
        worker(move || crate::probe::loops_over(&path)).await
    }

    async fn identity_at(&self, path: &Path) -> Option<Identity> {
        let path = path.to_owned();
        let found = worker(move || std::fs::metadata(path)).await.ok()?;
        Some(if found.file_type().is_block_device() {
            Identity::Disk { number: found.rdev() }
        } else {
            Identity::File { device: found.dev(), inode: found.ino() }
        })
    }

    async fn look(&self, path: &Path) -> Option<Noted> {
        let path = path.to_owned();
        let found = worker(move || rustix::fs::stat(&path)).await.ok()?;
        let nanoseconds = |seconds: i64, nanoseconds: u64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(nanoseconds).unwrap_or(0))
        };
        Some(Noted {
            size: found.st_size.unsigned_abs(),
            mtime_ns: nanoseconds(found.st_mtime, found.st_mtime_nsec),
            ctime_ns: nanoseconds(found.st_ctime, found.st_ctime_nsec),
        })
    }

    async fn room(&self, medium: &PoolMedium) -> Room {
        let medium = medium.clone();
        worker(move || crate::catalog::files::room(medium.path.as_path(), medium.block)).await
    }

    async fn usage(&self, directory: &Path, files: Vec<PathBuf>) -> Option<Usage> {
        let directory = directory.to_owned();
        worker(move || {
            let device = rustix::fs::stat(&directory).ok()?.st_dev;
            let seen = rustix::fs::statvfs(&directory).ok()?;
            let untaken = |file: &PathBuf| {
                let stat = rustix::fs::stat(file).ok()?;
                Some(
                    stat.st_size
                        .unsigned_abs()
                        .saturating_sub(stat.st_blocks.unsigned_abs().saturating_mul(512)),
                )
            };
            let promised = files.iter().filter_map(untaken).sum();
            Some(Usage { device, free: seen.f_bavail.saturating_mul(seen.f_frsize), promised })
        })
        .await
    }

    async fn remove_durably(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        worker(move || crate::catalog::files::remove_durably(&path)).await
    }

    async fn flushes(&self, plex: Uuid) -> io::Result<SharedFlushes> {
        worker(move || shared_memory(FLUSHES, plex, 1).map(SharedFlushes::new)).await
    }

    async fn forget_flushes(&self, plex: Uuid) {
        worker(move || forget_memory(FLUSHES, plex)).await;
    }

    async fn unflushed(&self, volume: Uuid, bytes: u64) -> io::Result<SharedWords> {
        worker(move || shared_memory(UNFLUSHED, volume, bytes).map(SharedWords::new)).await
    }

    async fn forget_unflushed(&self, volume: Uuid) {
        worker(move || forget_memory(UNFLUSHED, volume)).await;
    }

    async fn disks(&self) -> Vec<PathBuf> {
        worker(|| crate::probe::disks(Path::new("/sys/class/block"), Path::new(DEV))).await
    }

    async fn make_directory(&self, path: &Path) -> Result<(), Refused> {
        let path = path.to_owned();
        worker(move || super::startup::make_directory(&path, 0o700)).await
    }

    async fn group_directories(&self, root: &Path) -> Result<Vec<PathBuf>, Refused> {
        let root = root.to_owned();
        worker(move || crate::catalog::group_directories(&root)).await
    }

    async fn create_files(&self, path: &Path) -> Result<Directory, Refused> {
        let path = path.to_owned();
        worker(move || Directory::create(&path)).await
    }

    async fn unsettled_directories(&self, root: &Path) -> Result<Vec<PathBuf>, Refused> {
        let root = root.to_owned();
        worker(move || crate::catalog::unsettled_directories(&root)).await
    }

    async fn holds_no_data(&self, path: &Path, length: u64) -> bool {
        let path = path.to_owned();
        worker(move || crate::catalog::files::holds_no_data(&path, length)).await
    }

    async fn remove_strays(&self, known: BTreeSet<DeviceMark>) -> Vec<u32> {
        if SAME_STATE.get().is_none() {
            return Vec::new();
        }
        worker(move || {
            let is_stray = |device: &Existing| {
                let ended = matches!(device.state, DeviceState::Quiesced | DeviceState::Dead);
                let node = links::node(Path::new(DEV), device.id);
                // One that never came up has no node.
                let open = DeviceNumber::of_node(&node)
                    .is_ok_and(|number| !crate::probe::holders(number).is_empty());
                device.mark.is_some_and(|mark| !known.contains(&mark)) && ended && !open
            };
            let strays = ublk::existing().unwrap_or_default().into_iter().filter(is_stray);
            let remove = |device: Existing| match ublk::delete(device.id, STRAY_LIMIT) {
                Ok(()) => {
                    forget_for_udev(device.id);
                    Some(device.id)
                }
                Err(error) => {
                    tracing::warn!("a device that no volume has stays: {error}");
                    None
                }
            };
            strays.filter_map(remove).collect()
        })
        .await
    }

    async fn open_files(&self, path: &Path) -> Result<Directory, Refused> {
        let path = path.to_owned();
        worker(move || Directory::open(&path)).await
    }

    async fn devices(&self) -> Result<Vec<Living>, Refused> {
        let living = |device: Existing| Living {
            id: device.id,
            length: device.length,
            mark: device.mark,
            recoverable: matches!(device.state, DeviceState::Quiesced | DeviceState::Live),
        };
        let all = worker(ublk::existing).await.map_err(Refused::from)?;
        Ok(all.into_iter().map(living).collect())
    }

    async fn add(
        &self,
        options: DeviceOptions,
        entry: Entry,
        volume: Arc<Volume<Medium>>,
    ) -> Result<UblkDevice, Refused> {
        let make = queue_of(volume);
        let numbered = move |number| tell_udev(number, &entry, false);
        let added = worker(move || match ublk::add(&options, &numbered, make.clone()) {
            // The old number went to somebody else: any other will do.
            Err(_) if options.id.is_some() && number_is_taken(options.id) => {
                ublk::add(&DeviceOptions { id: None, ..options }, &numbered, make)
            }
            outcome => outcome,
        });
        added.await.map_err(Refused::from)
    }

    async fn recover(
        &self,
        number: u32,
        patience: Duration,
        affinity: Affinity,
        volume: Arc<Volume<Medium>>,
    ) -> Result<UblkDevice, Refused> {
        let make = queue_of(volume);
        worker(move || ublk::recover(number, patience, affinity, make)).await.map_err(Refused::from)
    }

    async fn stop(&self, device: UblkDevice, limit: Duration) -> Result<(), Refused> {
        self.force(device, limit).await.map(drop)
    }

    async fn force(&self, device: UblkDevice, limit: Duration) -> Result<bool, Refused> {
        let number = device.id();
        let ended = worker(move || {
            let ended = UblkDevice::stop(device, limit)?;
            forget_for_udev(number);
            Ok(ended)
        });
        let ended: Result<_, ublk::ExportError> = ended.await;
        ended.map(|how| how == ublk::Stopped::CutOff).map_err(Refused::from)
    }

    async fn withhold(&self, number: u32, limit: Duration) -> Result<bool, Refused> {
        match worker(move || ublk::try_stop(number, limit)).await {
            Ok(TryStop::Stopped | TryStop::Unsupported) => Ok(true),
            Ok(TryStop::Open) => Ok(false),
            // Somebody was faster, or a medium hangs: the stop that follows knows what to do then.
            Err(error) if matches!(error.fault, ExportFault::NoSuchDevice | ExportFault::TimedOut { .. }) => {
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn delete(&self, number: u32, limit: Duration) -> Result<(), Refused> {
        let deleted = worker(move || ublk::delete(number, limit).map(|()| forget_for_udev(number)));
        deleted.await.map_err(Refused::from)
    }

    async fn make_links(&self, entry: &Entry, number: u32, limit: Duration) -> Result<Vec<Refused>, Refused> {
        let entry = entry.clone();
        worker(move || {
            links::wait_for_node(number, limit)?;
            let made = links::make(Path::new(DEV), &entry.group, &entry.volume, number);
            tell_udev(number, &entry, true);
            Ok(made.refused)
        })
        .await
    }

    async fn remove_links(&self, group: &Name, volume: &Name) -> Result<(), Refused> {
        let (group, volume) = (group.clone(), volume.clone());
        worker(move || links::remove(Path::new(DEV), &group, &volume)).await
    }

    async fn sweep_links(&self, keep: BTreeSet<(Name, Name, u32)>) -> Result<(), Refused> {
        worker(move || {
            let numbers = keep.iter().map(|(_, _, number)| *number).collect();
            if let Err(error) = udev::sweep(Path::new(udev::DIRECTORY), &numbers) {
                tracing::warn!("{}: cannot be cleared: {error}", udev::DIRECTORY);
            }
            links::sweep(Path::new(DEV), &keep)
        })
        .await
        .map(drop)
    }

    async fn holders(&self, number: u32) -> Vec<String> {
        let found = worker(move || {
            let node = links::node(Path::new(DEV), number);
            // A device that is gone is open nowhere.
            DeviceNumber::of_node(&node).map(crate::probe::holders).unwrap_or_default()
        });
        found.await.into_iter().map(|holder| holder.to_string()).collect()
    }

    async fn mounts(&self, number: u32) -> Result<Vec<PathBuf>, Refused> {
        worker(move || mounts::mounts_of_volume(number)).await
    }

    async fn freeze(&self, points: Vec<PathBuf>, limit: Duration) -> Result<FreezeSet, Refused> {
        worker(move || FreezeSet::freeze(&points, limit)).await
    }

    async fn thaw(&self, frozen: FreezeSet) -> Result<Duration, Refused> {
        worker(move || frozen.thaw()).await
    }

    async fn thaw_left_over(&self, number: u32) -> Vec<PathBuf> {
        worker(move || thaw_left_over(number)).await
    }
}

fn thaw_left_over(number: u32) -> Vec<PathBuf> {
    let mut thawed = Vec::new();
    let points = mounts::mounts_of_volume(number).unwrap_or_else(|refused| {
        tracing::warn!("{refused}");
        Vec::new()
    });
    for point in points {
        match freeze::thaw_left_over(&point) {
            Ok(true) => thawed.push(point),
            Ok(false) => {}
            Err(refused) => tracing::error!("{refused}"),
        }
    }
    thawed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_the_kernel_writes_them() {
        let line = "     120        3     2048       77     5000        9    81920      600        2      500      680        1        0        8        0       40       33\n";
        let counts = counts_of(line);
        let expected = IoCounts {
            reads: 120,
            read_bytes: 1 << 20,
            read_ms: 77,
            writes: 5000,
            write_bytes: 40 << 20,
            write_ms: 600,
            flushes: 40,
            in_flight: 2,
        };
        assert_eq!(counts, expected);
        // Before Linux 5.5 no flushes were counted; what is cut short or is no number counts as nothing.
        assert_eq!(counts_of("1 2 3").flushes, 0);
        assert_eq!(counts_of("x"), IoCounts::default());
        let later = IoCounts { reads: 125, in_flight: 1, ..expected };
        assert_eq!(later.since(&expected), IoCounts { reads: 5, in_flight: 1, ..IoCounts::default() });
        assert_eq!(expected.since(&later).reads, 0, "of another device of that number");
    }
}
