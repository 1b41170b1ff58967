//! The inside of a simulated disk: blocks with their durable and their cached values, requests in flight, rules.
//!
//! A block has one durable value and, in the order in which they took effect, the cached values that no flush has saved
//! yet; it reads as the last of them. What a power cut may leave is any one of all these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use super::fault::{Delay, Fault, Operation, Rule, When};
use super::journal::{Event, Journal, Step};
use super::rng::Rng;
use crate::base::{ByteRange, Errno};
use crate::device::{Buffer, Durability, Geometry, Moment, OwnedBuffer, Request};

/// A block's bytes; `None` reads as zero and is a hole.
pub(super) type Value = Option<Arc<[u8]>>;

/// A cached value of a block.
#[derive(Clone)]
struct Cached {
    request: u64,
    value: Value,
    /// A failed flush gave it up: no later flush saves it.
    given_up: bool,
}

#[derive(Clone, Default)]
struct Cell {
    durable: Value,
    cached: Vec<Cached>,
}

impl Cell {
    fn visible(&self) -> &Value {
        self.cached.last().map_or(&self.durable, |cached| &cached.value)
    }
}

/// A change that is in the cache: its blocks, and its place among the completions once its submitter knows of it.
#[derive(Clone)]
struct Unflushed {
    blocks: Vec<u64>,
    completed: Option<u64>,
}

/// A request in flight.
#[derive(Clone)]
pub(super) struct Flight {
    request: Request,
    fault: Option<Fault>,
    effect: Moment,
    complete: Moment,
    /// Completions before its submission: what a flush covers.
    covers: u64,
    /// How it ended, once it took effect.
    result: Option<Result<(), Errno>>,
    /// Waits for a release; with whom to wake then.
    held: bool,
    waker: Option<Waker>,
}

/// What the submitter of a request should do.
pub(super) enum Progress {
    /// Ask again at that moment.
    Wait(Moment),
    /// It is held: the waker given will be woken.
    Held,
    /// It ended so.
    Done(Result<(), Errno>),
}

/// Requests that completed with success, and what they moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Of them, those that were durable on completion.
    pub durable_writes: u64,
    /// Write-zeroes.
    pub zeroes: u64,
    /// Discards.
    pub discards: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Requests of any kind that failed.
    pub errors: u64,
}

/// What a power cut does with the cache as a whole; drawn for each cut.
enum Cut {
    /// The disk had power enough to write it all.
    KeepAll,
    /// Nothing of it was written.
    LoseAll,
    /// It was written in order up to some request.
    Prefix,
    /// Each block for itself is any of its values.
    EachBlock,
}

pub(super) struct State {
    pub(super) geometry: Geometry,
    pub(super) delay: Delay,
    pub(super) rules: Vec<Rule>,
    pub(super) counters: Counters,
    pub(super) dice: Rng,
    pub(super) journal: Journal,
    pub(super) index: u32,
    pub(super) now: Arc<AtomicU64>,
    /// Rises at a cut or kill: older handles are dead.
    pub(super) epoch: u64,
    pub(super) gone: bool,
    pub(super) space_blocks: Option<u64>,
    cells: BTreeMap<u64, Cell>,
    flights: BTreeMap<u64, Flight>,
    due: BTreeSet<(Moment, u64)>,
    unflushed: BTreeMap<u64, Unflushed>,
    completions: u64,
    submissions: u64,
    /// Requests in flight whose submitter is dead.
    orphans: BTreeSet<u64>,
}

impl State {
    pub(super) fn new(
        geometry: Geometry,
        dice: Rng,
        journal: Journal,
        index: u32,
        now: Arc<AtomicU64>,
    ) -> Self {
        Self {
            geometry,
            delay: Delay::default(),
            rules: Vec::new(),
            counters: Counters::default(),
            dice,
            journal,
            index,
            now,
            epoch: 0,
            gone: false,
            space_blocks: None,
            cells: BTreeMap::new(),
            flights: BTreeMap::new(),
            due: BTreeSet::new(),
            unflushed: BTreeMap::new(),
            completions: 0,
            submissions: 0,
            orphans: BTreeSet::new(),
        }
    }

    /// The same disk with the same requests in flight, in another world or as another disk of this one. Memory of
    /// requests in flight is copied, because its owner goes on using the original.
    pub(super) fn fork(&self, dice: Rng, journal: Journal, index: u32, now: Arc<AtomicU64>) -> Self {
        let mut flights = self.flights.clone();
        for flight in flights.values_mut() {
            if let Request::Write { buffer, .. } | Request::Read { buffer, .. } = &mut flight.request {
                *buffer = OwnedBuffer::from_slice(&memory(buffer).to_vec()).into();
            }
            flight.waker = None;
        }
        Self {
            geometry: self.geometry,
            delay: self.delay,
            rules: self.rules.clone(),
            counters: self.counters,
            dice,
            journal,
            index,
            now,
            epoch: self.epoch,
            gone: self.gone,
            space_blocks: self.space_blocks,
            cells: self.cells.clone(),
            flights,
            due: self.due.clone(),
            unflushed: self.unflushed.clone(),
            completions: self.completions,
            submissions: self.submissions,
            orphans: self.orphans.clone(),
        }
    }

    pub(super) fn set_length(&mut self, bytes: u64) {
        assert!(bytes.is_multiple_of(self.block()), "whole blocks");
        self.geometry.length = bytes;
        drop(self.cells.split_off(&(bytes / self.block())));
    }

    fn now(&self) -> Moment {
        Moment(self.now.load(Ordering::Relaxed))
    }

    const fn block(&self) -> u64 {
        self.geometry.block_size as u64
    }

    fn blocks(&self, range: ByteRange) -> std::ops::Range<u64> {
        range.offset / self.block()..range.end() / self.block()
    }

    fn note(&self, id: u64, request: &Request, step: Step) {
        let durable = matches!(
            request,
            Request::Write { durability: Durability::Durable, .. }
                | Request::WriteZeroes { durability: Durability::Durable, .. }
        );
        self.journal.note(Event {
            at: self.now(),
            disk: self.index,
            request: id,
            operation: Operation::of(request),
            range: request.range(),
            durable,
            step,
        });
    }

    /// Take `request`; its number.
    pub(super) fn start(&mut self, request: Request) -> Result<u64, Errno> {
        if self.gone {
            return Err(Errno::GONE);
        }
        let range = request.range();
        let block = self.block();
        let whole = range.offset.is_multiple_of(block) && range.length.is_multiple_of(block);
        if !whole || range.end() > self.geometry.length {
            return Err(Errno::INVALID);
        }
        if let Request::Write { buffer, .. } | Request::Read { buffer, .. } = &request
            && !(memory(buffer).as_ptr() as usize).is_multiple_of(self.geometry.memory_alignment as usize)
        {
            return Err(Errno::INVALID);
        }
        let id = self.submissions;
        self.submissions += 1;
        self.note(id, &request, Step::Submitted);
        let fault = self.draw_fault(&request);
        if let Some(fault) = fault {
            self.note(id, &request, Step::Faulted(fault));
        }
        let mut span = self.delay.draw(&mut self.dice);
        if let Some(Fault::Hang(longer)) = fault {
            span = span.saturating_add(u64::try_from(longer.as_nanos()).unwrap_or(u64::MAX / 4));
        }
        let held = fault == Some(Fault::Hold);
        let mut flight = Flight {
            request,
            fault,
            effect: Moment(u64::MAX),
            complete: Moment(u64::MAX),
            covers: self.completions,
            result: None,
            held,
            waker: None,
        };
        if !held {
            self.schedule(id, &mut flight, span);
        }
        self.flights.insert(id, flight);
        Ok(id)
    }

    /// It completes `span` nanoseconds from now and takes effect at some moment before.
    fn schedule(&mut self, id: u64, flight: &mut Flight, span: u64) {
        let now = self.now();
        flight.complete = now.after(Duration::from_nanos(span));
        let until_effect = match flight.fault {
            // A hang is one before the effect, which is the worse kind: the write may come long after its sender died.
            Some(Fault::Hang(longer)) => {
                let hang = u64::try_from(longer.as_nanos()).unwrap_or(u64::MAX / 4);
                hang.min(span) + self.dice.below(span - hang.min(span) + 1)
            }
            _ => self.dice.below(span + 1),
        };
        flight.effect = now.after(Duration::from_nanos(until_effect));
        self.due.insert((flight.effect, id));
    }

    fn draw_fault(&mut self, request: &Request) -> Option<Fault> {
        let operation = Operation::of(request);
        let range = request.range();
        let mut found = None;
        let mut used_up = None;
        for (at, rule) in self.rules.iter_mut().enumerate() {
            if rule.on != operation || rule.within.is_some_and(|within| !within.overlaps(range)) {
                continue;
            }
            let applies = match &mut rule.when {
                When::Always => true,
                When::Chance(parts) => self.dice.chance(*parts),
                When::Nth(0) => {
                    used_up = Some(at);
                    true
                }
                When::Nth(before) => {
                    *before -= 1;
                    false
                }
            };
            if applies {
                found = Some(rule.fault);
                break;
            }
        }
        if let Some(at) = used_up {
            self.rules.remove(at);
        }
        found
    }

    /// Let everything take effect whose moment has come.
    pub(super) fn catch_up(&mut self) {
        let now = self.now();
        while let Some(&(at, id)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.pop_first();
            self.take_effect(id);
        }
        self.reap(now);
    }

    /// End the requests of the dead whose time has come.
    fn reap(&mut self, now: Moment) {
        if self.orphans.is_empty() {
            return;
        }
        let ended =
            |id: &u64| self.flights.get(id).is_none_or(|flight| !flight.held && flight.complete <= now);
        let ended: Vec<u64> = self.orphans.iter().copied().filter(ended).collect();
        for id in ended {
            self.orphans.remove(&id);
            let Some(flight) = self.flights.remove(&id) else { continue };
            self.due.remove(&(flight.effect, id));
            let result = if self.gone { Err(Errno::GONE) } else { flight.result.unwrap_or(Err(Errno::IO)) };
            self.complete(id, &flight, result);
        }
    }

    /// Nobody waits any more for what is in flight.
    pub(super) fn abandon(&mut self) {
        self.catch_up();
        for (&id, flight) in &mut self.flights {
            flight.waker = None;
            self.orphans.insert(id);
        }
        let now = self.now();
        self.reap(now);
    }

    pub(super) fn abandoned(&self) -> usize {
        self.orphans.len()
    }

    /// How request `id` stands; `epoch` is that of the handle which submitted it.
    pub(super) fn progress(&mut self, id: u64, epoch: u64, waker: &Waker) -> Progress {
        self.catch_up();
        let now = self.now();
        let gone = self.gone || epoch != self.epoch;
        let Some(flight) = self.flights.get_mut(&id) else { return Progress::Done(Err(Errno::GONE)) };
        if flight.held {
            flight.waker = Some(waker.clone());
            return Progress::Held;
        }
        if flight.complete > now && !gone {
            return Progress::Wait(flight.complete);
        }
        let Some(flight) = self.flights.remove(&id) else { return Progress::Done(Err(Errno::GONE)) };
        self.due.remove(&(flight.effect, id));
        let result = if gone { Err(Errno::GONE) } else { flight.result.unwrap_or(Err(Errno::IO)) };
        self.complete(id, &flight, result);
        Progress::Done(result)
    }

    fn complete(&mut self, id: u64, flight: &Flight, result: Result<(), Errno>) {
        self.note(id, &flight.request, Step::Completed(result));
        if result.is_err() {
            self.counters.errors += 1;
            return;
        }
        self.completions += 1;
        if let Some(change) = self.unflushed.get_mut(&id) {
            change.completed = Some(self.completions);
        }
        let length = flight.request.range().length;
        let counters = &mut self.counters;
        match &flight.request {
            Request::Read { .. } => {
                counters.reads += 1;
                counters.bytes_read += length;
            }
            Request::Write { durability, .. } => {
                counters.writes += 1;
                counters.bytes_written += length;
                if *durability == Durability::Durable {
                    counters.durable_writes += 1;
                    self.save(id);
                }
            }
            Request::WriteZeroes { durability, .. } => {
                counters.zeroes += 1;
                if *durability == Durability::Durable {
                    self.save(id);
                }
            }
            Request::Discard { .. } => counters.discards += 1,
            Request::Flush => counters.flushes += 1,
        }
    }

    fn take_effect(&mut self, id: u64) {
        let Some(flight) = self.flights.get(&id) else { return };
        let (request, fault, covers) = (flight.request.clone(), flight.fault, flight.covers);
        self.note(id, &request, Step::Effect);
        let result = match (&request, fault) {
            (_, Some(Fault::Lost)) => Ok(()),
            (Request::Flush, Some(Fault::Error(errno))) => {
                self.give_up(covers);
                Err(errno)
            }
            (Request::Flush, _) => {
                self.flush(covers);
                Ok(())
            }
            (Request::Read { .. }, Some(Fault::Error(errno))) => Err(errno),
            (Request::Read { buffer, .. }, fault) => {
                if fault == Some(Fault::BitRot) {
                    self.rot(request.range());
                }
                memory(buffer).fill_from(0, &self.visible(request.range()));
                Ok(())
            }
            (_, Some(Fault::Error(errno))) => {
                self.change_some(id, &request);
                Err(errno)
            }
            (_, Some(Fault::Misdirected)) => {
                let elsewhere = self.elsewhere(request.range());
                self.change(id, &request, elsewhere, |_| true);
                Ok(())
            }
            (_, fault) => {
                if self.space_left() < self.space_needed(&request) {
                    self.change_some(id, &request);
                    Err(Errno::NO_SPACE)
                } else {
                    self.change(id, &request, request.range().offset, |_| true);
                    if fault == Some(Fault::BitRot) {
                        self.rot(request.range());
                    }
                    Ok(())
                }
            }
        };
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.result = Some(result);
        }
    }

    /// The values that `request` gives its blocks, in order; a discard leaves it to dice where nothing is promised.
    fn values(&mut self, request: &Request) -> Vec<Value> {
        let block = self.block() as usize;
        match request {
            Request::Write { buffer, .. } => {
                memory(buffer).to_vec().chunks(block).map(|bytes| Some(bytes.into())).collect()
            }
            Request::WriteZeroes { range, .. } => vec![None; range.length as usize / block],
            Request::Discard { range } if self.geometry.discard_zeroes => {
                vec![None; range.length as usize / block]
            }
            Request::Discard { range } => self
                .blocks(*range)
                .map(|at| match self.dice.below(3) {
                    0 => None,
                    1 => self.cells.get(&at).and_then(|cell| cell.visible().clone()),
                    _ => Some(vec![self.dice.next_u64() as u8; block].into()),
                })
                .collect(),
            Request::Read { .. } | Request::Flush => Vec::new(),
        }
    }

    /// Put the values of `request` into the cache from `offset` on, where `take` says so for the block's place.
    fn change(&mut self, id: u64, request: &Request, offset: u64, mut take: impl FnMut(usize) -> bool) {
        let first = offset / self.block();
        let mut blocks = Vec::new();
        for (place, value) in self.values(request).into_iter().enumerate() {
            if take(place) {
                let at = first + place as u64;
                let cell = self.cells.entry(at).or_default();
                cell.cached.push(Cached { request: id, value, given_up: false });
                blocks.push(at);
            }
        }
        self.unflushed.insert(id, Unflushed { blocks, completed: None });
    }

    /// What a failure leaves: each block for itself old or new, or all old, or all new. Space is not asked for.
    fn change_some(&mut self, id: u64, request: &Request) {
        let parts = *self.dice.pick(&[0, 500_000, 1_000_000]);
        let mut dice = self.dice.split();
        self.change(id, request, request.range().offset, |_| dice.chance(parts));
    }

    fn elsewhere(&mut self, range: ByteRange) -> u64 {
        let places = (self.geometry.length - range.length) / self.block() + 1;
        self.dice.below(places) * self.block()
    }

    fn rot(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        let at = self.blocks(range).start + self.dice.below(range.length / self.block());
        let bit = self.dice.below(self.block() * 8);
        let zeroes = vec![0; self.block() as usize];
        let cell = self.cells.entry(at).or_default();
        let mut bytes = cell.visible().as_deref().map_or(zeroes, <[u8]>::to_vec);
        bytes[bit as usize / 8] ^= 1 << (bit % 8);
        let rotten = Some(bytes.into());
        match cell.cached.last_mut() {
            Some(cached) => cached.value = rotten,
            None => cell.durable = rotten,
        }
    }

    /// Blocks that hold anything, cached or durable.
    fn space_used(&self) -> u64 {
        let holds = |cell: &&Cell| cell.durable.is_some() || cell.cached.iter().any(|c| c.value.is_some());
        self.cells.values().filter(holds).count() as u64
    }

    fn space_left(&self) -> u64 {
        self.space_blocks.map_or(u64::MAX, |limit| limit.saturating_sub(self.space_used()))
    }

    fn space_needed(&self, request: &Request) -> u64 {
        match (request, self.space_blocks) {
            (Request::Write { .. }, Some(_)) => {
                let new = |at: &u64| self.cells.get(at).is_none_or(|cell| cell.visible().is_none());
                self.blocks(request.range()).filter(new).count() as u64
            }
            _ => 0,
        }
    }

    /// Make the values of change `id` durable, and with them nothing older in their blocks stays in the cache.
    fn save(&mut self, id: u64) {
        let Some(change) = self.unflushed.remove(&id) else { return };
        for at in change.blocks {
            let Some(cell) = self.cells.get_mut(&at) else { continue };
            // Not there: overwritten by a change that is durable already.
            if let Some(place) = cell.cached.iter().position(|c| c.request == id && !c.given_up) {
                cell.durable = cell.cached[place].value.clone();
                cell.cached.drain(..=place);
            }
            if cell.cached.is_empty() && cell.durable.is_none() {
                self.cells.remove(&at);
            }
        }
    }

    fn flush(&mut self, covers: u64) {
        let changes: Vec<_> = self.unflushed.iter().map(|(&id, change)| (id, change.completed)).collect();
        for (id, completed) in changes {
            if completed.is_some_and(|at| at <= covers) || self.dice.coin() {
                self.save(id);
            }
        }
    }

    /// A failed flush: of what it covered some is saved, the rest reads back for now and is lost to later flushes.
    fn give_up(&mut self, covers: u64) {
        let changes: Vec<_> = self.unflushed.iter().map(|(&id, change)| (id, change.completed)).collect();
        for (id, completed) in changes {
            if completed.is_none_or(|at| at > covers) {
                continue;
            }
            if self.dice.coin() {
                self.save(id);
                continue;
            }
            let Some(change) = self.unflushed.remove(&id) else { continue };
            for at in change.blocks {
                let Some(cell) = self.cells.get_mut(&at) else { continue };
                for cached in cell.cached.iter_mut().filter(|cached| cached.request == id) {
                    cached.given_up = true;
                }
            }
        }
    }

    /// Let go what is held: it takes effect and completes in its time.
    pub(super) fn release(&mut self) {
        let held: Vec<u64> = self.flights.iter().filter(|(_, f)| f.held).map(|(&id, _)| id).collect();
        for id in held {
            let span = self.delay.draw(&mut self.dice);
            let Some(mut flight) = self.flights.remove(&id) else { continue };
            flight.held = false;
            self.schedule(id, &mut flight, span);
            if let Some(waker) = flight.waker.take() {
                waker.wake();
            }
            self.flights.insert(id, flight);
        }
    }

    /// How many requests are held.
    pub(super) fn held(&self) -> usize {
        self.flights.values().filter(|flight| flight.held).count()
    }

    /// How many requests have not completed.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The process is dead and the kernel is not: what is in flight takes effect, in any order.
    pub(super) fn settle(&mut self) {
        self.catch_up();
        let mut waiting: Vec<u64> =
            self.flights.iter().filter(|(_, f)| f.result.is_none()).map(|(&id, _)| id).collect();
        self.dice.shuffle(&mut waiting);
        for id in waiting {
            self.take_effect(id);
        }
        // They have completed, and nobody was told: a flush from now on covers them.
        self.completions += 1;
        for change in self.unflushed.values_mut() {
            change.completed.get_or_insert(self.completions);
        }
        self.forget_flights();
    }

    fn forget_flights(&mut self) {
        self.due.clear();
        self.orphans.clear();
        self.epoch += 1;
        for (_, flight) in std::mem::take(&mut self.flights) {
            if let Some(waker) = flight.waker {
                waker.wake();
            }
        }
    }

    /// Cut the power; what stays follows from `dice`.
    pub(super) fn power_cut(&mut self, dice: &mut Rng) {
        self.catch_up();
        let mut waiting: Vec<u64> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.result.is_none() && flight.request.changes())
            .map(|(&id, _)| id)
            .collect();
        dice.shuffle(&mut waiting);
        let before = self.submissions;
        let cut = match dice.below(6) {
            0 => Cut::KeepAll,
            1 => Cut::LoseAll,
            2 => Cut::Prefix,
            _ => Cut::EachBlock,
        };
        for id in waiting {
            // In flight, so perhaps not begun; if begun, on any of its blocks.
            let Some(flight) = self.flights.get(&id) else { continue };
            let (request, fault) = (flight.request.clone(), flight.fault);
            if fault != Some(Fault::Lost) && self.space_left() >= self.space_needed(&request) {
                let offset = match fault {
                    Some(Fault::Misdirected) => self.elsewhere(request.range()),
                    _ => request.range().offset,
                };
                let parts = *dice.pick(&[0, 500_000, 1_000_000]);
                self.change(id, &request, offset, |_| dice.chance(parts));
            }
        }
        let last_kept = dice.below(before + 1);
        for cell in self.cells.values_mut() {
            let kept = match cut {
                Cut::KeepAll => cell.cached.iter().rposition(|cached| !cached.given_up),
                Cut::LoseAll => None,
                Cut::Prefix => {
                    cell.cached.iter().rposition(|cached| !cached.given_up && cached.request < last_kept)
                }
                Cut::EachBlock => dice.index(cell.cached.len() + 1).checked_sub(1),
            };
            if let Some(place) = kept {
                cell.durable = cell.cached[place].value.clone();
            }
            cell.cached.clear();
        }
        self.cells.retain(|_, cell| cell.durable.is_some());
        self.unflushed.clear();
        self.forget_flights();
    }

    /// The device is pulled: what is in flight fails, some of it half done.
    pub(super) fn disappear(&mut self) {
        self.catch_up();
        let waiting: Vec<u64> =
            self.flights.iter().filter(|(_, f)| f.result.is_none()).map(|(&id, _)| id).collect();
        for id in waiting {
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            flight.result = Some(Err(Errno::GONE));
            let request = flight.request.clone();
            if request.changes() {
                self.change_some(id, &request);
            }
        }
        self.gone = true;
        self.due.clear();
        self.release();
        // Released flights were given a time of effect; they have none any more.
        self.due.clear();
    }

    /// What `range` reads as.
    pub(super) fn visible(&self, range: ByteRange) -> Vec<u8> {
        let block = self.block() as usize;
        let mut bytes = vec![0; range.length as usize];
        for (at, cell) in self.cells.range(self.blocks(range)) {
            if let Some(value) = cell.visible() {
                let from = (at * self.block() - range.offset) as usize;
                bytes[from..from + block].copy_from_slice(value);
            }
        }
        bytes
    }

    /// What `range` would read as if the cache were lost.
    pub(super) fn durable(&self, range: ByteRange) -> Vec<u8> {
        let block = self.block() as usize;
        let mut bytes = vec![0; range.length as usize];
        for (at, cell) in self.cells.range(self.blocks(range)) {
            if let Some(value) = &cell.durable {
                let from = (at * self.block() - range.offset) as usize;
                bytes[from..from + block].copy_from_slice(value);
            }
        }
        bytes
    }

    /// Set what `range` holds, durably, as if it had always been so.
    pub(super) fn poke(&mut self, offset: u64, bytes: &[u8]) {
        let first = offset / self.block();
        for (place, block) in bytes.chunks(self.geometry.block_size as usize).enumerate() {
            let durable = block.iter().any(|byte| *byte != 0).then(|| Arc::from(block));
            self.cells.insert(first + place as u64, Cell { durable, cached: Vec::new() });
        }
    }

    /// The first run of data inside `span`.
    pub(super) fn next_data(&self, span: ByteRange) -> Option<ByteRange> {
        let mut run: Option<std::ops::Range<u64>> = None;
        for (&at, cell) in self.cells.range(self.blocks(span)) {
            if cell.visible().is_none() {
                continue;
            }
            match &mut run {
                None => run = Some(at..at + 1),
                Some(run) if run.end == at => run.end += 1,
                Some(_) => break,
            }
        }
        run.map(|run| ByteRange::new(run.start * self.block(), (run.end - run.start) * self.block()))
    }

    /// Blocks in `range` that are no holes, as block number and bytes, in ascending order.
    pub(super) fn contents(&self, range: ByteRange) -> Vec<(u64, Arc<[u8]>)> {
        let data = |(&at, cell): (&u64, &Cell)| cell.visible().clone().map(|bytes| (at, bytes));
        self.cells.range(self.blocks(range)).filter_map(data).collect()
    }
}

/// The bytes of a buffer. A registered buffer lives on its own ring alone.
pub(super) fn memory(buffer: &Buffer) -> &OwnedBuffer {
    match buffer {
        Buffer::Owned(owned) => owned,
        Buffer::Registered(_) => panic!("a registered buffer reached a simulated disk"),
    }
}
