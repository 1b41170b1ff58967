//! One queue thread: its set-up, its tags, the completion of requests.

use io_uring::{IoUring, opcode, types};
use libublk::ctrl::UblkCtrl;
use libublk::io::{UblkDev, UblkQueue};
use libublk::{UblkError, sys, ublk_init_task_ring, with_task_io_ring_mut};
use std::cell::{Cell, RefCell};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::QueueHost;
use super::control::errno;
use super::device::DataMode;
use crate::base::limits::SECTOR_BYTES;
use crate::base::{ByteRange, Cpus, Errno};
use crate::device::{
    BlockDevice, Buffer, Direction, Durability, Host, OwnedBuffer, RegisteredBuffer, Request, Space,
};
use crate::ring::{
    AbortOnPanic, Engine, Held, RequestPages, RingAccess, RingHandle, Submitter, TableUse, block_signals,
    populate, ring_for_this_thread,
};

/// What the threads of one device share.
pub(super) struct Shared {
    /// The device was started: from here on a command that fails is a bug of ours.
    pub(super) live: AtomicBool,
    /// The device is being stopped: commands come back in whatever way the kernel likes.
    pub(super) stopping: AtomicBool,
    /// A taking over failed: leave the ring to the kernel and the device to the next that tries.
    quit: AtomicBool,
    /// Time is up: requests in hand and new ones fail.
    cut_off: AtomicBool,
    /// The threads that serve.
    handles: Mutex<Vec<RingHandle>>,
    /// Operations at media that have pages of requests: these do not end before.
    lent: Arc<AtomicU32>,
    /// The first error of a command before the device was started; 0 is none.
    pub(super) fault: AtomicI32,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            live: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            handles: Mutex::new(Vec::new()),
            lent: Arc::default(),
            fault: AtomicI32::new(0),
        }
    }

    /// Have the threads end though the kernel still has their commands.
    pub(super) fn quit(&self) {
        self.quit.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Fail the requests in hand and all that come. A stop that waits for a request on a hanging medium would hold the
    /// process for ever, even a killed one: the kernel waits for the request, the request for the character device to be
    /// closed, and that for the thread that waits in the kernel.
    pub(super) fn cut_off(&self) {
        self.cut_off.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// How many operations at media have pages of requests.
    pub(super) fn lent(&self) -> u32 {
        self.lent.load(Ordering::Acquire)
    }

    fn wake(&self) {
        for handle in &*self.handles.lock().unwrap_or_else(PoisonError::into_inner) {
            // Work of any kind makes the thread look; that it is done or not does not matter.
            drop(handle.run(|_| async {}));
        }
    }
}

/// What a queue thread says when it has fetched, or could not.
pub(super) type Report = Result<RingHandle, (&'static str, Errno)>;

/// The ring that the library keeps for each thread.
struct LibraryRing;

impl RingAccess for LibraryRing {
    fn with(&self, work: &mut dyn FnMut(&mut IoUring)) {
        with_task_io_ring_mut(work);
    }
}

/// The library's queue with the device that it borrows from.
struct Queue {
    /// Borrows from `device`; dropped before it, by the order of the fields.
    library: UblkQueue<'static>,
    device: Arc<UblkDev>,
}

impl Queue {
    fn new(number: u16, device: Arc<UblkDev>) -> Result<Self, UblkError> {
        let library = UblkQueue::new(number, &device)?;
        // SAFETY: the queue borrows the device inside the Arc, which this structure keeps for as long as the queue lives
        // and which an Arc never moves. Nobody gets the queue out of here.
        let library = unsafe { std::mem::transmute::<UblkQueue<'_>, UblkQueue<'static>>(library) };
        Ok(Self { library, device })
    }

    /// Where the character device has the bytes of the queue's requests, as `linux/ublk_cmd.h` lays them out.
    fn request_pages(&self, lent: &Arc<AtomicU32>) -> std::io::Result<RequestPages> {
        let queue = u64::from(self.library.get_qid());
        // SAFETY: the device keeps its descriptor open for as long as it lives.
        let character = unsafe { BorrowedFd::borrow_raw(self.device.tgt.fds[0]) };
        let first = u64::from(sys::UBLKSRV_IO_BUF_OFFSET) + (queue << sys::UBLK_QID_OFF);
        Ok(RequestPages::new(
            character.try_clone_to_owned()?,
            first,
            1 << sys::UBLK_TAG_OFF,
            Arc::clone(lent),
        ))
    }

    /// The request that the kernel put into `tag`'s descriptor.
    fn descriptor(&self, tag: u16) -> sys::ublksrv_io_desc {
        *self.library.get_iod(tag)
    }
}

/// Who answers for a tag's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// The kernel has the tag's command.
    Kernel,
    /// The device works on its request.
    Device,
    /// The request was cut off: whatever the device says is not heard.
    CutOff,
}

/// What the tags of one queue share.
struct Tags {
    turns: Vec<Cell<Turn>>,
    /// Tags that have not got their last command back.
    serving: Cell<u16>,
}

/// One tag of a queue: a request at a time, from its fetch to its completion.
struct Tag<D> {
    queue: Rc<Queue>,
    tags: Rc<Tags>,
    /// None for a tag that was cut off: all its requests fail.
    device: Option<Rc<D>>,
    host: QueueHost,
    shared: Arc<Shared>,
    number: u16,
    mode: DataMode,
    /// The memory of copied requests; none in zero copy.
    memory: Option<OwnedBuffer>,
}

impl<D: BlockDevice> Tag<D> {
    /// Serve until the kernel takes the tag back.
    async fn serve(mut self) {
        let answer = self.command(sys::UBLK_U_IO_FETCH_REQ, 0).await;
        self.serve_from(answer).await;
    }

    /// Answer for a request that was cut off, and for those that follow.
    async fn fail(mut self) {
        let answer = self.complete(-libc::EIO).await;
        self.serve_from(answer).await;
    }

    async fn serve_from(&mut self, mut answer: i32) {
        let turn = |tag: &Self| tag.tags.turns[usize::from(tag.number)].get();
        let set = |tag: &Self, turn| tag.tags.turns[usize::from(tag.number)].set(turn);
        while answer == 0 {
            let result = match &self.device {
                Some(device) if !self.shared.cut_off.load(Ordering::SeqCst) => {
                    set(self, Turn::Device);
                    let result = self.perform(device).await;
                    if turn(self) == Turn::CutOff {
                        return;
                    }
                    set(self, Turn::Kernel);
                    result
                }
                _ => -libc::EIO,
            };
            answer = self.complete(result).await;
        }
        self.ended(answer);
    }

    /// The tag's last command came back with `answer`.
    fn ended(&self, answer: i32) {
        self.tags.serving.set(self.tags.serving.get() - 1);
        if answer == sys::UBLK_IO_RES_ABORT || self.shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        if !self.shared.live.load(Ordering::SeqCst) {
            let _ = self.shared.fault.compare_exchange(0, answer.abs(), Ordering::SeqCst, Ordering::SeqCst);
            return;
        }
        // The tag is lost and its request would wait for ever: the process ends and its successor serves the device.
        panic!("ublk refuses a command of tag {}: {}", self.number, Errno::from_raw(-answer));
    }

    /// The one place where a request is completed: `result` is its byte count, 0, or a negative errno. The command waits
    /// for the tag's next request.
    async fn complete(&mut self, result: i32) -> i32 {
        if let Some(memory) = &self.memory
            && !memory.is_unshared()
        {
            // Somebody still works on the memory: a plex that was too slow and is no longer waited for. The next request
            // must not meet it. What a read brought is in the old memory, and the kernel takes it from the new.
            let fresh = OwnedBuffer::zeroed(memory.len());
            if let Ok(read @ 1..) = usize::try_from(result) {
                memory.slice(0, read.min(memory.len())).with_bytes(|bytes| fresh.fill_from(0, bytes));
            }
            self.memory = Some(fresh);
        }
        self.command(sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ, result).await
    }

    async fn command(&self, operation: libc::c_uint, result: i32) -> i32 {
        let command = sys::ublksrv_io_cmd {
            q_id: self.queue.library.get_qid(),
            tag: self.number,
            result,
            addr: self.memory.as_ref().map_or(0, |memory| memory.as_ptr() as u64),
        };
        // SAFETY: sixteen plain bytes into sixteen plain bytes, without padding (the kernel's own union).
        let bytes = unsafe { std::mem::transmute::<sys::ublksrv_io_cmd, [u8; 16]>(command) };
        let mut entry = opcode::UringCmd16::new(types::Fixed(0), operation).cmd(bytes);
        if self.mode == DataMode::Zero {
            // `struct ublk_auto_buf_reg` in the entry's address: the slot, then the flags. A request whose pages cannot be
            // put there comes all the same, and says so.
            let flags = u64::from(sys::UBLK_AUTO_BUF_REG_FALLBACK) << 16;
            entry = entry.addr(Some(u64::from(self.number) | flags));
        }
        let held = Held { buffer: self.memory.clone(), ..Held::default() };
        // SAFETY: the descriptor is slot 0 of the ring's table, the ublk character device; the memory is held.
        unsafe { self.host.submitter().submit(entry.build(), held) }.await
    }

    fn buffer(&self, len: u32, direction: Direction, in_table: bool) -> Option<Buffer> {
        match &self.memory {
            None => {
                let part = RegisteredBuffer { slot: self.number, offset: 0, len, direction, in_table };
                Some(Buffer::Registered(part))
            }
            Some(memory) => {
                let len = len as usize;
                (len <= memory.len()).then(|| Buffer::Owned(memory.slice(0, len)))
            }
        }
    }

    /// Carry out the tag's request; its result as the driver wants it.
    async fn perform(&self, device: &D) -> i32 {
        let descriptor = self.queue.descriptor(self.number);
        let Some((request, success)) = self.request(&descriptor) else { return -libc::EOPNOTSUPP };
        match device.submit(request).await {
            Ok(()) => success,
            Err(errno) => -errno.raw(),
        }
    }

    /// The kernel's request as the trait's, with the result that its success has.
    fn request(&self, descriptor: &sys::ublksrv_io_desc) -> Option<(Request, i32)> {
        let operation = descriptor.op_flags & 0xff;
        if operation == sys::UBLK_IO_OP_FLUSH {
            // Its sector is no sector.
            return Some((Request::Flush, 0));
        }
        let offset = descriptor.start_sector.checked_mul(SECTOR_BYTES)?;
        let bytes = descriptor.nr_sectors.checked_mul(512)?;
        let range = ByteRange::new(offset, u64::from(bytes));
        let durability = if descriptor.op_flags & sys::UBLK_IO_F_FUA == 0 {
            Durability::Volatile
        } else {
            Durability::Durable
        };
        let count = i32::try_from(bytes).ok()?;
        let in_table = descriptor.op_flags & sys::UBLK_IO_F_NEED_REG_BUF == 0;
        Some(match operation {
            sys::UBLK_IO_OP_READ => {
                (Request::Read { offset, buffer: self.buffer(bytes, Direction::Fill, in_table)? }, count)
            }
            sys::UBLK_IO_OP_WRITE => (
                Request::Write {
                    offset,
                    buffer: self.buffer(bytes, Direction::Drain, in_table)?,
                    durability,
                },
                count,
            ),
            sys::UBLK_IO_OP_DISCARD => (Request::Discard { range }, 0),
            sys::UBLK_IO_OP_WRITE_ZEROES => {
                let keep = descriptor.op_flags & sys::UBLK_IO_F_NOUNMAP != 0;
                let space = if keep { Space::Keep } else { Space::Release };
                (Request::WriteZeroes { range, space, durability }, 0)
            }
            _ => return None,
        })
    }
}

fn ring_for(depth: u16) -> Result<(), UblkError> {
    // The queue's commands and three operations for each request; more go to the kernel early.
    let entries = u32::from(depth).max(16) * 4;
    ublk_init_task_ring(|cell| {
        let ring = ring_for_this_thread(entries).map_err(UblkError::IOError)?;
        cell.set(RefCell::new(ring)).map_err(|_| UblkError::OtherError(-libc::EEXIST))
    })
}

/// Have the calling thread run on `cpus` alone.
fn place(cpus: &Cpus) -> std::io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    cpus.numbers().for_each(|number| set.set(number));
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// The body of a queue thread: set up, report, serve until the kernel has taken every command back.
pub(super) fn run<D: BlockDevice + 'static>(
    device: Arc<UblkDev>,
    number: u16,
    mode: DataMode,
    cpus: Option<Cpus>,
    make: &dyn Fn(QueueHost) -> D,
    shared: &Arc<Shared>,
    report: &mpsc::Sender<Report>,
) {
    let _guard = AbortOnPanic;
    block_signals();
    // Also makes the thread an I/O flusher, so that memory it asks for is never found by writing through itself.
    UblkCtrl::init_queue_thread();
    if let Some(cpus) = cpus
        && let Err(error) = place(&cpus)
    {
        let id = device.dev_info.dev_id;
        tracing::warn!(
            "queue {number} of /dev/ublkb{id} cannot run on processors {cpus}: {error}; it runs on any"
        );
    }
    let depth = device.dev_info.queue_depth;
    let bytes = device.dev_info.max_io_buf_bytes as usize;
    let set_up = ring_for(depth).and_then(|()| Queue::new(number, device));
    let queue = match set_up {
        Ok(queue) => Rc::new(queue),
        Err(error) => {
            let _ = report.send(Err(("set up its ring", errno(&error))));
            return;
        }
    };
    let table = match mode {
        DataMode::Zero => queue.request_pages(&shared.lent).map(TableUse::Requests),
        DataMode::Copy => Ok(TableUse::Nobody),
    };
    let engine = match table.and_then(|table| Engine::new(Box::new(LibraryRing), table)) {
        Ok(engine) => engine,
        Err(error) => {
            let _ = report.send(Err(("make its wake-up", Errno::from(error))));
            return;
        }
    };
    shared.handles.lock().unwrap_or_else(PoisonError::into_inner).push(RingHandle::of(&engine));
    let target = Rc::new(make(engine.host()));
    let tags =
        Rc::new(Tags { turns: vec![Cell::new(Turn::Kernel); usize::from(depth)], serving: Cell::new(depth) });
    let tag = |number, device| Tag {
        queue: Rc::clone(&queue),
        tags: Rc::clone(&tags),
        device,
        host: engine.host(),
        shared: Arc::clone(shared),
        number,
        mode,
        memory: match mode {
            DataMode::Copy => Some(OwnedBuffer::zeroed(bytes)),
            DataMode::Zero => None,
        },
    };
    let mut memories = Vec::new();
    for number in 0..depth {
        let tag = tag(number, Some(Rc::clone(&target)));
        memories.extend(tag.memory.as_ref().map(|memory| (memory.as_ptr() as usize, memory.len())));
        engine.host().spawn(tag.serve());
    }
    if mode == DataMode::Copy {
        let (clock, shared) = (engine.host().clock().clone(), Arc::clone(shared));
        let ended = move || shared.stopping.load(Ordering::SeqCst) || shared.quit.load(Ordering::SeqCst);
        engine.host().spawn(populate(clock, memories, ended));
    }
    drop(target);
    // A refused fetch comes back at once; its task leaves the reason.
    engine.turn();
    let fault = shared.fault.load(Ordering::SeqCst);
    let _ = report.send(if fault == 0 {
        Ok(RingHandle::of(&engine))
    } else {
        Err(("fetch requests", Errno::from_raw(fault)))
    });
    engine.run(|engine| {
        if shared.cut_off.load(Ordering::SeqCst) {
            for number in 0..depth {
                let turn = &tags.turns[usize::from(number)];
                if turn.get() == Turn::Device {
                    turn.set(Turn::CutOff);
                    engine.host().retire(number);
                    engine.host().spawn(tag(number, None::<Rc<D>>).fail());
                }
            }
        }
        shared.quit.load(Ordering::SeqCst) || tags.serving.get() == 0 && engine.flying() == 0
    });
    if shared.quit.load(Ordering::SeqCst) && tags.serving.get() > 0 {
        // The fetched commands would be held for ever. The kernel cancels them when the ring goes with this thread; what
        // they name is left to it.
        engine.leak();
        drop(queue);
        return;
    }
    engine.end();
    drop(queue);
}

/// Names what `Queue` holds for its own sake.
impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} of /dev/ublkc{})", self.library.get_qid(), self.device.dev_info.dev_id)
    }
}
