//! The simulated disk: the shared medium and one thread's handle of it.

use std::future::poll_fn;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::clock::SimClock;
use super::fault::{Delay, Rule};
use super::journal::Journal;
use super::medium::{Counters, Progress, State};
use super::rng::Rng;
use super::world::{Lent, World, lent_memory};
use crate::base::{ByteRange, Errno};
use crate::device::{BlockDevice, Buffer, Clock, Geometry, Request};

/// A simulated disk; clones are the same one. See [`crate::sim`] for what it can do.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    pub(super) fn new(
        name: &str,
        geometry: Geometry,
        dice: Rng,
        journal: Journal,
        now: Arc<AtomicU64>,
    ) -> Self {
        let index = journal.add_disk(name);
        Self { state: Arc::new(Mutex::new(State::new(geometry, dice, journal, index, now))) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // After a panic the disk is only looked at, to tell what happened.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as it was just looked at: with everything in effect whose moment has come.
    fn current(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.catch_up();
        state
    }

    /// What the disk is like.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.state().geometry
    }

    /// Have `bytes` bytes from now on, for good, as a file that is made longer or cut off: what is new reads as zero. Nothing may
    /// be in flight behind a new end.
    pub fn set_length(&self, bytes: u64) {
        self.current().set_length(bytes);
    }

    /// Its place among the disks of its world: [`super::Event::disk`].
    #[must_use]
    pub fn index(&self) -> u32 {
        self.state().index
    }

    /// A copy with cache and requests in flight, as a disk of another world. A clock that began later
    /// than this one makes what is in flight come later.
    #[must_use]
    pub fn fork(&self, world: &World, name: &str) -> Self {
        let journal = world.journal().clone();
        let index = journal.add_disk(name);
        let now = Arc::clone(world.clock().shared_now());
        let state = self.current().fork(world.split_dice(), journal, index, now);
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A copy with cache and requests in flight, as another disk of the same world.
    #[must_use]
    pub fn copy(&self, name: &str) -> Self {
        let mut state = self.current();
        let (journal, now, dice) = (state.journal.clone(), Arc::clone(&state.now), state.dice.split());
        let index = journal.add_disk(name);
        Self { state: Arc::new(Mutex::new(state.fork(dice, journal, index, now))) }
    }

    /// Switch a fault on.
    pub fn add_rule(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Switch all faults off; those drawn for requests in flight stay.
    pub fn clear_rules(&self) {
        self.state().rules.clear();
    }

    /// Rules that are not used up.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        self.state().rules.clone()
    }

    /// How long requests take from now on.
    pub fn set_delay(&self, delay: Delay) {
        self.state().delay = delay;
    }

    /// Let the medium have room for `bytes` of data; a write that needs more fails with [`Errno::NO_SPACE`].
    pub fn limit_space(&self, bytes: Option<u64>) {
        let mut state = self.state();
        state.space_blocks = bytes.map(|bytes| bytes / u64::from(state.geometry.block_size));
    }

    /// Let go every request that [`super::Fault::Hold`] holds.
    pub fn release(&self) {
        self.state().release();
    }

    /// How many requests are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state().held()
    }

    /// How many requests have not completed, those of killed tasks included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.current().in_flight()
    }

    /// Pull the device: requests in flight, some half done, and later ones fail with [`Errno::GONE`].
    pub fn disappear(&self) {
        self.state().disappear();
    }

    /// Whether the device is pulled.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.state().gone
    }

    /// Plug the device in again, cache and all; cut its power meanwhile to lose the cache.
    pub fn reappear(&self) {
        self.state().gone = false;
    }

    /// Cut the power: what survives follows from `dice`. Handles from before answer [`Errno::GONE`]; open it again.
    pub fn power_cut(&self, dice: &mut Rng) {
        self.state().power_cut(dice);
    }

    /// The process died, the kernel did not: what is in flight takes effect in any order and nothing is lost. Handles
    /// from before answer [`Errno::GONE`].
    pub fn settle(&self) {
        self.state().settle();
    }

    /// The process died, the kernel did not: what is in flight takes effect in its own time, and nobody is told. Held requests
    /// stay held.
    pub fn abandon(&self) {
        self.state().abandon();
    }

    /// How many requests of dead processes are still in flight: a lock is held until there are none.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.current().abandoned()
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.current().counters
    }

    /// What `range` reads as now.
    #[must_use]
    pub fn peek(&self, range: ByteRange) -> Vec<u8> {
        self.current().visible(range)
    }

    /// What `range` would read as if the cache were lost.
    #[must_use]
    pub fn peek_durable(&self, range: ByteRange) -> Vec<u8> {
        self.current().durable(range)
    }

    /// Put whole blocks of `bytes` at `offset`, durably and past all rules.
    ///
    /// # Panics
    /// When `offset` or the length is not in whole blocks of the device.
    pub fn poke(&self, offset: u64, bytes: &[u8]) {
        let mut state = self.current();
        let block = u64::from(state.geometry.block_size);
        assert!(
            offset.is_multiple_of(block) && (bytes.len() as u64).is_multiple_of(block),
            "poke in whole blocks"
        );
        assert!(offset + bytes.len() as u64 <= state.geometry.length, "poke inside the device");
        state.poke(offset, bytes);
    }

    /// The blocks, as byte offsets in ascending order, in which this disk and `other` read differently inside `range`.
    ///
    /// # Panics
    /// When the block sizes differ.
    #[must_use]
    pub fn differences(&self, other: &Self, range: ByteRange) -> Vec<u64> {
        let block = u64::from(self.geometry().block_size);
        assert_eq!(block, u64::from(other.geometry().block_size), "block by block needs one block size");
        let (ours, theirs) = (self.current().contents(range), other.current().contents(range));
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let (mut ours, mut theirs) = (ours.iter().peekable(), theirs.iter().peekable());
        let mut found = Vec::new();
        // Two ascending lists side by side; a block that only one of them has is a hole in the other.
        loop {
            let at = match (ours.peek(), theirs.peek()) {
                (Some((our, _)), Some((their, _))) => *our.min(their),
                (Some((at, _)), None) | (None, Some((at, _))) => *at,
                (None, None) => return found,
            };
            let our = ours.next_if(|(block, _)| *block == at);
            let their = theirs.next_if(|(block, _)| *block == at);
            let same = match (our, their) {
                (Some((_, our)), Some((_, their))) => our == their,
                (Some((_, one)), None) | (None, Some((_, one))) => is_zero(one),
                (None, None) => true,
            };
            if !same {
                found.push(at * block);
            }
        }
    }
}

/// One thread's handle of a [`SimDisk`].
pub struct SimDevice {
    disk: SimDisk,
    clock: SimClock,
    epoch: u64,
    lent: Lent,
}

impl SimDevice {
    pub(super) fn new(disk: SimDisk, clock: SimClock, lent: Lent) -> Self {
        let epoch = disk.state().epoch;
        Self { disk, clock, epoch, lent }
    }

    /// The request with memory in place of the pages that it lends.
    fn with_memory(&self, request: Request) -> Result<Request, Errno> {
        let memory = |buffer| match buffer {
            Buffer::Registered(pages) if pages.in_table => {
                lent_memory(&self.lent, pages).map(Buffer::Owned).ok_or(Errno::INVALID)
            }
            Buffer::Registered(_) => Err(Errno::INVALID),
            owned @ Buffer::Owned(_) => Ok(owned),
        };
        Ok(match request {
            Request::Read { offset, buffer } => Request::Read { offset, buffer: memory(buffer)? },
            Request::Write { offset, buffer, durability } => {
                Request::Write { offset, buffer: memory(buffer)?, durability }
            }
            other => other,
        })
    }

    /// The disk behind the handle.
    #[must_use]
    pub const fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn alive(&self) -> Result<MutexGuard<'_, State>, Errno> {
        let state = self.disk.current();
        if state.epoch == self.epoch && !state.gone { Ok(state) } else { Err(Errno::GONE) }
    }
}

impl BlockDevice for SimDevice {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }

    async fn submit(&self, request: Request) -> Result<(), Errno> {
        let id = self.alive()?.start(self.with_memory(request)?)?;
        loop {
            let progress =
                poll_fn(|context| Poll::Ready(self.disk.state().progress(id, self.epoch, context.waker())))
                    .await;
            match progress {
                Progress::Done(result) => return result,
                Progress::Wait(at) => self.clock.sleep_until(at).await,
                Progress::Held => {
                    // The waker is kept by the disk; come back when it was woken.
                    let mut woken = false;
                    poll_fn(|_| {
                        if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                }
            }
        }
    }

    async fn next_data(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        let block = u64::from(self.geometry().block_size);
        let whole = span.offset.is_multiple_of(block) && span.length.is_multiple_of(block);
        if !whole || span.end() > self.geometry().length {
            return Err(Errno::INVALID);
        }
        // As with a request, the answer was true at some moment between question and answer.
        let (before, after) = {
            let mut state = self.alive()?;
            let delay = state.delay;
            let total = delay.draw(&mut state.dice);
            let before = state.dice.below(total + 1);
            (Duration::from_nanos(before), Duration::from_nanos(total - before))
        };
        self.clock.sleep(before).await;
        let found = self.alive()?.next_data(span);
        self.clock.sleep(after).await;
        Ok(found)
    }
}
