//! What a volume may answer: per block, the writes that may still be seen.
//!
//! Each write has a beginning and, once it was answered, an end. A write is **surpassed** by another that began after its
//! end and was acknowledged. A read may return any write that had begun before the read ended and was not surpassed by
//! one acknowledged before the read began: overlapping writes in flight have no order.
//!
//! A write is **durable** when it was acknowledged as such, or acknowledged before a flush began that was acknowledged.
//! After a crash a block may hold any write that was not surpassed by a durable one. What it was then found to hold is
//! what it holds: a second look may not find another.
//!
//! A failed write may or may not have happened. A failed flush gives up what it covered: no later flush saves that.

use std::collections::BTreeMap;

use crate::pattern::{BLOCK, Stamp, ZEROES};
use cleave::base::ByteRange;

#[derive(Clone, Debug)]
struct Written {
    operation: u64,
    stamp: Stamp,
    begin: u64,
    /// When it was answered; a write in flight has none.
    end: Option<u64>,
    acknowledged: bool,
    durable: bool,
}

impl Written {
    /// Whether `self` surely came after `other`.
    fn surpasses(&self, other: &Self) -> bool {
        self.acknowledged && other.end.is_some_and(|end| end < self.begin)
    }
}

/// A write that was acknowledged and not made durable.
struct Pending {
    range: ByteRange,
    end: u64,
    given_up: bool,
}

/// A write that was begun.
pub struct WriteToken {
    operation: u64,
    range: ByteRange,
    durable: bool,
}

/// A read that was begun.
pub struct ReadToken {
    range: ByteRange,
    begin: u64,
}

/// A flush that was begun.
pub struct FlushToken {
    begin: u64,
}

/// The oracle of one volume.
#[derive(Default)]
pub struct Oracle {
    time: u64,
    operations: u64,
    blocks: BTreeMap<u64, Vec<Written>>,
    pending: BTreeMap<u64, Pending>,
    in_flight: BTreeMap<u64, (Stamp, ByteRange)>,
    /// Beginnings of reads in flight, with how many began then: what they may see is not forgotten.
    reading: BTreeMap<u64, u32>,
    /// Whether the last crash took the caches too.
    power: bool,
}

fn blocks_of(range: ByteRange) -> std::ops::Range<u64> {
    range.offset / BLOCK..range.end() / BLOCK
}

/// What a block held before anything was written: zeroes, durable since ever.
const FIRST: Written =
    Written { operation: 0, stamp: ZEROES, begin: 0, end: Some(0), acknowledged: true, durable: true };

impl Oracle {
    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    fn writes(&mut self, block: u64) -> &mut Vec<Written> {
        self.blocks.entry(block).or_insert_with(|| vec![FIRST])
    }

    /// A write, discard or zeroes of `stamp` is about to be submitted; `durable` if its acknowledgement means that.
    pub fn begin_write(&mut self, range: ByteRange, stamp: Stamp, durable: bool) -> WriteToken {
        let begin = self.tick();
        self.operations += 1;
        let operation = self.operations;
        for block in blocks_of(range) {
            let write = Written { operation, stamp, begin, end: None, acknowledged: false, durable: false };
            self.writes(block).push(write);
        }
        self.in_flight.insert(operation, (stamp, range));
        WriteToken { operation, range, durable }
    }

    /// The write was answered.
    pub fn end_write(&mut self, token: WriteToken, acknowledged: bool) {
        let WriteToken { operation, range, durable } = token;
        let end = self.tick();
        self.in_flight.remove(&operation);
        for block in blocks_of(range) {
            for write in self.writes(block).iter_mut().filter(|write| write.operation == operation) {
                write.end = Some(end);
                write.acknowledged = acknowledged;
                write.durable = acknowledged && durable;
            }
        }
        if acknowledged && durable {
            self.prune(range);
        } else if acknowledged {
            self.pending.insert(operation, Pending { range, end, given_up: false });
        }
    }

    /// A flush is about to be submitted.
    pub fn begin_flush(&mut self) -> FlushToken {
        FlushToken { begin: self.tick() }
    }

    /// The flush was answered.
    pub fn end_flush(&mut self, token: FlushToken, acknowledged: bool) {
        let covered: Vec<u64> =
            self.pending.iter().filter(|(_, write)| write.end < token.begin).map(|(&id, _)| id).collect();
        for operation in covered {
            if !acknowledged {
                self.pending.entry(operation).and_modify(|write| write.given_up = true);
                continue;
            }
            if self.pending[&operation].given_up {
                continue;
            }
            let Some(Pending { range, .. }) = self.pending.remove(&operation) else { continue };
            for block in blocks_of(range) {
                for write in self.writes(block).iter_mut().filter(|write| write.operation == operation) {
                    write.durable = true;
                }
            }
            self.prune(range);
        }
    }

    /// Forget writes that were surpassed by durable ones, unless a read in flight may see them.
    fn prune(&mut self, range: ByteRange) {
        let oldest_read = self.reading.keys().next().copied().unwrap_or(u64::MAX);
        for block in blocks_of(range) {
            let writes = self.writes(block);
            let by: Vec<Written> = writes
                .iter()
                .filter(|write| write.durable && write.end.is_some_and(|end| end < oldest_read))
                .cloned()
                .collect();
            writes.retain(|write| !by.iter().any(|later| later.surpasses(write)));
        }
    }

    /// A read is about to be submitted.
    pub fn begin_read(&mut self, range: ByteRange) -> ReadToken {
        let begin = self.tick();
        *self.reading.entry(begin).or_default() += 1;
        ReadToken { range, begin }
    }

    /// The read failed.
    pub fn fail_read(&mut self, token: ReadToken) {
        self.reading.remove(&token.begin);
    }

    /// The read returned blocks of `stamps`.
    pub fn end_read(&mut self, token: ReadToken, stamps: &[Stamp]) -> Result<(), String> {
        self.reading.remove(&token.begin);
        for (block, &stamp) in blocks_of(token.range).zip(stamps) {
            let allowed = self.readable(block, token.begin);
            if !allowed.contains(&stamp) {
                return Err(format!(
                    "a read found write {stamp} in block {block}; allowed are {allowed:?} of {:?}",
                    self.blocks.get(&block)
                ));
            }
        }
        Ok(())
    }

    fn readable(&self, block: u64, begin: u64) -> Vec<Stamp> {
        let Some(writes) = self.blocks.get(&block) else { return vec![ZEROES] };
        let surpassed = |write: &Written| {
            writes.iter().any(|later| later.surpasses(write) && later.end.is_some_and(|end| end < begin))
        };
        writes.iter().filter(|write| !surpassed(write)).map(|write| write.stamp).collect()
    }

    /// What `block` may read as now, with no read in flight.
    pub fn now(&self, block: u64) -> Vec<Stamp> {
        self.readable(block, u64::MAX)
    }

    /// Writes that were not answered.
    pub fn writes_in_flight(&self) -> impl Iterator<Item = (Stamp, ByteRange)> {
        self.in_flight.values().copied()
    }

    /// Everything stopped where it stood; `power` if caches were lost too. Until [`Oracle::found`] a block may hold any
    /// write that may have survived.
    pub fn crash(&mut self, power: bool) {
        self.power = power;
        let end = self.tick();
        for (_, range) in std::mem::take(&mut self.in_flight).into_values() {
            for block in blocks_of(range) {
                for write in self.writes(block).iter_mut().filter(|write| write.end.is_none()) {
                    write.end = Some(end);
                }
            }
        }
        self.reading.clear();
        if !power {
            // Acknowledged, in a cache, and yet to be flushed.
            return;
        }
        self.pending.clear();
        for writes in self.blocks.values_mut() {
            let by: Vec<Written> = writes.iter().filter(|write| write.durable).cloned().collect();
            writes.retain(|write| !by.iter().any(|later| later.surpasses(write)));
            // What is left may be there and may be not: none of it surpasses another any more.
            for write in writes.iter_mut() {
                (write.begin, write.end) = (end, Some(end));
            }
        }
    }

    /// The process died and its successor is given the requests that were in flight: nothing that was in a cache is lost.
    pub fn killed(&mut self) {
        self.power = false;
    }

    /// Blocks that were ever written.
    pub fn blocks(&self) -> impl Iterator<Item = u64> {
        self.blocks.keys().copied()
    }

    /// After a crash, `block` was found to hold `stamp`, and goes on holding it: for good after a power cut, which left no
    /// cache; else until a power cut, unless a flush comes first.
    pub fn found(&mut self, block: u64, stamp: Stamp) -> Result<(), String> {
        let allowed = self.now(block);
        if !allowed.contains(&stamp) {
            return Err(format!(
                "after a crash block {block} holds write {stamp}, of {:?}",
                self.blocks.get(&block)
            ));
        }
        if self.power {
            let writes = self.writes(block);
            writes.retain(|write| write.stamp == stamp);
            writes.truncate(1);
            (writes[0].acknowledged, writes[0].durable) = (true, true);
        } else if allowed.len() > 1 {
            let range = ByteRange::new(block * BLOCK, BLOCK);
            let token = self.begin_write(range, stamp, false);
            self.end_write(token, true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cleave::sim::Rng;

    fn one(block: u64) -> ByteRange {
        ByteRange::new(block * BLOCK, BLOCK)
    }

    fn write(oracle: &mut Oracle, stamp: Stamp) {
        let token = oracle.begin_write(one(0), stamp, false);
        oracle.end_write(token, true);
    }

    fn flush(oracle: &mut Oracle, acknowledged: bool) {
        let token = oracle.begin_flush();
        oracle.end_flush(token, acknowledged);
    }

    fn crash(oracle: &mut Oracle) -> Vec<Stamp> {
        oracle.crash(true);
        let mut allowed = oracle.now(0);
        allowed.sort_unstable();
        allowed
    }

    #[test]
    fn an_acknowledged_write_is_what_is_read() {
        let mut oracle = Oracle::default();
        write(&mut oracle, 1);
        write(&mut oracle, 2);
        assert_eq!(oracle.now(0), [2]);
        let read = oracle.begin_read(one(0));
        assert!(oracle.end_read(read, &[1]).is_err());
        assert_eq!(oracle.now(1), [ZEROES]);
    }

    #[test]
    fn writes_in_flight_together_have_no_order() {
        let mut oracle = Oracle::default();
        let first = oracle.begin_write(one(0), 1, false);
        let second = oracle.begin_write(one(0), 2, false);
        assert_eq!(oracle.now(0), [ZEROES, 1, 2]);
        oracle.end_write(second, true);
        assert_eq!(
            oracle.now(0),
            [1, 2],
            "the first may come after the second, nothing brings back what was before"
        );
        oracle.end_write(first, true);
        assert_eq!(oracle.now(0), [1, 2]);
        write(&mut oracle, 3);
        assert_eq!(oracle.now(0), [3]);
    }

    #[test]
    fn a_read_may_see_what_was_surpassed_after_it_began() {
        let mut oracle = Oracle::default();
        write(&mut oracle, 1);
        let read = oracle.begin_read(one(0));
        let durable = oracle.begin_write(one(0), 2, true);
        oracle.end_write(durable, true);
        oracle.end_read(read, &[1]).unwrap();
        let read = oracle.begin_read(one(0));
        assert!(oracle.end_read(read, &[1]).is_err());
    }

    #[test]
    fn a_crash_leaves_the_last_durable_write_or_a_later_one() {
        let mut oracle = Oracle::default();
        write(&mut oracle, 1);
        write(&mut oracle, 2);
        flush(&mut oracle, true);
        write(&mut oracle, 3);
        let _in_flight = oracle.begin_write(one(0), 4, false);
        assert_eq!(crash(&mut oracle), [2, 3, 4]);
        assert!(oracle.found(0, 1).is_err());
        oracle.found(0, 3).unwrap();
        assert!(oracle.found(0, 2).is_err(), "a second look finds the same");
        assert_eq!(crash(&mut oracle), [3], "and so does a second crash");
    }

    #[test]
    fn a_flush_covers_what_ended_before_it_began() {
        let mut oracle = Oracle::default();
        write(&mut oracle, 1);
        let late = oracle.begin_write(one(0), 2, false);
        let flush = oracle.begin_flush();
        oracle.end_write(late, true);
        oracle.end_flush(flush, true);
        assert_eq!(crash(&mut oracle), [1, 2]);
    }

    #[test]
    fn a_durable_write_needs_no_flush() {
        let mut oracle = Oracle::default();
        write(&mut oracle, 1);
        let token = oracle.begin_write(one(0), 2, true);
        oracle.end_write(token, true);
        assert_eq!(crash(&mut oracle), [2]);
    }

    #[test]
    fn a_failed_write_may_have_happened_and_surpasses_nothing() {
        let mut oracle = Oracle::default();
        write(&mut oracle, 1);
        let token = oracle.begin_write(one(0), 2, true);
        oracle.end_write(token, false);
        assert_eq!(oracle.now(0), [1, 2]);
        write(&mut oracle, 3);
        assert_eq!(oracle.now(0), [3]);
        assert_eq!(crash(&mut oracle), [ZEROES, 1, 2, 3]);
    }

    #[test]
    fn a_second_flush_does_not_save_what_the_first_gave_up() {
        let mut oracle = Oracle::default();
        write(&mut oracle, 1);
        flush(&mut oracle, false);
        flush(&mut oracle, true);
        assert_eq!(crash(&mut oracle), [ZEROES, 1]);
        oracle.found(0, 1).unwrap();
    }

    #[test]
    fn a_killed_process_loses_nothing_that_was_acknowledged() {
        let mut oracle = Oracle::default();
        write(&mut oracle, 1);
        write(&mut oracle, 2);
        let _in_flight = oracle.begin_write(one(0), 3, false);
        oracle.crash(false);
        assert_eq!(oracle.now(0), [2, 3]);
        oracle.found(0, 2).unwrap();
        assert!(oracle.found(0, 3).is_err(), "a second look finds the same");
        assert_eq!(crash(&mut oracle), [0, 1, 2, 2, 3], "the cache that it was found in may be lost yet");
    }

    #[test]
    fn a_flush_saves_what_was_found_after_a_kill() {
        let mut oracle = Oracle::default();
        write(&mut oracle, 1);
        let _in_flight = oracle.begin_write(one(0), 3, false);
        oracle.crash(false);
        oracle.found(0, 3).unwrap();
        flush(&mut oracle, true);
        assert_eq!(crash(&mut oracle), [3]);
    }

    /// A register with a cache, run at random: the oracle accepts all that it does, and notices each lie.
    #[test]
    fn an_honest_register_is_believed_and_a_liar_is_caught() {
        let mut caught = 0;
        for seed in 0..300 {
            let mut dice = Rng::new(seed);
            let mut oracle = Oracle::default();
            let (mut cached, mut durable) = (ZEROES, ZEROES);
            let mut gone = Vec::new();
            for stamp in 1..40 {
                match dice.below(6) {
                    0..3 => {
                        gone.push(cached);
                        cached = stamp;
                        write(&mut oracle, stamp);
                    }
                    3 => {
                        durable = cached;
                        flush(&mut oracle, true);
                    }
                    4 => {
                        let read = oracle.begin_read(one(0));
                        oracle.end_read(read, &[cached]).unwrap();
                    }
                    _ => {
                        oracle.crash(true);
                        if dice.coin() {
                            cached = durable;
                        }
                        oracle.found(0, cached).unwrap();
                        durable = cached;
                    }
                }
            }
            if let Some(&old) = gone.last()
                && old != cached
            {
                let read = oracle.begin_read(one(0));
                caught += u32::from(oracle.end_read(read, &[old]).is_err());
            }
        }
        assert!(caught > 200, "{caught}");
    }
}
