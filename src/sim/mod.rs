//! The seeded faulty disk, clock and scheduler.
//!
//! A [`World`] runs tasks in one thread, in an order and at times that its seed alone decides; a [`SimDisk`] behaves as
//! badly as the contract of [`crate::device`] allows, and worse when told. A failure is replayed from its seed.
//!
//! # What a disk always does
//! * A request takes effect at some moment between its submission and its completion, so requests in flight together
//!   take effect in any order, and memory is read or filled then and not at once.
//! * Writes land in a volatile cache. A flush makes durable what completed before the flush was submitted; of what
//!   else is in the cache, dice decide block by block. A durable (FUA) write is so when it completes.
//! * A discarded block reads as zero if the geometry promises it, else as zero, as before, or as garbage.
//! * A write that fails leaves any of its blocks new and any old. A failed flush gives up what it covered: it still
//!   reads back, no later flush saves it.
//! * A request outlives its future: when the tasks are gone (a killed process), it still takes effect in its time.
//!
//! # What the caller can do to it
//! | fault | how |
//! | --- | --- |
//! | power cut: each block that was not flushed is kept, lost, or older; writes in flight half applied | [`SimDisk::power_cut`] |
//! | process killed: requests in flight end by themselves | [`World::kill`], then [`SimDisk::settle`] |
//! | the same crash many ways | [`SimDisk::fork`], then cut each |
//! | slow, seldom very slow | [`Delay`] |
//! | read, write, discard, zeroes or flush fails | [`Fault::Error`] |
//! | acknowledged, never written | [`Fault::Lost`] |
//! | written to another place | [`Fault::Misdirected`] |
//! | a bit of the medium flips | [`Fault::BitRot`] |
//! | hangs for a while, or until released | [`Fault::Hang`], [`Fault::Hold`] with [`SimDisk::release`] |
//! | no space for a block that has none yet | [`SimDisk::limit_space`] |
//! | gone, and back | [`SimDisk::disappear`], [`SimDisk::reappear`] |
//!
//! Faults are switched on with a [`Rule`]: for which kind of request, within which range, the n-th time, always, or by
//! chance. Nothing fails that was not asked to fail.
//!
//! The [`Journal`] notes every submission, effect and completion of all disks of a world, in order, and keeps a digest
//! that two runs of one seed share.

mod clock;
mod disk;
mod fault;
mod journal;
mod medium;
mod rng;
mod world;

pub use clock::SimClock;
pub use disk::{SimDevice, SimDisk};
pub use fault::{Delay, Fault, Operation, Rule, When};
pub use journal::{Event, Journal, Step};
pub use medium::Counters;
pub use rng::Rng;
pub use world::{SimHost, Stuck, World};

#[cfg(test)]
mod tests;
