//! io_uring bodies of the device: files and block devices for queue threads, the mover and state files.
//!
//! * [`Engine`] is one thread's ring with its executor, timers and wake-ups. [`RingThread`] gives it a thread of its own;
//!   a ublk queue thread (`export`) runs the same engine on the ring that carries its ublk commands.
//! * [`Medium`] is an open file or disk: opened once for the process, locked once, shared by all threads.
//! * [`RingDevice`] is one thread's handle of a medium: the block device trait over a [`Submitter`].
//!
//! Promises: memory that the kernel may touch is held until the operation's completion, whatever becomes of the future
//! that waits for it. An idle thread is not woken. A panic on a ring thread ends the process, so that the daemon is
//! never half alive. Nothing here knows what a map, a plex or a format is.
//!
//! One call of this room may block: the search for data (`SEEK_DATA`) runs on the calling thread. It takes below a
//! microsecond an extent, where a hop to another thread costs several; it touches the inode, not the disk's data.

mod device;
mod engine;
mod error;
mod fit;
pub mod freeze;
mod locks;
mod medium;
mod operations;
mod peer;
mod requests;
pub mod shared;
mod submit;
mod thread;

pub use device::RingDevice;
pub use engine::{Engine, RingAccess, RingClock, RingHost, TableUse};
pub use error::{Fault, MediumError};
pub use medium::{Access, Allocation, Identity, MediaKind, Medium, Name, Opening};
pub use peer::peer_groups;
pub use requests::{Lease, RequestPages, populate};
pub use submit::{Held, RingSubmitter, Submitter};
pub use thread::{AbortOnPanic, RingHandle, RingThread, block_signals, ring_for_this_thread};
