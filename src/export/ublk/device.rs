//! A served device: added or taken over, watched, stopped.

use libublk::ctrl::{UblkCtrl, UblkCtrlBuilder};
use libublk::io::UblkDev;
use libublk::{UblkFlags, sys};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::QueueHost;
use super::control::{
    COMMAND_LIMIT, DeviceMark, DeviceState, Parameters, ZERO_COPY, delete_device, describe, errno, exists,
    features, leave_run_file, limited, node, occupancy, outcome, queue_cpus, set_parameters, start_device,
    stop_device,
};
use super::error::{ExportError, ExportFault};
use super::queue::{self, Report, Shared};
use crate::base::limits::{PAGE_BYTES, SECTOR_BYTES};
use crate::base::museum::{self, Exhibit};
use crate::base::{Affinity, Errno};
use crate::device::BlockDevice;
use crate::ring::RingHandle;

/// How long the queues may take to fetch.
const QUEUES_LIMIT: Duration = Duration::from_secs(20);

/// How long the start may take: the kernel reads the partition table through the device.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a taking over may take in the kernel, above the thirty seconds that the library tries for.
const RECOVERY_LIMIT: Duration = Duration::from_secs(40);

/// How long the kernel may take once every request has been answered.
const CUT_OFF_LIMIT: Duration = Duration::from_secs(5);

/// Bytes of alignment below which no device asks for any: the kernel's own default.
const LEAST_ALIGNMENT: u32 = 4;

/// Between two looks at a device whose server is dying.
const STATE_POLL: Duration = Duration::from_millis(5);

/// The way of the bytes, fixed for the life of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataMode {
    /// The kernel copies requests into our memory and out of it.
    Copy,
    /// Our I/O uses the requests' own pages, unseen: a write may go to several media from the same pages.
    Zero,
}

/// What a new device is like.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// N of `/dev/ublkbN`; `None` lets the kernel choose.
    pub id: Option<u32>,
    /// What errors call the device.
    pub name: String,
    /// Bytes: a multiple of the logical block size.
    pub length: u64,
    /// Bytes: a power of two from 512 to a page.
    pub logical_block_size: u32,
    /// Whose it is.
    pub mark: DeviceMark,
    /// Bytes: a power of two, at least the logical one.
    pub physical_block_size: u32,
    /// Queues, each with a thread, no more than the host has processors; 0: as many as these ask for.
    pub queues: u16,
    /// Which processors the threads run on.
    pub affinity: Affinity,
    /// Requests in flight on a queue: up to 4096.
    pub depth: u16,
    /// Bytes of the largest read or write: a multiple of a page, up to 32 MiB.
    pub max_request_bytes: u32,
    /// Bytes of the largest discard or write-zeroes.
    pub max_discard_bytes: u32,
    /// Bytes of the unit of discards.
    pub discard_granularity: u32,
    /// Alignment in bytes that the media need of memory. The kernel promises 512 for a request's own pages.
    pub memory_alignment: u32,
    /// Whether writes are refused by the kernel.
    pub read_only: bool,
    /// The way of the bytes.
    pub data: DataMode,
}

impl DeviceOptions {
    fn check(&self) -> Result<(), ExportError> {
        let bad = |what| Err(ExportError::new(&self.name, ExportFault::BadOption { what }));
        let (logical, physical) = (self.logical_block_size, self.physical_block_size);
        let page = PAGE_BYTES as u32;
        if !logical.is_power_of_two() || !(512..=page).contains(&logical) {
            return bad("the logical block size is not a power of two from 512 to 4096");
        }
        if !physical.is_power_of_two() || physical < logical {
            return bad("the physical block size is not a power of two from the logical one on");
        }
        if self.length == 0 || !self.length.is_multiple_of(u64::from(logical)) {
            return bad("the length is not a multiple of the logical block size");
        }
        if self.depth == 0 || u32::from(self.depth) > sys::UBLK_MAX_QUEUE_DEPTH {
            return bad("the depth of the queues is out of range");
        }
        if self.max_request_bytes == 0
            || !self.max_request_bytes.is_multiple_of(page)
            || self.max_request_bytes > 32 << 20
        {
            return bad("the largest request is not a multiple of a page up to 32 MiB");
        }
        if !self.max_discard_bytes.is_multiple_of(logical) || self.discard_granularity < logical {
            return bad("the limits of discards do not fit the logical block size");
        }
        if self.data == DataMode::Zero && self.memory_alignment > 512 {
            return bad("zero copy needs media that take memory aligned to 512 bytes");
        }
        Ok(())
    }

    fn flags(&self) -> u64 {
        let recovery = sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_REISSUE;
        let data = match self.data {
            DataMode::Copy => 0,
            DataMode::Zero => ZERO_COPY,
        };
        u64::from(recovery | data)
    }

    fn parameters(&self) -> Parameters {
        let shift = |bytes: u32| bytes.trailing_zeros() as u8;
        let read_only = if self.read_only { sys::UBLK_ATTR_READ_ONLY } else { 0 };
        let told = !museum::shows(Exhibit::CacheNotAdvertised);
        let cache = if told { sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA } else { 0 };
        let sectors = |bytes: u32| bytes / SECTOR_BYTES as u32;
        let basic = sys::ublk_param_basic {
            attrs: cache | read_only,
            logical_bs_shift: shift(self.logical_block_size),
            physical_bs_shift: shift(self.physical_block_size),
            io_opt_shift: shift(self.physical_block_size),
            io_min_shift: shift(self.physical_block_size),
            max_sectors: sectors(self.max_request_bytes),
            dev_sectors: self.length / SECTOR_BYTES,
            ..Default::default()
        };
        let discard = sys::ublk_param_discard {
            discard_granularity: self.discard_granularity,
            max_discard_sectors: sectors(self.max_discard_bytes),
            max_write_zeroes_sectors: sectors(self.max_discard_bytes),
            max_discard_segments: 1,
            ..Default::default()
        };
        // Of pages that are lent the media get what they need; an application that would lend others is refused.
        let alignment = match self.data {
            DataMode::Zero => Some(self.memory_alignment.max(LEAST_ALIGNMENT)),
            DataMode::Copy => None,
        };
        Parameters::new(basic, discard, alignment)
    }
}

/// How a device ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// All requests were finished.
    Drained,
    /// Some were failed, because they took longer than the limit.
    CutOff,
}

struct QueueThread {
    handle: RingHandle,
    thread: JoinHandle<()>,
}

/// A device that this process serves. Dropping it changes nothing: the threads serve on until the process ends, and then
/// the device waits for a successor.
pub struct UblkDevice {
    id: u32,
    flags: u64,
    data: DataMode,
    stable_writes: bool,
    device: Arc<UblkDev>,
    shared: Arc<Shared>,
    queues: Vec<QueueThread>,
}

impl std::fmt::Debug for UblkDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UblkDevice({}, {:?})", self.path().display(), self.data)
    }
}

/// Show a device made by `make`, which is called once on each queue thread; `numbered` hears its number before the kernel tells
/// anybody of it.
///
/// The node appears after the queues have fetched; while the kernel starts the device it reads from it.
///
/// # Errors
/// [`ExportFault`] has them. Nothing of the device is left after an error, except where the kernel holds on to it; then
/// the time limits have passed.
pub fn add<F, D>(
    options: &DeviceOptions,
    numbered: impl FnOnce(u32),
    make: F,
) -> Result<UblkDevice, ExportError>
where
    F: Fn(QueueHost) -> D + Send + Sync + 'static,
    D: BlockDevice + 'static,
{
    options.check()?;
    let features = features()?;
    if options.data == DataMode::Zero && !features.zero_copy() {
        return Err(ExportError::new(&options.name, ExportFault::NoZeroCopy));
    }
    // The library deletes the device of the id it was given when adding fails, also one that others made.
    if options.id.is_some_and(exists) {
        return Err(ExportError::new(node(options.id.unwrap_or_default()), ExportFault::IdTaken));
    }
    let control = add_device(options)?;
    let info = control.dev_info();
    // From here on the device is taken back by name, below.
    control.disown();
    leave_run_file(info.dev_id);
    numbered(info.dev_id);
    let served = (|| {
        if info.flags & options.flags() != options.flags() {
            // Flags are advice to the driver: it clears what it does not know.
            let fault = match options.data {
                DataMode::Zero => ExportFault::NoZeroCopy,
                DataMode::Copy => ExportFault::System { step: "make a recoverable device" },
            };
            return Err(ExportError::new(&options.name, fault));
        }
        let device = open_device(&control, info.dev_id, options.length)?;
        set_parameters(info.dev_id, options.parameters())?;
        serve(device, false, info.flags, options.data, options.affinity, &Arc::new(Shared::new()), make)
    })();
    served.inspect_err(|_| {
        // Stopping gives the queue threads their commands back, and they end. The first error is the one to tell; what
        // cannot be taken back now, a forced stop can.
        let _ = stop_device(info.dev_id, COMMAND_LIMIT);
        let _ = delete_device(info.dev_id, COMMAND_LIMIT);
    })
}

fn add_device(options: &DeviceOptions) -> Result<Arc<UblkCtrl>, ExportError> {
    let number = options.id.map_or(Ok(-1), i32::try_from).map_err(|_| {
        ExportError::new(&options.name, ExportFault::BadOption { what: "the id is out of range" })
    })?;
    let copy = options.clone();
    limited(&options.name, "add a ublk device", COMMAND_LIMIT, move || {
        let control = UblkCtrlBuilder::default()
            .name("cleave")
            .id(number)
            .nr_queues(queues_for(copy.queues, processors()))
            .depth(copy.depth)
            .io_buf_bytes(copy.max_request_bytes)
            .ctrl_flags(copy.flags())
            .ctrl_target_flags(copy.mark.word())
            .dev_flags(UblkFlags::UBLK_DEV_F_ADD_DEV)
            .build()
            .map_err(|error| errno(&error))?;
        // The library takes some refusals for successes: the driver must know the device now.
        outcome(control.read_dev_info())?;
        Ok(Arc::new(control))
    })
    .map_err(|mut error| {
        let (count, limit) = occupancy();
        match error.errno.map(Errno::raw) {
            Some(libc::EEXIST) => error.fault = ExportFault::IdTaken,
            Some(libc::ENOSPC) => error.fault = ExportFault::TooManyDevices { limit: None },
            // The driver's answer to one device too many as well.
            Some(libc::EACCES) if limit.is_some_and(|limit| count >= limit as usize) => {
                error.fault = ExportFault::TooManyDevices { limit };
            }
            Some(libc::EACCES) => error.fault = ExportFault::NotPermitted,
            _ => {}
        }
        error
    })
}

/// Open the character device, as the library wants it: with a size.
fn open_device(control: &Arc<UblkCtrl>, id: u32, length: u64) -> Result<Arc<UblkDev>, ExportError> {
    let set = |device: &mut UblkDev| {
        device.tgt.dev_size = length;
        Ok(())
    };
    UblkDev::new("cleave".to_owned(), set, control)
        .map(Arc::new)
        .map_err(|error| ExportError::system(node(id), "open its character device", errno(&error)))
}

/// Start the queue threads, wait until they have fetched, start the device.
fn serve<F, D>(
    device: Arc<UblkDev>,
    taken_over: bool,
    flags: u64,
    data: DataMode,
    affinity: Affinity,
    shared: &Arc<Shared>,
    make: F,
) -> Result<UblkDevice, ExportError>
where
    F: Fn(QueueHost) -> D + Send + Sync + 'static,
    D: BlockDevice + 'static,
{
    let id = device.dev_info.dev_id;
    let queues = start_queues(&device, data, affinity, make, shared)?;
    start_device(id, taken_over, START_LIMIT)
        // The kernel may be reading through the device, and would wait for ever.
        .inspect_err(|_| shared.cut_off())?;
    let stable_writes = set_stable_writes(id);
    shared.live.store(true, Ordering::SeqCst);
    Ok(UblkDevice { id, flags, data, stable_writes, device, shared: Arc::clone(shared), queues })
}

/// Processors of this host that this process may use.
fn processors() -> u16 {
    std::thread::available_parallelism().map_or(1, |count| u16::try_from(count.get()).unwrap_or(u16::MAX))
}

/// How many queues a device gets of which `asked` are asked for, 0 for as many as `processors` ask for: one thread serves what
/// about four processors ask of it, and more than four threads of one volume wait for its media.
fn queues_for(asked: u16, processors: u16) -> u16 {
    match asked {
        0 => processors.div_ceil(4).clamp(1, 4),
        asked => asked.min(processors.max(1)),
    }
}

fn start_queues<F, D>(
    device: &Arc<UblkDev>,
    data: DataMode,
    affinity: Affinity,
    make: F,
    shared: &Arc<Shared>,
) -> Result<Vec<QueueThread>, ExportError>
where
    F: Fn(QueueHost) -> D + Send + Sync + 'static,
    D: BlockDevice + 'static,
{
    let id = device.dev_info.dev_id;
    let make = Arc::new(make);
    let mut started = Vec::new();
    let deadline = Instant::now() + QUEUES_LIMIT;
    let count = device.dev_info.nr_hw_queues;
    for number in 0..count {
        let cpus = match affinity {
            // A queue's requests are answered where they come from: what they touch is in that processor's caches. One that
            // cannot be placed so serves from anywhere.
            Affinity::Auto if count > 1 => queue_cpus(id, number).ok().flatten(),
            Affinity::Auto | Affinity::Any => None,
            Affinity::On(cpus) => Some(cpus),
        };
        let (report, reported) = mpsc::channel::<Report>();
        let (device, make, shared) = (Arc::clone(device), Arc::clone(&make), Arc::clone(shared));
        let thread = std::thread::Builder::new()
            .name(format!("ublk{id}q{number}"))
            .spawn(move || queue::run(device, number, data, cpus, &*make, &shared, &report))
            .map_err(|error| ExportError::system(node(id), "start a thread", Errno::from(error)));
        started.push((thread, reported));
    }
    let mut queues = Vec::new();
    let mut failure = None;
    for (thread, reported) in started {
        let report = reported.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        match (thread, report) {
            (Ok(thread), Ok(Ok(handle))) => queues.push(QueueThread { handle, thread }),
            (Err(error), _) => failure = Some(error),
            (Ok(_), Ok(Err((step, errno)))) => {
                let fault = ExportFault::Queue { step };
                failure = Some(ExportError { object: node(id), fault, errno: Some(errno) });
            }
            (Ok(_), Err(_)) => {
                failure = Some(ExportError::new(node(id), ExportFault::TimedOut { step: "fetch requests" }));
            }
        }
    }
    failure.map_or(Ok(queues), Err)
}

/// Have pages kept still while they are written, for file systems mounted from now on.
fn set_stable_writes(id: u32) -> bool {
    let attribute = format!("/sys/block/ublkb{id}/queue/stable_writes");
    // One that is taken over has it, and would stand still until all its requests have ended.
    std::fs::read_to_string(&attribute).is_ok_and(|set| set.trim() == "1")
        || std::fs::write(attribute, "1").is_ok()
}

/// Take over device `id`, whose server died: same node, same size, same data mode, and the requests that the dead server
/// had are issued again. `make` is called once on each queue thread. Waits for up to `patience` while the kernel still
/// sees the old server.
///
/// # Errors
/// There is no such device, it is served by a living process, or it was not made to be taken over. After an error the
/// device is as it was: it waits.
pub fn recover<F, D>(
    id: u32,
    patience: Duration,
    affinity: Affinity,
    make: F,
) -> Result<UblkDevice, ExportError>
where
    F: Fn(QueueHost) -> D + Send + Sync + 'static,
    D: BlockDevice + 'static,
{
    let deadline = Instant::now() + patience;
    let found = loop {
        let Some(found) = describe(id)? else {
            return Err(ExportError::new(node(id), ExportFault::NoSuchDevice));
        };
        match found.state {
            DeviceState::Quiesced => break found,
            DeviceState::Live if Instant::now() < deadline => std::thread::sleep(STATE_POLL),
            DeviceState::Live => {
                return Err(ExportError::new(node(id), ExportFault::Served { pid: found.pid }));
            }
            DeviceState::Dead | DeviceState::FailIo | DeviceState::Unknown(_) => {
                return Err(ExportError::new(node(id), ExportFault::NotRecoverable));
            }
        }
    };
    // The mode is that of the device, whatever this process would choose today.
    let data = data_mode(found.flags).ok_or_else(|| ExportError::new(node(id), ExportFault::ForeignMode))?;
    leave_run_file(id);
    let number = i32::try_from(id).map_err(|_| ExportError::new(node(id), ExportFault::NoSuchDevice))?;
    let control = limited(&node(id), "take over the device", RECOVERY_LIMIT, move || {
        let control = UblkCtrlBuilder::default()
            .name("cleave")
            .id(number)
            .nr_queues(found.queues)
            .depth(found.depth)
            .io_buf_bytes(found.max_request_bytes)
            .ctrl_flags(0)
            .dev_flags(UblkFlags::UBLK_DEV_F_RECOVER_DEV)
            .build()
            .map_err(|error| errno(&error))?;
        outcome(control.start_user_recover())?;
        Ok(Arc::new(control))
    })?;
    let device = open_device(&control, id, found.length)?;
    let shared = Arc::new(Shared::new());
    serve(device, true, found.flags, data, affinity, &shared, make).inspect_err(|_| shared.quit())
}

/// The data mode of a device with `flags`, if Cleave uses it.
fn data_mode(flags: u64) -> Option<DataMode> {
    let recovery = u64::from(sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_REISSUE);
    let zero = u64::from(ZERO_COPY);
    let others = u64::from(sys::UBLK_F_NEED_GET_DATA | sys::UBLK_F_ZONED);
    match flags & zero {
        _ if flags & recovery != recovery || flags & others != 0 => None,
        0 => Some(DataMode::Copy),
        both if both == zero => Some(DataMode::Zero),
        _ => None,
    }
}

/// [`UblkDevice::resize`] for device `number`, which this process serves.
///
/// # Errors
/// As there.
pub fn resize(number: u32, length: u64) -> Result<(), ExportError> {
    const STEP: &str = "resize the device";
    if !features()?.resize() {
        return Err(ExportError::system(node(number), STEP, Errno::UNSUPPORTED));
    }
    limited(&node(number), STEP, COMMAND_LIMIT, move || {
        let number = i32::try_from(number).map_err(|_| Errno::INVALID)?;
        outcome(UblkCtrl::new_simple(number).map_err(|error| errno(&error))?.update_size(length))
    })
}

impl UblkDevice {
    /// N of `/dev/ublkbN`.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// `/dev/ublkbN`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(&node(self.id)).to_owned()
    }

    /// The flags that the driver granted.
    #[must_use]
    pub const fn flags(&self) -> u64 {
        self.flags
    }

    /// The way of the bytes.
    #[must_use]
    pub const fn data(&self) -> DataMode {
        self.data
    }

    /// Whether file systems mounted on it keep pages still while they are written.
    #[must_use]
    pub const fn stable_writes(&self) -> bool {
        self.stable_writes
    }

    /// The queue threads, for work that must run on them.
    pub fn queues(&self) -> impl Iterator<Item = RingHandle> + '_ {
        self.queues.iter().map(|queue| queue.handle.clone())
    }

    /// Whether any queue thread still serves: false once somebody else has deleted the device.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.queues.iter().any(|queue| !queue.thread.is_finished())
    }

    /// Change the device's length to `length` bytes, a multiple of its logical block size, while it is in use. Nothing
    /// is asked about what lies behind a new end; the media must have what a new length promises.
    ///
    /// # Errors
    /// The kernel cannot ([`Features::resize`](super::Features::resize)), or refuses.
    pub fn resize(&self, length: u64) -> Result<(), ExportError> {
        resize(self.id, length)
    }

    /// How many operations at media have pages of its requests. While there are some, it does not end: [`stop`](Self::stop)
    /// would wait in the kernel for a medium that hangs, and nothing ends a process with a thread there.
    #[must_use]
    pub fn lent(&self) -> u32 {
        self.shared.lent()
    }

    /// Fail the requests in hand, as far as no medium has their pages, and all that come.
    pub fn cut_off(&self) {
        self.shared.cut_off();
    }

    /// Drain, stop and delete the device. Who has it open or mounted is not asked: requests in hand are finished, later
    /// ones fail. Requests that are not finished within `limit` fail too, with EIO; the device works on for them, unheard.
    ///
    /// # Errors
    /// The kernel does not end the device some seconds after `limit`: a disk hangs below a request whose pages it has.
    pub fn stop(self, limit: Duration) -> Result<Stopped, ExportError> {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let mut how = Stopped::Drained;
        let (id, shared) = (self.id, Arc::clone(&self.shared));
        let (ended, waits) = mpsc::channel::<()>();
        let watchdog = std::thread::Builder::new().name("ublk-watchdog".to_owned()).spawn(move || {
            let late = matches!(waits.recv_timeout(limit), Err(mpsc::RecvTimeoutError::Timeout));
            if late {
                shared.cut_off();
            }
            late
        });
        let watchdog =
            watchdog.map_err(|error| ExportError::system(node(id), "start a thread", error.into()))?;
        let stopped = stop_device(id, limit + CUT_OFF_LIMIT);
        drop(ended);
        if watchdog.join().unwrap_or(true) {
            how = Stopped::CutOff;
        }
        // Somebody else may have ended it already.
        if exists(id) {
            stopped?;
        }
        drop(self.device);
        let deadline = Instant::now() + CUT_OFF_LIMIT;
        for queue in self.queues {
            // A thread whose cut-off request never comes back keeps its medium; the device goes without it.
            while !queue.thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if exists(id) {
            delete_device(id, CUT_OFF_LIMIT)?;
        }
        Ok(how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_go_by_the_processors_unless_asked_for() {
        let auto = [1, 2, 4, 5, 8, 9, 16, 17, 256].map(|processors| queues_for(0, processors));
        assert_eq!(auto, [1, 1, 1, 2, 2, 3, 4, 4, 4]);
        assert_eq!(
            [(1, 2), (2, 2), (9, 2), (3, 0)].map(|(asked, cpus)| queues_for(asked, cpus)),
            [1, 2, 2, 1]
        );
    }

    use crate::base::Uuid;

    #[test]
    fn the_kernel_is_told_what_the_device_is() {
        let options = DeviceOptions {
            id: None,
            name: "v".to_owned(),
            mark: DeviceMark::of(Uuid::NIL),
            length: 3 << 20,
            logical_block_size: 512,
            physical_block_size: 4096,
            queues: 1,
            affinity: Affinity::Auto,
            depth: 64,
            max_request_bytes: 1 << 20,
            max_discard_bytes: 2 << 20,
            discard_granularity: 4096,
            memory_alignment: 512,
            read_only: false,
            data: DataMode::Copy,
        };
        options.check().unwrap();
        let told = options.parameters();
        // Without the first the kernel never sends a flush, without the second it flushes for each durable write.
        assert_eq!({ told.basic.attrs }, sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA);
        assert_eq!({ told.types }, sys::UBLK_PARAM_TYPE_BASIC | sys::UBLK_PARAM_TYPE_DISCARD);
        assert_eq!(({ told.basic.logical_bs_shift }, { told.basic.physical_bs_shift }), (9, 12));
        assert_eq!(({ told.basic.dev_sectors }, { told.basic.max_sectors }), (6144, 2048));
        assert_eq!(
            ({ told.discard.discard_granularity }, { told.discard.max_discard_sectors }),
            (4096, 4096)
        );
        assert_eq!(
            ({ told.discard.max_write_zeroes_sectors }, { told.discard.max_discard_segments }),
            (4096, 1)
        );
        assert_eq!({ told.dma.alignment }, 0, "pages that are copied may lie anywhere");
        let lent = DeviceOptions { data: DataMode::Zero, ..options.clone() }.parameters();
        assert_eq!((lent.types & !told.types, lent.dma.alignment), (sys::UBLK_PARAM_TYPE_DMA_ALIGN, 511));
        let read_only = DeviceOptions { read_only: true, ..options }.parameters();
        assert_eq!({ read_only.basic.attrs } & sys::UBLK_ATTR_READ_ONLY, sys::UBLK_ATTR_READ_ONLY);
    }
}
