//! The maps in memory: set, clear, or, and-not, next run; what has to be written out.
//!
//! [`BitMap`] is the live map, [`ChangeMap`] counts its bits in regions of a volume, [`ExtentMap`] in extents of 4 MiB;
//! [`UnflushedMap`] lies in memory that outlives the process.
//!
//! Promises: every operation takes `&self` and may run on any thread at any time. A bit whose `set` has returned is seen
//! by everybody who is ordered behind that return; the bit operations themselves are relaxed, the order between a
//! write and the mover comes from the volume's gate and drain. A page that had a bit set or cleared is written out by
//! a later persist pass, never forgotten (the order is shown in the private module `dirty`).
//!
//! The room does not know disks, volumes, or why a bit is set.
#![forbid(unsafe_code)]

mod change;
mod dirty;
mod extent;
mod heat;
mod map;
mod unflushed;

pub use change::ChangeMap;
pub use extent::ExtentMap;
pub use heat::heat;
pub use map::{BitMap, PAGE_BITS, PAGE_MAP_BYTES, PAGE_WORDS};
pub use unflushed::{SharedWords, UnflushedMap};
