//! The scheduler: one thread, seeded order, virtual time, and a verdict when nothing can go on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::clock::SimClock;
use super::disk::{SimDevice, SimDisk};
use super::journal::Journal;
use super::rng::Rng;
use crate::base::Errno;
use crate::device::{
    Clock, Direction, Executor, Geometry, Host, Moment, Notifier, OwnedBuffer, RegisteredBuffer,
};

type Newborn = Pin<Box<dyn Future<Output = ()>>>;

/// Nobody waits outside of the executor, so there is nobody to wake.
struct Nobody;
impl Notifier for Nobody {
    fn notify(&self) {}
}

fn fresh_executor() -> Executor<'static> {
    Executor::new(Arc::new(Nobody))
}

/// Why a run ended before it was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stuck {
    /// Tasks live, none is ready and no timer waits: a deadlock.
    Deadlock {
        /// The seed of the world.
        seed: u64,
        /// How many tasks wait for each other.
        tasks: usize,
        /// When it happened.
        at: Moment,
    },
    /// The time limit of the run passed while timers went on firing.
    TooLong {
        /// The seed of the world.
        seed: u64,
        /// How many tasks live.
        tasks: usize,
        /// When it was given up.
        at: Moment,
    },
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock { seed, tasks, at } => {
                write!(f, "seed {seed}: {tasks} tasks wait for each other after {} ns", at.0)
            }
            Self::TooLong { seed, tasks, at } => {
                write!(f, "seed {seed}: {tasks} tasks are not done after {} ns", at.0)
            }
        }
    }
}

impl std::error::Error for Stuck {}

/// One thread, one clock, any number of tasks and disks; everything that happens follows from the seed.
pub struct World {
    seed: u64,
    executor: RefCell<Executor<'static>>,
    /// Spawned by tasks and not yet given to the executor: hosts hold this list and not the executor, which owns the
    /// tasks that own the hosts.
    newborn: Rc<RefCell<Vec<Newborn>>>,
    clock: SimClock,
    dice: RefCell<Rng>,
    journal: Journal,
    limit: Cell<Duration>,
    lent: Lent,
}

/// The pages of requests that are lent to disks, by slot, as a ublk queue's ring has them.
pub(super) type Lent = Rc<RefCell<BTreeMap<u16, OwnedBuffer>>>;

/// The memory of `pages`.
pub(super) fn lent_memory(lent: &Lent, pages: RegisteredBuffer) -> Option<OwnedBuffer> {
    let whole = lent.borrow().get(&pages.slot)?.clone();
    Some(whole.slice(pages.offset as usize, pages.len as usize))
}

impl World {
    /// Virtual time that one [`World::block_on`] may take unless set otherwise: far above every time limit of a volume.
    pub const LIMIT: Duration = Duration::from_secs(3600);

    /// The world of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Rng::new(seed);
        Self {
            seed,
            executor: RefCell::new(fresh_executor()),
            newborn: Rc::default(),
            clock: SimClock::new(dice.split()),
            dice: RefCell::new(dice),
            journal: Journal::new(),
            limit: Cell::new(Self::LIMIT),
            lent: Lent::default(),
        }
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A thread of this world. All threads share its executor and clock; each has its own handles.
    #[must_use]
    pub fn host(&self) -> SimHost {
        SimHost { newborn: Rc::clone(&self.newborn), clock: self.clock.clone(), lent: Rc::clone(&self.lent) }
    }

    /// Lend `memory` as the pages of the request in `slot`, whose bytes go in `direction`.
    pub fn lend(&self, slot: u16, memory: OwnedBuffer, direction: Direction) -> RegisteredBuffer {
        let len = u32::try_from(memory.len()).expect("a request is small");
        self.lent.borrow_mut().insert(slot, memory);
        RegisteredBuffer { slot, offset: 0, len, direction, in_table: true }
    }

    /// The clock.
    #[must_use]
    pub const fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// The log of all disks.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Random numbers that follow from the seed.
    #[must_use]
    pub fn split_dice(&self) -> Rng {
        self.dice.borrow_mut().split()
    }

    /// An empty disk of this world, whose faults and delays follow from the seed; `name` is for the journal.
    #[must_use]
    pub fn disk(&self, name: &str, geometry: Geometry) -> SimDisk {
        SimDisk::new(
            name,
            geometry,
            self.split_dice(),
            self.journal.clone(),
            Arc::clone(self.clock.shared_now()),
        )
    }

    /// Set the virtual time that one run may take.
    pub fn set_limit(&self, limit: Duration) {
        self.limit.set(limit);
    }

    /// Add a task; it runs when the world does.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.newborn.borrow_mut().push(Box::pin(task));
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn live_tasks(&self) -> usize {
        self.executor.borrow().live_tasks() + self.newborn.borrow().len()
    }

    fn adopt(&self) {
        // Taken out first: a task's destructor may spawn.
        let newborn = std::mem::take(&mut *self.newborn.borrow_mut());
        for task in newborn {
            self.executor.borrow().spawn(task);
        }
    }

    /// Poll one ready task; false when none is ready.
    fn poll_one(&self) -> bool {
        self.adopt();
        let executor = self.executor.borrow().clone();
        executor.run_picked(|ready| self.dice.borrow_mut().index(ready))
    }

    /// Do one thing: poll a ready task or, when none is ready, go on to the next timer. False when neither can be.
    pub fn step(&self) -> bool {
        self.poll_one() || self.clock.advance()
    }

    /// Run `future` to its end beside the tasks of the world, which live on afterwards.
    ///
    /// # Errors
    /// [`Stuck`] when it cannot end.
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Result<T, Stuck> {
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        self.spawn(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        self.run_until(|| result.borrow().is_some())?;
        let value = result.borrow_mut().take();
        Ok(value.expect("run_until ended because the result is there"))
    }

    /// Run until `done` says so; it is asked before each step.
    ///
    /// # Errors
    /// [`Stuck`] when that does not come.
    pub fn run_until(&self, done: impl Fn() -> bool) -> Result<(), Stuck> {
        let end = self.clock.now().after(self.limit.get());
        while !done() {
            let (seed, at) = (self.seed, self.clock.now());
            if at > end {
                return Err(Stuck::TooLong { seed, tasks: self.live_tasks(), at });
            }
            if !self.step() {
                return Err(Stuck::Deadlock { seed, tasks: self.live_tasks(), at });
            }
        }
        Ok(())
    }

    /// Run until no task is left.
    ///
    /// # Errors
    /// [`Stuck`] when one stays.
    pub fn run(&self) -> Result<(), Stuck> {
        self.run_until(|| self.live_tasks() == 0)
    }

    /// Run for `span` of virtual time, or less when nothing is left to do; the clock then stands at the end of the span.
    pub fn run_for(&self, span: Duration) {
        let end = self.clock.now().after(span);
        loop {
            while self.poll_one() {}
            if self.clock.next_timer().is_none_or(|at| at > end) {
                break;
            }
            self.clock.advance();
        }
        self.clock.pass(end);
    }

    /// Take `steps` steps, or fewer when nothing is left to do; true if all were taken.
    pub fn run_steps(&self, steps: u64) -> bool {
        (0..steps).all(|_| self.step())
    }

    /// Kill every task where it stands, as SIGKILL does. Disks keep the requests in flight; time goes on.
    pub fn kill(&self) {
        let dead = self.executor.replace(fresh_executor());
        let unborn = std::mem::take(&mut *self.newborn.borrow_mut());
        drop((dead, unborn));
        // What destructors spawned belongs to the dead process.
        self.newborn.borrow_mut().clear();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A thread of a [`World`].
#[derive(Clone)]
pub struct SimHost {
    newborn: Rc<RefCell<Vec<Newborn>>>,
    clock: SimClock,
    lent: Lent,
}

impl Host for SimHost {
    type Medium = SimDisk;
    type Device = SimDevice;
    type Clock = SimClock;

    fn open(&self, medium: &SimDisk) -> SimDevice {
        SimDevice::new(medium.clone(), self.clock.clone(), Rc::clone(&self.lent))
    }

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.newborn.borrow_mut().push(Box::pin(task));
    }

    fn fetch(&self, pages: RegisteredBuffer, memory: &OwnedBuffer) -> Result<(), Errno> {
        let from = lent_memory(&self.lent, pages).filter(|_| pages.direction == Direction::Drain);
        from.ok_or(Errno::INVALID)?.with_bytes(|bytes| memory.fill_from(0, bytes));
        Ok(())
    }

    fn deliver(&self, pages: RegisteredBuffer, memory: &OwnedBuffer) -> Result<(), Errno> {
        let into = lent_memory(&self.lent, pages).filter(|_| pages.direction == Direction::Fill);
        let into = into.ok_or(Errno::INVALID)?;
        memory.with_bytes(|bytes| into.fill_from(0, bytes));
        Ok(())
    }
}
