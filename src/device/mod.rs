//! The block device, clock and notifier traits with their contract; buffers; the executor of one thread.
//!
//! A volume is a block device, so is a plex, a state file, a disk of the simulator: layers compose, and none of them
//! learns what stands above or below. The contract, which [`checked::Checked`] asserts between layers:
//!
//! * **Range.** Every request lies inside [`Geometry::length`] and is a multiple of [`Geometry::block_size`] in offset
//!   and length; a read or write has at least one block.
//! * **Completion.** `Ok` of a write means: later reads see it. It says nothing about power loss unless the write was
//!   [`Durability::Durable`] or a later flush succeeded. An `Err` says nothing at all about the range: any mixture of old
//!   and new blocks may stand there.
//! * **Flush.** `Ok` makes every write, discard and write-zeroes durable that completed before the flush was submitted.
//!   A failed flush is final: what it should have covered counts as lost, a second one proves nothing ([`FinalFlush`]).
//! * **Zeroes.** After write-zeroes the range reads as zero. After discard it reads as zero only where
//!   [`Geometry::discard_zeroes`] says so.
//! * **Atomicity.** One block is old or new after a crash, never half; a larger write may be torn between blocks.
//! * **Ordering.** Requests in flight together have no order. Who needs one waits for the completion of the first.
//! * **Buffers.** The request owns its buffer until it completes. A future that was polled once is driven to its end:
//!   dropping it does not take the request back.

mod buffer;
pub mod checked;
pub mod clock;
pub mod executor;
mod final_flush;
pub mod flushes;
pub mod memory;

pub use buffer::{Buffer, Direction, OwnedBuffer, RegisteredBuffer, map_large_apart};
pub use checked::Checked;
pub use clock::{Clock, Moment, Notifier};
pub use executor::Executor;
pub use final_flush::FinalFlush;
pub use flushes::{Flushes, SharedFlushes};
pub use memory::Memory;

use crate::base::{ByteRange, Errno};

/// What a device is like; constant for the life of a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Bytes that can be addressed.
    pub length: u64,
    /// Logical block size in bytes: a power of two, at least 512.
    pub block_size: u32,
    /// Alignment that buffers need in memory, in bytes: a power of two (`STATX_DIOALIGN`'s `dio_mem_align`).
    pub memory_alignment: u32,
    /// Whether a discarded range reads as zero.
    pub discard_zeroes: bool,
}

/// Whether a write must survive power loss when it completes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Only a later flush makes it so.
    Volatile,
    /// It is durable on completion: FUA, `RWF_DSYNC`.
    Durable,
}

/// What becomes of the space under zeroes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// The range stays allocated.
    Keep,
    /// The range may be given back to the file system or disk below.
    Release,
}

/// One request to a block device. Cloning shares the buffer, as a fan-out to several plexes needs it.
#[derive(Clone, Debug)]
pub enum Request {
    /// Fill `buffer` from `offset` on.
    Read {
        /// First byte on the device.
        offset: u64,
        /// Where the bytes go; its length is the request's.
        buffer: Buffer,
    },
    /// Write `buffer` from `offset` on.
    Write {
        /// First byte on the device.
        offset: u64,
        /// Where the bytes come from; its length is the request's.
        buffer: Buffer,
        /// Whether completion implies durability.
        durability: Durability,
    },
    /// Make the range read as zero.
    WriteZeroes {
        /// The bytes that shall be zero.
        range: ByteRange,
        /// Whether the space may be given back.
        space: Space,
        /// Whether completion implies durability.
        durability: Durability,
    },
    /// The bytes are not needed any more; what they read as afterwards is [`Geometry::discard_zeroes`]'s word.
    Discard {
        /// The bytes given up.
        range: ByteRange,
    },
    /// Make everything that completed before durable.
    Flush,
}

impl Request {
    /// The bytes of the device that the request touches; empty for a flush.
    #[must_use]
    pub fn range(&self) -> ByteRange {
        match self {
            Self::Read { offset, buffer } | Self::Write { offset, buffer, .. } => {
                ByteRange::new(*offset, buffer.len() as u64)
            }
            Self::WriteZeroes { range, .. } | Self::Discard { range } => *range,
            Self::Flush => ByteRange::new(0, 0),
        }
    }

    /// Whether the request may change what the device reads: writes, zeroes and discards alike.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Flush => false,
            Self::Write { .. } | Self::WriteZeroes { .. } | Self::Discard { .. } => true,
        }
    }
}

/// A block device as one thread sees it. Handles are per thread; what they stand for is shared.
pub trait BlockDevice {
    /// What the device is like.
    fn geometry(&self) -> Geometry;

    /// Carry out `request`.
    ///
    /// # Errors
    /// The kernel's or the simulated disk's [`Errno`]. A short transfer is reported as [`Errno::IO`], never as success.
    fn submit(&self, request: Request) -> impl Future<Output = Result<(), Errno>>;

    /// Where data starts at or after `offset` inside `offset .. end`, as `lseek(2)`'s `SEEK_DATA` says it: the first
    /// range that may hold anything but zeroes, or `None` when the rest of the span is known to read as zero.
    /// A device that cannot tell answers the whole span.
    ///
    /// # Errors
    /// As for a read.
    fn next_data(&self, span: ByteRange) -> impl Future<Output = Result<Option<ByteRange>, Errno>> {
        async move { Ok((!span.is_empty()).then_some(span)) }
    }
}

impl<D: BlockDevice> BlockDevice for std::rc::Rc<D> {
    fn geometry(&self) -> Geometry {
        (**self).geometry()
    }
    fn submit(&self, request: Request) -> impl Future<Output = Result<(), Errno>> {
        (**self).submit(request)
    }
    fn next_data(&self, span: ByteRange) -> impl Future<Output = Result<Option<ByteRange>, Errno>> {
        (**self).next_data(span)
    }
}

/// What a thread that runs devices offers to the code on it: its way to open media, its clock, its executor.
///
/// A medium (an open file, a simulated disk) is shared by all threads; a device is one thread's handle of it.
pub trait Host: Clone + 'static {
    /// The shared thing: opened once for the process, locked once.
    type Medium: Clone + Send + Sync + 'static;
    /// This thread's handle of a medium.
    type Device: BlockDevice + 'static;
    /// This thread's clock.
    type Clock: Clock;

    /// A handle of `medium` for this thread.
    fn open(&self, medium: &Self::Medium) -> Self::Device;
    /// This thread's clock.
    fn clock(&self) -> &Self::Clock;
    /// Run `task` on this thread beside the caller.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Have memory ready for requests whose pages are not lent, if this thread has requests that bring pages.
    fn reserve(&self) {}

    /// Memory of this process for `len` bytes of a request whose pages are not lent; waits while others have it all, reads for
    /// reads and writes for writes.
    fn memory(&self, len: usize, _direction: Direction) -> impl Future<Output = OwnedBuffer> {
        std::future::ready(OwnedBuffer::zeroed(len))
    }

    /// Take back what [`memory`](Self::memory) gave, for the next. What somebody else still holds is left to them.
    fn give_back(&self, _memory: OwnedBuffer, _direction: Direction) {}

    /// Copy the bytes of a write's own pages into `memory`: from there they reach every medium alike, whatever their owner
    /// does to the pages meanwhile.
    ///
    /// # Errors
    /// [`Errno::INVALID`] where requests have no pages of their own, and for those of a read.
    fn fetch(&self, _pages: RegisteredBuffer, _memory: &OwnedBuffer) -> Result<(), Errno> {
        Err(Errno::INVALID)
    }

    /// Copy `memory` into a read's own pages.
    ///
    /// # Errors
    /// [`Errno::INVALID`] where requests have no pages of their own, and for those of a write.
    fn deliver(&self, _pages: RegisteredBuffer, _memory: &OwnedBuffer) -> Result<(), Errno> {
        Err(Errno::INVALID)
    }
}
