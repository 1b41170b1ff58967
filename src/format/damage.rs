//! What can be wrong with the bytes of a structure.

use std::fmt;

use crate::base::Uuid;

/// Why a block was not taken for what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Fewer bytes, or more, than the structure has.
    WrongLength {
        /// Bytes there.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// Nothing but zeroes: never written, or wiped.
    Blank,
    /// It starts like something else.
    BadMagic,
    /// The checksum does not match: torn, rotten or half overwritten.
    BadChecksum,
    /// Sound, but of a version that this program does not know.
    UnknownVersion {
        /// The version in the structure.
        found: u16,
        /// The newest version known.
        newest: u16,
    },
    /// Sound, but written for another place: misdirected or copied.
    WrongAddress {
        /// The place that the structure names: a byte offset, or a page's index.
        found: u64,
        /// The place at which it was read.
        expected: u64,
    },
    /// Sound, but of another volume, map or plex.
    WrongOwner {
        /// The owner that the structure names.
        found: Uuid,
        /// The owner that was expected.
        expected: Uuid,
    },
    /// The checksum matches and the content makes no sense.
    Absurd(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongLength { found, expected } => {
                write!(f, "has {found} bytes where {expected} are needed")
            }
            Self::Blank => f.write_str("was never written"),
            Self::BadMagic => f.write_str("is not a structure of Cleave"),
            Self::BadChecksum => f.write_str("fails its checksum"),
            Self::UnknownVersion { found, newest } => {
                write!(f, "has version {found}, this program knows versions up to {newest}")
            }
            Self::WrongAddress { found, expected } => write!(f, "belongs at {found}, was read at {expected}"),
            Self::WrongOwner { found, expected } => write!(f, "belongs to {found}, not to {expected}"),
            Self::Absurd(what) => write!(f, "makes no sense: {what}"),
        }
    }
}

impl std::error::Error for Damage {}
