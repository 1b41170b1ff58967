//! The common log of all disks of a world, in the order of things.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::{Fault, Operation};
use crate::base::{ByteRange, Errno};
use crate::device::Moment;

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The disk took it.
    Submitted,
    /// A rule gave it a fault.
    Faulted(Fault),
    /// It took effect.
    Effect,
    /// Its submitter was told the outcome.
    Completed(Result<(), Errno>),
}

/// One line of the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// When, in the time of the world.
    pub at: Moment,
    /// Which disk, in the order in which the world made them.
    pub disk: u32,
    /// Which request of that disk, counted from zero.
    pub request: u64,
    /// Its kind.
    pub operation: Operation,
    /// What it touches.
    pub range: ByteRange,
    /// Whether it asks to be durable on completion.
    pub durable: bool,
    /// How far it has come.
    pub step: Step,
}

struct Log {
    names: Vec<String>,
    kept: VecDeque<Event>,
    keep: usize,
    total: u64,
    digest: u64,
}

/// The journal of a world; clones share it.
#[derive(Clone)]
pub struct Journal {
    log: Arc<Mutex<Log>>,
}

impl Journal {
    /// Events that are kept unless the caller asks for more: enough to see what led to a failure.
    pub const KEEP: usize = 2048;

    pub(super) fn new() -> Self {
        let log = Log {
            names: Vec::new(),
            kept: VecDeque::new(),
            keep: Self::KEEP,
            total: 0,
            digest: 0xcbf2_9ce4_8422_2325,
        };
        Self { log: Arc::new(Mutex::new(log)) }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_disk(&self, name: &str) -> u32 {
        let mut log = self.log();
        log.names.push(name.to_owned());
        u32::try_from(log.names.len() - 1).expect("a world has few disks")
    }

    pub(super) fn note(&self, event: Event) {
        let mut log = self.log();
        log.total += 1;
        let outcome = match event.step {
            Step::Submitted => 1,
            Step::Faulted(_) => 2,
            Step::Effect => 3,
            Step::Completed(Ok(())) => 4,
            Step::Completed(Err(errno)) => 5 + errno.raw() as u64,
        };
        let words = [
            event.at.0,
            u64::from(event.disk),
            event.request,
            event.operation as u64,
            event.range.offset,
            event.range.length,
            u64::from(event.durable),
            outcome,
        ];
        // FNV-1a, a word at a time: only meant to tell two runs apart.
        for word in words {
            log.digest = (log.digest ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if log.keep > 0 {
            if log.kept.len() == log.keep {
                log.kept.pop_front();
            }
            log.kept.push_back(event);
        }
    }

    /// Keep the last `events` from now on; `usize::MAX` keeps all.
    pub fn keep(&self, events: usize) {
        let mut log = self.log();
        log.keep = events;
        while log.kept.len() > events {
            log.kept.pop_front();
        }
    }

    /// Forget the events so far; the digest goes on.
    pub fn clear(&self) {
        self.log().kept.clear();
    }

    /// The events that are kept, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.log().kept.iter().copied().collect()
    }

    /// A number that two runs share if and (nearly) only if all their events were the same.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.log().digest
    }

    /// How many events there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.log().total
    }
}

impl fmt::Display for Journal {
    /// The kept events, one a line: time in microseconds, disk, request, kind, range, step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.log();
        for event in &log.kept {
            let name = &log.names[event.disk as usize];
            let micros = event.at.0 as f64 / 1000.0;
            let durable = if event.durable { " durable" } else { "" };
            writeln!(
                f,
                "{micros:14.3} {name} #{} {:?} {}{durable}: {:?}",
                event.request, event.operation, event.range, event.step
            )?;
        }
        Ok(())
    }
}
