//! What the tests of the mover stand on: a disk in memory that dawdles and fails, a clock, a table of windows, and an
//! executor that rolls dice. All of one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::base::{ByteRange, Errno};
use crate::device::{BlockDevice, Clock, Executor, Geometry, Moment, Notifier, OwnedBuffer, Request};

use super::windows::Windows;

/// A small generator (xorshift), so that a run is replayed from its seed.
#[derive(Clone)]
pub(super) struct Dice(Rc<Cell<u64>>);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)))
    }

    pub(super) fn roll(&self, sides: u64) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        (x >> 11) % sides
    }
}

/// A clock that moves a millisecond each time somebody waits for it.
#[derive(Clone, Default)]
pub(super) struct TestClock(Rc<Cell<u64>>);

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment(self.0.get())
    }
    async fn sleep_until(&self, at: Moment) {
        while self.now() < at {
            self.0.set(self.0.get() + 1_000_000);
            tokio::task::yield_now().await;
        }
    }
}

/// What a disk shall fail at: the number of good requests of the kind before the one bad one.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub read: Option<u64>,
    pub write: Option<u64>,
    pub flush: Option<u64>,
}

/// A disk in memory. A transfer takes effect in halves, each after some dawdling. A flush keeps what had completed before it
/// was submitted and nothing else; one that fails loses that for good, and the next one succeeds, as disks and file systems
/// do it.
pub(super) struct Disk {
    pub bytes: RefCell<Vec<u8>>,
    /// What completed writes have left and no flush has covered yet, in order.
    unflushed: RefCell<Vec<(usize, Vec<u8>)>>,
    /// What would be read after a power cut.
    pub durable: RefCell<Vec<u8>>,
    pub faults: Cell<Faults>,
    pub reads: Cell<u64>,
    pub writes: Cell<u64>,
    pub zeroes: Cell<u64>,
    pub flushes: Cell<u64>,
    /// How often it was asked where data are.
    pub asked: Cell<u64>,
    pub written: RefCell<Vec<ByteRange>>,
    /// Whether `next_data` knows about zero pages.
    pub tells_holes: Cell<bool>,
    dice: Dice,
}

impl Disk {
    pub(super) fn new(bytes: Vec<u8>, dice: &Dice) -> Self {
        Self {
            unflushed: RefCell::default(),
            durable: RefCell::new(bytes.clone()),
            bytes: RefCell::new(bytes),
            faults: Cell::default(),
            reads: Cell::default(),
            writes: Cell::default(),
            zeroes: Cell::default(),
            flushes: Cell::default(),
            asked: Cell::default(),
            written: RefCell::default(),
            tells_holes: Cell::new(true),
            dice: dice.clone(),
        }
    }

    async fn dawdle(&self) {
        for _ in 0..self.dice.roll(4) {
            tokio::task::yield_now().await;
        }
    }

    fn count(&self, counter: &Cell<u64>, limit: Option<u64>) -> Result<(), Errno> {
        counter.set(counter.get() + 1);
        if limit.is_some_and(|good| counter.get() == good + 1) { Err(Errno::IO) } else { Ok(()) }
    }

    async fn read(&self, offset: usize, buffer: &OwnedBuffer) -> Result<(), Errno> {
        self.count(&self.reads, self.faults.get().read)?;
        let half = buffer.len() / 2;
        self.dawdle().await;
        buffer.fill_from(0, &self.bytes.borrow()[offset..offset + half]);
        self.dawdle().await;
        buffer.fill_from(half, &self.bytes.borrow()[offset + half..offset + buffer.len()]);
        Ok(())
    }

    async fn write(&self, offset: usize, data: &dyn Fn() -> Vec<u8>, len: usize) -> Result<(), Errno> {
        self.count(&self.writes, self.faults.get().write)?;
        self.written.borrow_mut().push(ByteRange::new(offset as u64, len as u64));
        let half = len / 2;
        self.dawdle().await;
        self.bytes.borrow_mut()[offset..offset + half].copy_from_slice(&data()[..half]);
        self.dawdle().await;
        self.bytes.borrow_mut()[offset + half..offset + len].copy_from_slice(&data()[half..]);
        self.dawdle().await;
        let now = self.bytes.borrow()[offset..offset + len].to_vec();
        self.unflushed.borrow_mut().push((offset, now));
        Ok(())
    }

    async fn flush(&self) -> Result<(), Errno> {
        let covered = self.unflushed.take();
        self.dawdle().await;
        self.count(&self.flushes, self.faults.get().flush)?;
        for (offset, bytes) in covered {
            self.durable.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }
}

impl BlockDevice for Disk {
    fn geometry(&self) -> Geometry {
        let length = self.bytes.borrow().len() as u64;
        Geometry { length, block_size: 512, memory_alignment: 512, discard_zeroes: false }
    }

    async fn submit(&self, request: Request) -> Result<(), Errno> {
        let range = request.range();
        assert!(
            range.offset.is_multiple_of(512)
                && range.length.is_multiple_of(512)
                && range.end() <= self.geometry().length
        );
        match request {
            Request::Read { offset, buffer } => self.read(offset as usize, buffer.owned().unwrap()).await,
            Request::Write { offset, buffer, .. } => {
                let buffer = buffer.owned().unwrap();
                self.write(offset as usize, &|| buffer.to_vec(), buffer.len()).await
            }
            Request::WriteZeroes { range, .. } | Request::Discard { range } => {
                self.zeroes.set(self.zeroes.get() + 1);
                let len = range.length as usize;
                self.write(range.offset as usize, &|| vec![0; len], len).await
            }
            Request::Flush => self.flush().await,
        }
    }

    async fn next_data(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        self.asked.set(self.asked.get() + 1);
        self.dawdle().await;
        if !self.tells_holes.get() {
            return Ok(Some(span));
        }
        let bytes = self.bytes.borrow();
        // Pages that hold a byte other than zero, as a file system of 4 KiB blocks answers.
        let is_data = |piece: &ByteRange| {
            bytes[piece.offset as usize..piece.end() as usize].iter().any(|byte| *byte != 0)
        };
        let mut pieces = span.pieces(4096).skip_while(|piece| !is_data(piece)).take_while(is_data);
        let Some(first) = pieces.next() else { return Ok(None) };
        let end = pieces.last().unwrap_or(first).end();
        Ok(Some(ByteRange::new(first.offset, end - first.offset)))
    }
}

/// Windows against the writes of a volume: a window is published, then the writes in it drain; a write waits for
/// windows, then counts itself.
#[derive(Default)]
pub(super) struct Table {
    held: Rc<RefCell<Vec<ByteRange>>>,
    writes: Rc<RefCell<Vec<ByteRange>>>,
    /// How many windows there have been.
    pub claims: Cell<u64>,
}

pub(super) struct Held {
    list: Rc<RefCell<Vec<ByteRange>>>,
    range: ByteRange,
}

impl Held {
    fn new(list: &Rc<RefCell<Vec<ByteRange>>>, range: ByteRange) -> Self {
        list.borrow_mut().push(range);
        Self { list: Rc::clone(list), range }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut list = self.list.borrow_mut();
        let at = list.iter().position(|range| *range == self.range).unwrap();
        list.swap_remove(at);
    }
}

async fn wait_for(list: &RefCell<Vec<ByteRange>>, range: ByteRange) {
    while list.borrow().iter().any(|held| held.overlaps(range)) {
        tokio::task::yield_now().await;
    }
}

impl Table {
    /// Enter `range` as a write, also behind overlapping writes, as a volume serialises them.
    pub(super) async fn enter(&self, range: ByteRange) -> Held {
        loop {
            wait_for(&self.held, range).await;
            wait_for(&self.writes, range).await;
            if !self.held.borrow().iter().any(|held| held.overlaps(range)) {
                return Held::new(&self.writes, range);
            }
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held.borrow().len()
    }
}

impl Windows for Table {
    type Guard = Held;
    async fn claim(&self, range: ByteRange) -> Held {
        assert!(!self.held.borrow().iter().any(|held| held.overlaps(range)), "windows overlap");
        self.claims.set(self.claims.get() + 1);
        let held = Held::new(&self.held, range);
        wait_for(&self.writes, range).await;
        held
    }
}

struct Nobody;
impl Notifier for Nobody {
    fn notify(&self) {}
}

/// Run `task` beside `others` to the end of all, in an order that the dice choose; `look` is called between the steps.
pub(super) fn run<'a, T>(
    dice: &Dice,
    task: impl Future<Output = T> + 'a,
    others: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>>,
    mut look: impl FnMut(u64),
) -> T {
    let result = Rc::new(Cell::new(None));
    let executor = Executor::new(Arc::new(Nobody));
    let slot = Rc::clone(&result);
    executor.spawn(async move { slot.set(Some(task.await)) });
    others.into_iter().for_each(|other| executor.spawn(other));
    let mut step = 0;
    while executor.live_tasks() > 0 {
        assert!(executor.run_picked(|ready| dice.roll(ready as u64) as usize), "everybody waits");
        look(step);
        step += 1;
        assert!(step < 3_000_000, "no end in sight");
    }
    result.take().unwrap()
}
