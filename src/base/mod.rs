//! Words that every room speaks: units as types, ids, names, limits with their reasons, checksums, zeroes, errors.
//!
//! Promises: no I/O, no clock, no random numbers; nothing here knows what a volume is for.

pub mod checksum;
pub mod error;
pub mod id;
pub mod limits;
pub mod museum;
pub mod name;
pub mod units;
pub mod zero;

pub use error::{Errno, Kind, Refusal, Refused, one_line};
pub use id::{GenerationId, Uuid};
pub use name::Name;
pub use units::{ByteRange, Extent, Generation, Region, RegionSize};
