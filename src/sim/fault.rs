//! What can be switched on: delays, and rules that say which request meets which fault.

use std::time::Duration;

use super::rng::Rng;
use crate::base::{ByteRange, Errno};
use crate::device::Request;

/// The kinds of request, as rules and counters tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Operation {
    /// A read.
    Read,
    /// A write, durable or not.
    Write,
    /// Write-zeroes.
    Zeroes,
    /// A discard.
    Discard,
    /// A flush.
    Flush,
}

impl Operation {
    /// What kind `request` is of.
    #[must_use]
    pub const fn of(request: &Request) -> Self {
        match request {
            Request::Read { .. } => Self::Read,
            Request::Write { .. } => Self::Write,
            Request::WriteZeroes { .. } => Self::Zeroes,
            Request::Discard { .. } => Self::Discard,
            Request::Flush => Self::Flush,
        }
    }
}

/// What happens to a request instead of what should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails with this error, and leaves what a failure may leave.
    Error(Errno),
    /// It succeeds and has no effect. A lost flush makes nothing durable; a lost read fills nothing.
    Lost,
    /// A write, zeroes or discard that succeeds and takes effect elsewhere on the device. Other requests are not changed.
    Misdirected,
    /// One bit of a block in the range flips on the medium, then the request is carried out: a read returns it. On a
    /// write it flips after the write.
    BitRot,
    /// Its effect and its completion come this much later.
    Hang(Duration),
    /// It has no effect and does not complete before [`super::SimDisk::release`].
    Hold,
}

/// How often a rule applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// To the request that comes after `n` others which match; then the rule is used up. `Nth(0)` is the next one.
    Nth(u64),
    /// To every request that matches.
    Always,
    /// To this many requests in a million.
    Chance(u32),
}

/// A fault and the requests that meet it. Of several rules that apply, the one added first does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The kind of request.
    pub on: Operation,
    /// Only requests that touch this range; a flush touches none.
    pub within: Option<ByteRange>,
    /// How often.
    pub when: When,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// The rule that `on` meets `fault` wherever it goes.
    #[must_use]
    pub const fn new(on: Operation, when: When, fault: Fault) -> Self {
        Self { on, within: None, when, fault }
    }

    /// The same rule, only for requests that touch `range`.
    #[must_use]
    pub const fn within(self, range: ByteRange) -> Self {
        Self { within: Some(range), ..self }
    }
}

/// How long requests take: a number drawn evenly from a span, and seldom a slow one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delay {
    /// The shortest.
    pub min: Duration,
    /// The longest of the ordinary ones.
    pub max: Duration,
    /// How many in a million are slow.
    pub slow_chance: u32,
    /// What a slow one takes.
    pub slow: Duration,
}

impl Default for Delay {
    /// 20 to 200 microseconds, one in a thousand 20 milliseconds: a flash disk that collects its garbage.
    fn default() -> Self {
        Self {
            min: Duration::from_micros(20),
            max: Duration::from_micros(200),
            slow_chance: 1000,
            slow: Duration::from_millis(20),
        }
    }
}

impl Delay {
    /// Always exactly `span`.
    #[must_use]
    pub const fn fixed(span: Duration) -> Self {
        Self { min: span, max: span, slow_chance: 0, slow: span }
    }

    /// Nanoseconds of one request: at least one, because no disk answers while it is asked.
    pub(super) fn draw(&self, dice: &mut Rng) -> u64 {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 4);
        let span = if dice.chance(self.slow_chance) {
            nanos(self.slow)
        } else {
            dice.within(nanos(self.min)..nanos(self.max).max(nanos(self.min)) + 1)
        };
        span.max(1)
    }
}
