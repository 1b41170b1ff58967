//! Words that every room speaks: units as types, ids, names, limits with their reasons, checksums, zeroes, errors.
//!
//! Promises: no I/O, no clock, no random numbers; nothing here knows what a volume is for.

pub mod calendar;
pub mod checksum;
pub mod cpus;
pub mod error;
pub mod fault_point;
pub mod id;
pub mod limits;
pub mod museum;
pub mod name;
pub mod units;
pub mod zero;

pub use cpus::{Affinity, Cpus};
pub use error::{Errno, Kind, Refusal, Refused, one_line};
pub use fault_point::FaultPoint;
pub use id::{GenerationId, Uuid};
pub use name::Name;
pub use units::{ByteRange, Extent, Generation, Region, RegionSize};
