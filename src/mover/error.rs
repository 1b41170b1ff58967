//! How a job ends.

use std::fmt;

use crate::base::{ByteRange, Errno};

/// What stopped a job. The first fault counts; the slots that were at work then have drained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoverError {
    /// A read failed.
    Read {
        /// Which device: 0 is the source of a copy, 1 its target; of a comparison, the index.
        device: usize,
        /// The bytes asked for.
        range: ByteRange,
        /// The device's error.
        errno: Errno,
    },
    /// A write or write-zeroes to the target failed.
    Write {
        /// The bytes to be written.
        range: ByteRange,
        /// The target's error.
        errno: Errno,
    },
    /// A flush of the target failed: what it should have covered counts as lost.
    Flush {
        /// The target's error.
        errno: Errno,
    },
    /// Somebody else's write to the target failed meanwhile.
    TargetFailed,
}

impl fmt::Display for MoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { range, errno, .. } => {
                write!(f, "reading {} bytes at {} failed: {errno}", range.length, range.offset)
            }
            Self::Write { range, errno } => {
                write!(f, "writing {} bytes at {} failed: {errno}", range.length, range.offset)
            }
            Self::Flush { errno } => write!(f, "flushing the target failed: {errno}"),
            Self::TargetFailed => f.write_str("a write to the target failed meanwhile"),
        }
    }
}

impl std::error::Error for MoverError {}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// All of the work was done.
    Complete,
    /// It was told to stop and did.
    Aborted,
    /// It could not go on.
    Failed(MoverError),
}
