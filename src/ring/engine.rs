//! One thread's ring with its executor, its timers and its wake-ups.
//!
//! The loop: run ready tasks, fire timers, hand the queued submissions to the kernel and wait, take completions. The wait
//! has no time limit unless a timer is set, so an idle thread sleeps. Another thread ends the wait through an eventfd
//! whose read is always in the ring; it writes to it only when the loop is about to sleep.

use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsRawFd, OwnedFd};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::device::RingDevice;
use super::medium::Medium;
use super::operations::Operations;
use super::requests::{Lease, Pool, RequestPages, populate};
use super::submit::{Held, RingSubmitter};
use crate::base::Errno;
use crate::device::{Clock, Direction, Executor, Host, Moment, Notifier, OwnedBuffer, RegisteredBuffer};

/// The user data of the wake-up read and of alarms; every other operation carries its index.
const WAKE: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;

/// Tasks run between two looks at the ring: enough to gather submissions, few enough that no completion waits long.
const TASKS_A_TURN: usize = 256;

/// Slots of a ring thread's table of registered buffers: more than the mover's sixteen at their most.
const BUFFER_SLOTS: usize = 64;

/// Where an engine's ring lives: its own, or the thread-local one of the ublk library.
pub trait RingAccess {
    /// Run `work` with the ring. Not called while it runs already.
    fn with(&self, work: &mut dyn FnMut(&mut IoUring));
}

/// A ring of the engine's own.
pub(super) struct OwnRing(pub(super) RefCell<IoUring>);

impl RingAccess for OwnRing {
    fn with(&self, work: &mut dyn FnMut(&mut IoUring)) {
        work(&mut self.0.borrow_mut());
    }
}

/// A task that another thread hands in.
pub(super) type Injected = Box<dyn FnOnce(RingHost) + Send>;

/// What other threads may touch of an engine.
pub(super) struct Shared {
    event: OwnedFd,
    /// The loop is about to wait, or waits.
    sleeping: AtomicBool,
    pub(super) injected: Mutex<VecDeque<Injected>>,
    pub(super) closing: AtomicBool,
    pub(super) ended: AtomicBool,
}

impl Notifier for Shared {
    fn notify(&self) {
        // Pairs with the loop: it sets `sleeping`, then looks for work once more. Either it sees the work whose pushing
        // came before this call, or this sees `sleeping`.
        if self.sleeping.swap(false, Ordering::SeqCst) {
            // SAFETY: the descriptor is ours and open. The call fails only when 2^64 - 2 wake-ups are unread, and then the
            // thread is awake.
            unsafe { libc::eventfd_write(self.event.as_raw_fd(), 1) };
        }
    }
}

impl Shared {
    pub(super) fn inject(&self, task: Injected) -> Result<(), Injected> {
        let mut queue = self.injected.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the end of the loop either takes the task or refuses it.
        if self.ended.load(Ordering::SeqCst) {
            return Err(task);
        }
        queue.push_back(task);
        drop(queue);
        self.notify();
        Ok(())
    }
}

/// Who uses the buffer table of an engine's ring.
#[derive(Debug)]
pub enum TableUse {
    /// [`RingHost::buffers`].
    Host,
    /// ublk, for the pages of requests.
    Requests(RequestPages),
    /// Nobody.
    Nobody,
}

enum BufferTable {
    /// Not yet asked for.
    Unasked,
    /// The ring's table holds the pages of ublk requests, or there is none.
    Foreign { requests: Option<RequestPages> },
    /// Our own table. The clone keeps the memory from being used for anything else while its pages are pinned.
    Own(Vec<OwnedBuffer>),
}

/// The engine's state, shared by its host, submitters and clocks; all on one thread.
pub struct Core {
    access: Box<dyn RingAccess>,
    shared: Arc<Shared>,
    operations: RefCell<Operations<Held>>,
    /// `None` once the engine has ended.
    executor: RefCell<Option<Executor<'static>>>,
    timers: RefCell<BTreeMap<(Moment, u64), Waker>>,
    next_timer: Cell<u64>,
    /// When the alarms that the kernel has will complete; each is earlier than those before it.
    alarms: RefCell<Vec<Moment>>,
    /// Where the kernel takes the time of a new alarm from.
    alarm_time: Cell<types::Timespec>,
    /// An alarm has completed, and the timers were not looked at since.
    alarmed: Cell<bool>,
    buffers: RefCell<BufferTable>,
    /// For requests whose pages are not lent.
    pool: Pool,
    /// Where the wake-up read puts its eight bytes.
    wake_count: OwnedBuffer,
    wake_armed: Cell<bool>,
    /// How often completions were taken.
    taken: Cell<u64>,
    /// Operations for the ring, which is gone to once for all of them.
    queued: RefCell<Vec<squeue::Entry>>,
    /// Room for what the ring gives: the data and result of each completion.
    completed: Cell<Vec<(u64, i32)>>,
    clock: RingClock,
}

impl Core {
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    fn with_ring<R>(&self, mut work: impl FnMut(&mut IoUring) -> R) -> R {
        let mut result = None;
        self.access.with(&mut |ring| result = Some(work(ring)));
        result.expect("the access runs the work once")
    }

    /// Queue `entry`.
    ///
    /// # Safety
    /// As for [`Submitter::submit`](super::Submitter::submit).
    pub(super) unsafe fn push(&self, entry: squeue::Entry, held: Held) -> usize {
        let index = self.operations.borrow_mut().insert(held);
        // SAFETY: the caller's promise: what the entry names lives until its completion, which frees `held`.
        unsafe { self.queue(entry.user_data(index as u64)) };
        index
    }

    /// # Safety
    /// What `entry` names must stay valid until its completion.
    unsafe fn queue(&self, entry: squeue::Entry) {
        self.queued.borrow_mut().push(entry);
    }

    pub(super) fn poll(&self, index: usize, waker: &Waker) -> Poll<i32> {
        self.operations.borrow_mut().poll(index, waker)
    }

    pub(super) fn abandon(&self, index: usize) {
        self.operations.borrow_mut().abandon(index);
    }

    pub(super) fn lease(&self, slot: u16) -> Option<Lease> {
        match &*self.buffers.borrow() {
            BufferTable::Foreign { requests: Some(requests) } => requests.lease(slot),
            _ => None,
        }
    }

    /// Do `work` with the place of the requests' bytes, if there is one and those of `pages` go in `direction`.
    fn with_pages(
        &self,
        pages: RegisteredBuffer,
        direction: Direction,
        work: impl FnOnce(&RequestPages) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        match &*self.buffers.borrow() {
            BufferTable::Foreign { requests: Some(requests) } if pages.direction == direction => {
                work(requests)
            }
            _ => Err(Errno::INVALID),
        }
    }

    pub(super) fn registered(&self, buffer: &OwnedBuffer) -> Option<u16> {
        let BufferTable::Own(table) = &*self.buffers.borrow() else { return None };
        let start = buffer.as_ptr() as usize;
        let slot = table.iter().position(|entry| {
            let first = entry.as_ptr() as usize;
            first <= start && start + buffer.len() <= first + entry.len()
        })?;
        u16::try_from(slot).ok()
    }

    fn take_completions(&self) {
        self.taken.set(self.taken.get() + 1);
        let mut completed = self.completed.take();
        self.with_ring(|ring| {
            completed.extend(ring.completion().map(|entry| (entry.user_data(), entry.result())));
        });
        for (data, result) in completed.drain(..) {
            if data == WAKE {
                self.wake_armed.set(false);
            } else if data == ALARM {
                self.alarms.borrow_mut().pop();
                self.alarmed.set(true);
            } else {
                let index = usize::try_from(data).expect("an index we gave out");
                let (waker, held) = self.operations.borrow_mut().complete(index, result);
                if let Some(waker) = waker {
                    waker.wake();
                }
                drop(held);
            }
        }
        self.completed.set(completed);
    }

    fn arm_wake(&self) {
        if !self.wake_armed.replace(true) {
            let entry =
                opcode::Read::new(types::Fd(self.shared.event.as_raw_fd()), self.wake_count.as_ptr(), 8)
                    .build()
                    .user_data(WAKE);
            // SAFETY: the buffer and the eventfd live as long as the core, which outlives the read: `Engine::end` waits
            // for its completion.
            unsafe { self.queue(entry) };
        }
    }

    /// Wake who waits for a moment that has come, and have an alarm for the next one.
    ///
    /// A timer is an operation that stays with the kernel, not the time limit of a wait: one that is far off, as most are,
    /// then costs a busy thread nothing, neither a look at the clock nor a timer set and taken back at every wait.
    fn fire_timers(&self) {
        if self.alarmed.take() {
            let now = self.clock.now();
            loop {
                let mut timers = self.timers.borrow_mut();
                let Some(first) = timers.first_entry().filter(|first| first.key().0 <= now) else { break };
                let waker = first.remove();
                drop(timers);
                waker.wake();
            }
        }
        let Some(first) = self.timers.borrow().first_key_value().map(|((at, _), _)| *at) else { return };
        if self.alarms.borrow().last().is_none_or(|alarm| first < *alarm) {
            self.alarms.borrow_mut().push(first);
            self.alarm_time.set(types::Timespec::from(first.since(self.clock.now())));
            let entry = opcode::Timeout::new(self.alarm_time.as_ptr()).build();
            // SAFETY: the time lives as long as the core, and the kernel takes it when it takes the entry. Should it not have
            // taken the one before, that completes as early as this, and nobody misses it.
            unsafe { self.queue(entry.user_data(ALARM)) };
        }
    }

    /// Hand over the submissions; with `wait`, sleep until a completion.
    fn enter(&self, wait: bool) {
        // Nobody queues meanwhile: a task that is woken runs later.
        let mut queued = self.queued.borrow_mut();
        let mut taken = 0;
        loop {
            let result = self.with_ring(|ring| {
                let mut submissions = ring.submission();
                // SAFETY: who queued it promised that what it names stays valid until it completes.
                while taken < queued.len() && unsafe { submissions.push(&queued[taken]).is_ok() } {
                    taken += 1;
                }
                drop(submissions);
                ring.submit_and_wait(usize::from(wait && taken == queued.len()))
            });
            let is_done = taken == queued.len();
            if let Err(error) = result {
                match error.raw_os_error() {
                    // A signal; completions or memory needed first.
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) if is_done => {}
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => self.take_completions(),
                    _ => panic!("io_uring refuses to be entered: {error}"),
                }
            }
            if is_done {
                queued.clear();
                return;
            }
        }
    }
}

/// The monotonic clock of a ring thread; sleeping costs no operation.
#[derive(Clone)]
pub struct RingClock {
    core: std::rc::Weak<Core>,
}

impl Clock for RingClock {
    fn now(&self) -> Moment {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        // Neither is negative on a clock that starts at boot.
        Moment(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    }

    fn sleep_until(&self, at: Moment) -> impl Future<Output = ()> {
        Sleep { clock: self.clone(), at, key: None }
    }
}

struct Sleep {
    clock: RingClock,
    at: Moment,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.at {
            return Poll::Ready(());
        }
        let core = self.clock.core.upgrade().expect("the engine outlives the tasks that it polls");
        let key = self.key.unwrap_or_else(|| {
            let key = core.next_timer.get();
            core.next_timer.set(key + 1);
            key
        });
        core.timers.borrow_mut().insert((self.at, key), cx.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(key), Some(core)) = (self.key, self.clock.core.upgrade()) {
            core.timers.borrow_mut().remove(&(self.at, key));
        }
    }
}

/// What a ring thread offers to the code on it.
#[derive(Clone)]
pub struct RingHost {
    core: Rc<Core>,
}

impl RingHost {
    /// The submitter of this thread's ring, for operations that the block device trait does not have.
    #[must_use]
    pub fn submitter(&self) -> RingSubmitter {
        RingSubmitter { core: Rc::clone(&self.core) }
    }

    /// From now on slot `slot` lends no pages: its request was answered, and late work on it must not reach another's.
    pub fn retire(&self, slot: u16) {
        if let BufferTable::Foreign { requests: Some(requests) } = &*self.core.buffers.borrow() {
            requests.retire(slot);
        }
    }

    /// `count` buffers of `len` bytes, registered with this thread's ring where the kernel lets us: a device on this
    /// thread then spares pinning their pages for each operation. Buffers of an earlier call whose clones are all gone
    /// are handed out again; they hold what was last in them. Where registration fails (no free slot, no locked memory
    /// left, a ublk queue's ring) the buffers are plain, and everything works with them as well.
    ///
    /// # Panics
    /// For buffers of no bytes.
    #[must_use]
    pub fn buffers(&self, count: usize, len: usize) -> Vec<OwnedBuffer> {
        let core = &self.core;
        let mut table = core.buffers.borrow_mut();
        if matches!(*table, BufferTable::Unasked) {
            let slots = u32::try_from(BUFFER_SLOTS).expect("a small constant");
            *table = match core.with_ring(|ring| ring.submitter().register_buffers_sparse(slots)) {
                Ok(()) => BufferTable::Own(Vec::new()),
                Err(_) => BufferTable::Foreign { requests: None },
            };
        }
        let BufferTable::Own(entries) = &mut *table else {
            return (0..count).map(|_| OwnedBuffer::zeroed(len)).collect();
        };
        let mut given: Vec<OwnedBuffer> = entries
            .iter()
            .filter(|buffer| buffer.len() == len && buffer.is_unshared())
            .take(count)
            .cloned()
            .collect();
        while given.len() < count {
            let buffer = OwnedBuffer::zeroed(len);
            if entries.len() < BUFFER_SLOTS {
                let vector = libc::iovec { iov_base: buffer.as_ptr().cast(), iov_len: len };
                let slot = u32::try_from(entries.len()).expect("a slot of a small table");
                // SAFETY: the table keeps a clone of the buffer until the ring is gone.
                let update = core.with_ring(|ring| unsafe {
                    ring.submitter().register_buffers_update(slot, &[vector], None)
                });
                if update.is_ok() {
                    entries.push(buffer.clone());
                }
            }
            given.push(buffer);
        }
        given
    }
}

impl Host for RingHost {
    type Medium = Medium;
    type Device = RingDevice<RingSubmitter>;
    type Clock = RingClock;

    fn open(&self, medium: &Medium) -> Self::Device {
        RingDevice::new(medium.clone(), self.submitter())
    }

    fn clock(&self) -> &RingClock {
        &self.core.clock
    }

    /// Run `task` on this thread. On an engine that has ended it is dropped unrun.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let executor = self.core.executor.borrow().clone();
        if let Some(executor) = executor {
            executor.spawn(task);
        }
    }

    fn reserve(&self) {
        if !matches!(*self.core.buffers.borrow(), BufferTable::Foreign { requests: Some(_) }) {
            return;
        }
        let places = self.core.pool.fill();
        if !places.is_empty() {
            self.spawn(populate(self.clock().clone(), places, || false));
        }
    }

    async fn memory(&self, len: usize, direction: Direction) -> OwnedBuffer {
        self.core.pool.take(len, direction).await
    }

    fn give_back(&self, memory: OwnedBuffer, direction: Direction) {
        self.core.pool.put(memory, direction);
    }

    fn fetch(&self, pages: RegisteredBuffer, memory: &OwnedBuffer) -> Result<(), Errno> {
        self.core.with_pages(pages, Direction::Drain, |requests| requests.fetch(pages, memory))
    }

    fn deliver(&self, pages: RegisteredBuffer, memory: &OwnedBuffer) -> Result<(), Errno> {
        self.core.with_pages(pages, Direction::Fill, |requests| requests.deliver(pages, memory))
    }
}

/// The loop of one thread. It must be [ended](Engine::end) on the thread that made it.
pub struct Engine {
    core: Rc<Core>,
}

impl Engine {
    /// An engine of the calling thread over the ring behind `access`, whose buffer table is for `table`.
    ///
    /// # Errors
    /// The eventfd cannot be made: no descriptor is left.
    pub fn new(access: Box<dyn RingAccess>, table: TableUse) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            event: eventfd(0, EventfdFlags::CLOEXEC)?,
            sleeping: AtomicBool::new(false),
            injected: Mutex::default(),
            closing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let executor = Executor::new(Arc::clone(&shared) as Arc<dyn Notifier>);
        let buffers = match table {
            TableUse::Host => BufferTable::Unasked,
            TableUse::Requests(pages) => BufferTable::Foreign { requests: Some(pages) },
            TableUse::Nobody => BufferTable::Foreign { requests: None },
        };
        let core = Rc::new_cyclic(|core| Core {
            access,
            shared,
            operations: RefCell::new(Operations::new()),
            executor: RefCell::new(Some(executor)),
            timers: RefCell::default(),
            next_timer: Cell::new(0),
            alarms: RefCell::default(),
            alarm_time: Cell::default(),
            alarmed: Cell::new(false),
            buffers: RefCell::new(buffers),
            pool: Pool::default(),
            wake_count: OwnedBuffer::zeroed(8),
            wake_armed: Cell::new(false),
            taken: Cell::new(0),
            queued: RefCell::default(),
            completed: Cell::default(),
            clock: RingClock { core: core.clone() },
        });
        Ok(Self { core })
    }

    /// What the tasks of this engine work with.
    #[must_use]
    pub fn host(&self) -> RingHost {
        RingHost { core: Rc::clone(&self.core) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.core.shared
    }

    /// Tasks that have not ended.
    ///
    /// # Panics
    /// After the end.
    #[must_use]
    pub fn live_tasks(&self) -> usize {
        self.executor().live_tasks()
    }

    /// Operations that the kernel has.
    #[must_use]
    pub fn flying(&self) -> usize {
        self.core.operations.borrow().flying()
    }

    fn executor(&self) -> Executor<'static> {
        self.core.executor.borrow().clone().expect("the engine has not ended")
    }

    fn start_injected(&self) -> bool {
        let taken =
            std::mem::take(&mut *self.core.shared.injected.lock().unwrap_or_else(PoisonError::into_inner));
        let any = !taken.is_empty();
        for start in taken {
            start(self.host());
        }
        any
    }

    /// Run until `done` says so; it is asked whenever no task is ready.
    pub fn run(&self, mut done: impl FnMut(&Self) -> bool) {
        let (core, executor) = (&self.core, self.executor());
        loop {
            self.start_injected();
            for _ in 0..TASKS_A_TURN {
                if !executor.run_one() {
                    break;
                }
            }
            core.fire_timers();
            core.arm_wake();
            core.shared.sleeping.store(true, Ordering::SeqCst);
            let work = executor.has_ready()
                || !core.shared.injected.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            if !work && done(self) {
                core.shared.sleeping.store(false, Ordering::SeqCst);
                return;
            }
            // The answer may have made work.
            core.enter(!work && !executor.has_ready());
            core.shared.sleeping.store(false, Ordering::SeqCst);
            core.take_completions();
        }
    }

    /// Run the ready tasks once and hand over what they submitted, without waiting; then run what completed at once.
    pub fn turn(&self) {
        let executor = self.executor();
        executor.run_ready();
        self.core.enter(false);
        self.core.take_completions();
        executor.run_ready();
    }

    /// Give up this engine while the kernel still has operations: the tasks are dropped, what the operations hold stays
    /// for ever. The ring must go soon after, with its thread.
    pub fn leak(self) {
        self.core.shared.ended.store(true, Ordering::SeqCst);
        drop(self.core.executor.take());
        // While a descriptor of the character device is open, nobody takes the device over.
        self.core.buffers.replace(BufferTable::Foreign { requests: None });
        std::mem::forget(self);
    }

    /// End: wait for every operation that the kernel still has, drop the tasks that are left. Called on every way out of
    /// the thread; while an operation hangs in the kernel, so does this.
    pub fn end(self) {
        let core = &self.core;
        self.run(|engine| engine.flying() == 0);
        let mut queue = core.shared.injected.lock().unwrap_or_else(PoisonError::into_inner);
        core.shared.ended.store(true, Ordering::SeqCst);
        let refused = std::mem::take(&mut *queue);
        drop(queue);
        // What waits for them learns it from their drop.
        drop(refused);
        // The wake-up read is the last operation.
        core.shared.sleeping.store(true, Ordering::SeqCst);
        core.shared.notify();
        while core.wake_armed.get() {
            core.enter(true);
            core.take_completions();
        }
        // Tasks hold the core and the core holds the executor: the circle is cut here. A task may submit when it is
        // dropped no more than when it runs; what it abandons has completed.
        drop(core.executor.take());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Own(RefCell<IoUring>);

    impl RingAccess for Own {
        fn with(&self, work: &mut dyn FnMut(&mut IoUring)) {
            work(&mut self.0.borrow_mut());
        }
    }

    #[test]
    fn timers_cost_one_alarm_for_many() {
        let ring = RefCell::new(IoUring::new(8).unwrap());
        let engine = Engine::new(Box::new(Own(ring)), TableUse::Nobody).unwrap();
        let (host, ended) = (engine.host(), Rc::new(Cell::new(0)));
        // One far off, which nobody reaches, and many before it, some given up.
        let far = Duration::from_secs(3600);
        let clock = host.clock().clone();
        host.spawn(async move { clock.sleep(far).await });
        for number in 0..20_u64 {
            let (clock, ended) = (host.clock().clone(), Rc::clone(&ended));
            host.spawn(async move {
                let began = clock.now();
                for _ in 0..5 {
                    clock.sleep(Duration::from_micros(100 + 50 * number)).await;
                    let given_up = clock.sleep(far);
                    futures_util::future::select(Box::pin(given_up), Box::pin(clock.sleep(Duration::ZERO)))
                        .await;
                }
                assert!(clock.now().since(began) >= Duration::from_micros(5 * (100 + 50 * number)));
                ended.set(ended.get() + 1);
            });
        }
        engine.run(|engine| {
            assert!(engine.core.alarms.borrow().len() <= 21, "{:?}", engine.core.alarms.borrow());
            ended.get() == 20
        });
        assert_eq!(engine.core.alarms.borrow().len(), 1, "that of the one far off");
        engine.end();
    }
}
