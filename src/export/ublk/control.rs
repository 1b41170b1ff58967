//! Control commands of the driver, each with a time limit and the kernel's own number as its outcome.
//!
//! A command runs on a thread of its own: the kernel may hold it for as long as a disk hangs, and the library's control
//! ring belongs to a thread. A thread whose command is held when the limit passes is left to its fate.

use io_uring::{IoUring, opcode, types};
use libublk::ctrl::{UblkCtrl, UblkQueueAffinity, ublk_init_ctrl_task_ring, with_ctrl_ring_mut};
use libublk::{UblkError, sys};
use std::io::Write;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::error::{ExportError, ExportFault};
use crate::base::limits::SECTOR_BYTES;
use crate::base::{Cpus, Errno, Uuid};
use crate::ring::block_signals;

/// The driver's control node.
const CONTROL: &str = "/dev/ublk-control";

/// What Cleave's devices bear in the word that the driver keeps for a server (`ublksrv_flags`), for as long as they exist:
/// that they are Cleave's, and of which volume. A device whose server is gone is known by it, since newer kernels forget the
/// number of a process that has ended, and a number that a record names may be another volume's by now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeviceMark(u64);

impl DeviceMark {
    const KIND: u64 = u16::from_le_bytes(*b"cV") as u64;

    /// The mark of devices of `volume`: 48 bits of its identity.
    #[must_use]
    pub const fn of(volume: Uuid) -> Self {
        let [a, b, c, d, e, f, ..] = *volume.bytes();
        let [k, l, ..] = Self::KIND.to_le_bytes();
        Self(u64::from_le_bytes([k, l, a, b, c, d, e, f]))
    }

    /// The mark in the driver's `word`, if it is one.
    pub(super) const fn of_word(word: u64) -> Option<Self> {
        if word & 0xffff == Self::KIND { Some(Self(word)) } else { None }
    }

    pub(super) const fn word(self) -> u64 {
        self.0
    }
}

/// Requests' pages stand in the ring's buffer table, and the bytes of each can also be read from the character device.
pub(super) const ZERO_COPY: u32 =
    sys::UBLK_F_SUPPORT_ZERO_COPY | sys::UBLK_F_AUTO_BUF_REG | sys::UBLK_F_USER_COPY;

/// The limit of a command that only touches the driver's own state.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// Run `command` on a thread of its own, for `limit` at most.
pub(super) fn limited<T: Send + 'static>(
    object: &str,
    step: &'static str,
    limit: Duration,
    command: impl FnOnce() -> Result<T, Errno> + Send + 'static,
) -> Result<T, ExportError> {
    let (answer, outcome) = mpsc::channel();
    std::thread::Builder::new()
        .name("ublk-control".to_owned())
        .spawn(move || {
            // An interrupted command would be left in flight over memory of this stack.
            block_signals();
            // Nobody may be listening any more: a device that was made too late is removed by the drop of its handle.
            let _ = answer.send(make_ring().and_then(|()| command()));
        })
        .map_err(|error| ExportError::system(object, "start a thread", Errno::from(error)))?;
    match outcome.recv_timeout(limit) {
        Ok(outcome) => outcome.map_err(|errno| ExportError::system(object, step, errno)),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(ExportError::new(object, ExportFault::TimedOut { step })),
        // A panic inside the library, which has been printed.
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(ExportError::system(object, step, Errno::IO)),
    }
}

/// Make the control ring of this thread. The library makes one only with a new handle, and panics without.
fn make_ring() -> Result<(), Errno> {
    ublk_init_ctrl_task_ring(|slot| {
        // One command is in flight at a time.
        *slot = Some(IoUring::builder().build(4).map_err(UblkError::IOError)?);
        Ok(())
    })
    .map_err(|error| errno(&error))
}

/// The library's error as the kernel's number.
pub(super) fn errno(error: &UblkError) -> Errno {
    match error {
        UblkError::UringIOError(number) | UblkError::OtherError(number) => Errno::from_raw(number.abs()),
        UblkError::IOError(error) => Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        UblkError::InvalidVal => Errno::INVALID,
        UblkError::UringTimeout => Errno::TIMED_OUT,
        UblkError::QueueIsDown => Errno::from_raw(libc::ENODEV),
        UblkError::UringIoQueued | UblkError::JsonError(_) => Errno::IO,
    }
}

/// The outcome of a command. The library returns some of the kernel's refusals, EBUSY above all, as successes.
pub(super) fn outcome(result: Result<i32, UblkError>) -> Result<(), Errno> {
    match result {
        Ok(number) if number < 0 => Err(Errno::from_raw(number.abs())),
        Ok(_) => Ok(()),
        Err(error) => Err(errno(&error)),
    }
}

/// `/dev/ublkbN` of device `id`.
pub(super) fn node(id: u32) -> String {
    format!("/dev/ublkb{id}")
}

/// Leave an empty record of device `id` in the library's run directory, in place of whatever lies there. The library
/// complains about a device without one each time it looks, and would take over, and write through, what it finds;
/// Cleave keeps nothing in it. It goes with the device.
pub(super) fn leave_run_file(id: u32) {
    let directory = UblkCtrl::run_dir();
    let file = format!("{directory}/{id:04}.json");
    // All of it may fail, as where /run is read-only: then there is a line more in the log, no more.
    let _ = std::fs::create_dir(&directory);
    let _ = std::fs::remove_file(&file);
    if let Ok(mut made) = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file) {
        let _ = made.write_all(b"{}");
    }
}

/// Whether the driver has a device `id`.
pub(super) fn exists(id: u32) -> bool {
    Path::new(&format!("/sys/class/ublk-char/ublkc{id}")).exists()
}

fn id_for_library(id: u32) -> Result<i32, ExportError> {
    i32::try_from(id).map_err(|_| ExportError::new(node(id), ExportFault::NoSuchDevice))
}

/// What the driver of this host can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features(pub u64);

impl Features {
    /// The driver's word `mask`, as it is.
    const fn has(self, mask: u32) -> bool {
        self.0 & mask as u64 == mask as u64
    }

    /// Whether requests can be written from the pages that the kernel holds, to several media at once, and the bytes of
    /// single ones be had all the same.
    #[must_use]
    pub const fn zero_copy(self) -> bool {
        self.has(ZERO_COPY)
    }

    /// Whether devices outlive their server, and what it had in hand is issued again.
    #[must_use]
    pub const fn recovery(self) -> bool {
        self.has(sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_REISSUE)
    }

    /// Whether a device can be stopped on the condition that nobody has it open.
    #[must_use]
    pub const fn safe_stop(self) -> bool {
        self.has(sys::UBLK_F_SAFE_STOP_DEV)
    }

    /// Whether a device can change its size.
    #[must_use]
    pub const fn resize(self) -> bool {
        self.has(sys::UBLK_F_UPDATE_SIZE)
    }

    /// Whether a device can be brought to rest and handed over while its server lives.
    #[must_use]
    pub const fn quiesce(self) -> bool {
        self.has(sys::UBLK_F_QUIESCE)
    }
}

/// What the driver can do, or why it cannot be asked.
///
/// # Errors
/// The driver, its node or the right to it is missing; it does not answer.
pub fn features() -> Result<Features, ExportError> {
    const OBJECT: &str = "ublk driver";
    if !Path::new(CONTROL).exists() {
        let loaded = Path::new("/sys/module/ublk_drv").exists();
        let fault = if loaded { ExportFault::NoControlNode } else { ExportFault::NoDriver };
        return Err(ExportError::new(OBJECT, fault));
    }
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open(CONTROL) {
        let mut error = ExportError::system(OBJECT, "open its control node", Errno::from(error));
        if error.errno == Some(Errno::from_raw(libc::EACCES)) {
            error.fault = ExportFault::NotPermitted;
        }
        return Err(error);
    }
    limited(OBJECT, "ask for its features", COMMAND_LIMIT, || {
        UblkCtrl::get_features().map(Features).ok_or(Errno::UNSUPPORTED)
    })
}

/// The state of a device, as the driver has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceState {
    /// Added, not started; or stopped.
    Dead,
    /// Served.
    Live,
    /// Its server is gone; requests wait for a successor.
    Quiesced,
    /// Its server is gone; requests fail.
    FailIo,
    /// A number that this version does not know.
    Unknown(u16),
}

impl DeviceState {
    fn from_driver(state: u16) -> Self {
        match u32::from(state) {
            sys::UBLK_S_DEV_DEAD => Self::Dead,
            sys::UBLK_S_DEV_LIVE => Self::Live,
            sys::UBLK_S_DEV_QUIESCED => Self::Quiesced,
            sys::UBLK_S_DEV_FAIL_IO => Self::FailIo,
            _ => Self::Unknown(state),
        }
    }
}

/// A ublk device of this host, whoever made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Existing {
    /// N of `/dev/ublkbN`.
    pub id: u32,
    /// Its state.
    pub state: DeviceState,
    /// The flags with which it was made, as the driver granted them.
    pub flags: u64,
    /// The process that serves it, or served it last; 0 or less when there was none, or none that the kernel still knows.
    pub pid: i32,
    /// The mark that it bears, if Cleave made it.
    pub mark: Option<DeviceMark>,
    /// Bytes that it has; 0 before it was given its size.
    pub length: u64,
    pub(super) queues: u16,
    pub(super) depth: u16,
    pub(super) max_request_bytes: u32,
}

/// What the driver knows about device `id`, or `None` when there is none.
pub(super) fn describe(id: u32) -> Result<Option<Existing>, ExportError> {
    let number = id_for_library(id)?;
    if !exists(id) {
        return Ok(None);
    }
    limited(&node(id), "ask about the device", COMMAND_LIMIT, move || {
        let control = match UblkCtrl::new_simple(number) {
            Ok(control) => control,
            Err(error) => {
                return match errno(&error).raw() {
                    libc::ENODEV | libc::ENOENT | libc::EINVAL => Ok(None),
                    _ => Err(errno(&error)),
                };
            }
        };
        let info = control.dev_info();
        let mut parameters = sys::ublk_params::default();
        // Refused before the parameters are set: the device has no size yet.
        let known = outcome(control.get_params(&mut parameters)).is_ok();
        Ok(Some(Existing {
            id,
            state: DeviceState::from_driver(info.state),
            flags: info.flags,
            pid: info.ublksrv_pid,
            mark: DeviceMark::of_word(info.ublksrv_flags),
            length: if known { parameters.basic.dev_sectors * SECTOR_BYTES } else { 0 },
            queues: info.nr_hw_queues,
            depth: info.queue_depth,
            max_request_bytes: info.max_io_buf_bytes,
        }))
    })
}

fn ids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/sys/class/ublk-char") else { return Vec::new() };
    let mut ids: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("ublkc")?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids
}

/// How many devices there are, and how many the driver admits.
#[must_use]
pub fn occupancy() -> (usize, Option<u32>) {
    let limit = std::fs::read_to_string("/sys/module/ublk_drv/parameters/ublks_max").ok();
    (ids().len(), limit.and_then(|text| text.trim().parse().ok()))
}

/// All ublk devices of this host, those of other programs too, by id. A device that vanishes meanwhile is left out.
///
/// # Errors
/// As for [`features`].
pub fn existing() -> Result<Vec<Existing>, ExportError> {
    features()?;
    let mut found = Vec::new();
    for id in ids() {
        found.extend(describe(id)?);
    }
    Ok(found)
}

/// Stop and delete a device that this process does not serve: what a dead daemon left, when it is not to be taken over.
/// What waits for its requests gets errors.
///
/// # Errors
/// There is no such device, or the kernel does not end it within `limit`.
pub fn delete(id: u32, limit: Duration) -> Result<(), ExportError> {
    let number = id_for_library(id)?;
    let deadline = Instant::now() + limit;
    if describe(id)?.is_none() {
        return Err(ExportError::new(node(id), ExportFault::NoSuchDevice));
    }
    stop_command(id, number, deadline.saturating_duration_since(Instant::now()))?;
    delete_command(id, number, deadline.saturating_duration_since(Instant::now()))
}

fn stop_command(id: u32, number: i32, limit: Duration) -> Result<(), ExportError> {
    limited(&node(id), "stop the device", limit, move || {
        outcome(UblkCtrl::new_simple(number).map_err(|error| errno(&error))?.kill_dev())
    })
}

/// What came of [`try_stop`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryStop {
    /// It is stopped, and can be opened no more.
    Stopped,
    /// Somebody has it open: it serves on as before.
    Open,
    /// The kernel cannot look and stop in one step: nothing was done.
    Unsupported,
}

/// Stop device `id`, served by whomever, if nobody has it open: both in one step of the kernel's, so that nobody can open
/// it in between.
///
/// # Errors
/// There is no such device, or the kernel does not end it within `limit`.
pub fn try_stop(id: u32, limit: Duration) -> Result<TryStop, ExportError> {
    if !features()?.safe_stop() {
        return Ok(TryStop::Unsupported);
    }
    // SAFETY: no memory is named.
    let stop = move || unsafe { command(id, sys::UBLK_U_CMD_TRY_STOP_DEV, 0, 0, 0) };
    match limited(&node(id), "stop the device unless it is open", limit, stop) {
        Ok(()) => Ok(TryStop::Stopped),
        Err(error) => match error.errno.map(Errno::raw) {
            Some(libc::EBUSY) => Ok(TryStop::Open),
            Some(libc::ENODEV | libc::EINVAL) => Err(ExportError::new(node(id), ExportFault::NoSuchDevice)),
            _ => Err(error),
        },
    }
}

/// What the driver is told of a device before its start (`struct ublk_params`). The library's structure ends before the last
/// of these, in whose place it has padding.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Parameters {
    length: u32,
    pub(super) types: u32,
    pub(super) basic: sys::ublk_param_basic,
    pub(super) discard: sys::ublk_param_discard,
    devt: sys::ublk_param_devt,
    zoned: sys::ublk_param_zoned,
    pub(super) dma: sys::ublk_param_dma_align,
}

const _: () = assert!(offset_of!(Parameters, basic) == 8 && offset_of!(Parameters, discard) == 40);
const _: () = assert!(offset_of!(Parameters, devt) == 60 && offset_of!(Parameters, zoned) == 76);
const _: () = assert!(offset_of!(Parameters, dma) == 108);

impl Parameters {
    /// Of a device that does as is said here, and lends its pages, with `alignment` bytes of alignment, if that is told.
    pub(super) fn new(
        basic: sys::ublk_param_basic,
        discard: sys::ublk_param_discard,
        alignment: Option<u32>,
    ) -> Self {
        let lent = if alignment.is_some() { sys::UBLK_PARAM_TYPE_DMA_ALIGN } else { 0 };
        let alignment = alignment.map_or(0, |bytes| bytes - 1);
        Self {
            length: (offset_of!(Self, dma) + size_of::<sys::ublk_param_dma_align>()) as u32,
            types: sys::UBLK_PARAM_TYPE_BASIC | sys::UBLK_PARAM_TYPE_DISCARD | lent,
            basic,
            discard,
            devt: sys::ublk_param_devt::default(),
            zoned: sys::ublk_param_zoned::default(),
            dma: sys::ublk_param_dma_align { alignment, ..Default::default() },
        }
    }
}

/// Tell the driver what device `id` is like, before its start.
pub(super) fn set_parameters(id: u32, parameters: Parameters) -> Result<(), ExportError> {
    limited(&node(id), "describe the device", COMMAND_LIMIT, move || {
        // Leaked, some bytes a device: the kernel may read them for as long as the command takes.
        let parameters = Box::leak(Box::new(parameters));
        let len = u16::try_from(parameters.length).expect("a small structure");
        let at = std::ptr::from_ref(parameters) as u64;
        // SAFETY: the memory stays for ever, and has at least that many bytes.
        unsafe { command(id, sys::UBLK_U_CMD_SET_PARAMS, at, len, 0) }
    })
}

/// Have device `id` appear, or go on: its queues have fetched.
pub(super) fn start_device(id: u32, taken_over: bool, limit: Duration) -> Result<(), ExportError> {
    let operation = if taken_over { sys::UBLK_U_CMD_END_USER_RECOVERY } else { sys::UBLK_U_CMD_START_DEV };
    limited(&node(id), "start the device", limit, move || {
        // SAFETY: no memory is named.
        unsafe { command(id, operation, 0, 0, u64::from(std::process::id())) }
    })
}

/// A command of the driver's about the whole device `id`, on this thread's control ring. The library has none for some, and
/// does more than the command for others.
///
/// # Safety
/// The `len` bytes of memory at `address`, if any, stay valid whatever comes: an error does not say that the command ended.
#[expect(clippy::host_endian_bytes, reason = "the driver reads the structure in the host's order")]
unsafe fn command(id: u32, operation: u32, address: u64, len: u16, data: u64) -> Result<(), Errno> {
    let control = std::fs::OpenOptions::new().read(true).write(true).open(CONTROL)?;
    let mut words = [0; 80];
    let mut put = |at: usize, bytes: &[u8]| words[at..at + bytes.len()].copy_from_slice(bytes);
    put(offset_of!(sys::ublksrv_ctrl_cmd, dev_id), &id.to_ne_bytes());
    // All queues: what the driver wants to see in a command about a whole device.
    put(offset_of!(sys::ublksrv_ctrl_cmd, queue_id), &u16::MAX.to_ne_bytes());
    put(offset_of!(sys::ublksrv_ctrl_cmd, len), &len.to_ne_bytes());
    put(offset_of!(sys::ublksrv_ctrl_cmd, addr), &address.to_ne_bytes());
    put(offset_of!(sys::ublksrv_ctrl_cmd, data), &data.to_ne_bytes());
    let entry = opcode::UringCmd80::new(types::Fd(control.as_raw_fd()), operation).cmd(words).build();
    let number = with_ctrl_ring_mut(|ring| {
        // SAFETY: the command lies in the entry itself and points to what the caller vouches for; its file is open until its
        // completion was taken.
        unsafe { ring.submission().push(&entry) }.map_err(|_| Errno::IO)?;
        loop {
            let waited = ring.submit_and_wait(1);
            if let Some(done) = ring.completion().next() {
                return Ok(done.result());
            }
            // A wait that was interrupted leaves the command in flight.
            if let Err(error) = waited
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(Errno::from(error));
            }
        }
    })?;
    if number < 0 { Err(Errno::from_raw(number.abs())) } else { Ok(()) }
}

/// The deletion that waits for nobody: who still has the block device open keeps the remains until it closes them.
fn delete_command(id: u32, number: i32, limit: Duration) -> Result<(), ExportError> {
    let deadline = Instant::now() + limit;
    let deleted = limited(&node(id), "delete the device", limit, move || {
        let control = UblkCtrl::new_simple(number).map_err(|error| errno(&error))?;
        match outcome(control.del_dev_async()) {
            // Kernels before 6.9 have only the one that waits.
            Err(errno) if errno == Errno::UNSUPPORTED || errno == Errno::INVALID => {
                outcome(control.del_dev())
            }
            other => other,
        }
    });
    match deleted {
        // Somebody was faster.
        Err(error) if matches!(error.errno.map(Errno::raw), Some(libc::ENODEV | libc::ENOENT)) => {}
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    while exists(id) {
        if Instant::now() >= deadline {
            return Err(ExportError::new(node(id), ExportFault::TimedOut { step: "delete the device" }));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The processors whose requests come to queue `number` of device `id`; none where the kernel names none.
pub(super) fn queue_cpus(id: u32, number: u16) -> Result<Option<Cpus>, ExportError> {
    let device = id_for_library(id)?;
    limited(&node(id), "ask where a queue's requests come from", COMMAND_LIMIT, move || {
        let control = UblkCtrl::new_simple(device).map_err(|error| errno(&error))?;
        let mut found = UblkQueueAffinity::new();
        outcome(control.get_queue_affinity(u32::from(number), &mut found))?;
        Ok(Cpus::new(found.to_bits_vec()))
    })
}

/// Stop device `id`: the kernel lets its requests end, takes the disk away and gives all commands back.
pub(super) fn stop_device(id: u32, limit: Duration) -> Result<(), ExportError> {
    stop_command(id, id_for_library(id)?, limit)
}

/// Delete the stopped device `id`.
pub(super) fn delete_device(id: u32, limit: Duration) -> Result<(), ExportError> {
    delete_command(id, id_for_library(id)?, limit)
}
