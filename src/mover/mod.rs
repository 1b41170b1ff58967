//! Copy, diff, resync and verify: plan, run, pause, throttle, report; generic over the device.
//!
//! * [`copy()`] moves the marked regions of a change map from one device to another and clears the bits that are settled.
//! * [`compare()`] reads the same ranges of several devices and says where they differ.
//! * [`repair()`] rewrites a range of one device from another.
//! * [`blank()`] makes what nobody uses yet read zero.
//! * [`save()`] reads what a restore will overwrite into an undo archive.
//! * [`scrub()`] compares all copies in the background, goes on where it was cut short, and makes them equal if told so.
//! * [`Control`] is the handle by which a running job is watched, paused, throttled and aborted, from any thread.
//!
//! Each job is a few slots, each with its own buffers, that take the next piece of work until none is left; all live on the
//! caller's thread and share what they know in cells. A piece is read and written inside a held window ([`Windows`]), so that
//! no write of the volume runs beside it.
//!
//! Promises:
//! * A bit is cleared only after its region was copied, the target flushed, and no write to the target failed meanwhile
//!   (ordering rule 13).
//! * Holes are looked for inside the held window and left out only where the target is known to read zero (rule 7).
//! * Nobody sleeps or waits for a command while a window is held.
//! * Every request is driven to its end: abort stops taking work and drains. A job's future must itself be driven to its
//!   end; to stop it, use [`Control::abort`].
//!
//! The room does not know who asked for a job or how it is shown.
#![forbid(unsafe_code)]

mod blank;
mod compare;
mod control;
mod copy;
mod error;
mod holes;
mod meter;
mod repair;
mod save;
mod scrub;
mod slots;
mod windows;
mod zero;

pub use blank::blank;
pub use compare::{ComparePlan, CompareReport, Difference, compare};
pub use control::{Command, Control, Limits, Wanted};
pub use copy::{CopyPlan, CopyReport, FLUSH_EVERY_BYTES, SOURCE, TargetZero, copy};
pub use error::{Ended, MoverError};
pub use meter::Progress;
pub use repair::repair;
pub use save::{SavePlan, save};
pub use scrub::{Decide, Flaw, ScrubPlan, ScrubReport, Tally, scrub};
pub use slots::{Tuning, Work};
pub use windows::{NoWindows, Windows};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
