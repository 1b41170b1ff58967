//! Every decoder with the properties that it must keep for any input: the fuzz targets run them for hours, the main
//! package's tests for seconds.
//!
//! A decoder takes bytes that somebody else wrote. For any bytes it must
//! * return: no panic, no arithmetic that wraps unseen, no endless loop;
//! * take no more memory than a limit that is written beside it;
//! * say in one line what is wrong with what it refuses;
//! * give what it takes back: encoded again it is the same bytes (or, where a person may have laid the text out in his own
//!   way, the same value), and decoded once more the same value.
//!
//! A structure with a checksum is tried twice with each input: as it stands, and with the checksum made good, so that the
//! mutations reach what stands behind it.

pub mod archive;
pub mod catalogue;
pub mod configuration;
mod frame;
mod label;
mod map;
pub mod meter;
pub mod mutate;
mod undo;

use mutate::Shape;

/// A decoder, its properties, and what a run of mutations begins with.
pub struct Decoder {
    /// Its name, that of its target and of its corpus.
    pub name: &'static str,
    /// Bytes of the longest input worth trying: beyond them nothing new is behind a byte.
    pub max_len: usize,
    /// How its input is built.
    pub shape: Shape,
    /// Tries one input; whether something was decoded from it. Panics when a property does not hold.
    pub check: fn(&[u8]) -> bool,
    /// What is decoded well, and a name for each: the committed corpus.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// All decoders.
pub const ALL: [Decoder; 12] = [
    label::LABEL,
    configuration::CONFIGURATION,
    catalogue::CATALOGUE,
    map::INTENT_PAGE,
    map::CHANGE_PAGE,
    map::MAP_HEADER,
    undo::UNDO_HEADER,
    undo::UNDO_TABLE,
    frame::REQUEST,
    frame::REPLY,
    frame::FRAMES,
    archive::ARCHIVE,
];

/// The checksum field of every block, in all versions of every structure: four bytes at this offset.
const CRC_AT: usize = 8;

/// Makes the checksum of a block good, and its magic.
fn seal(block: &mut [u8], magic: &[u8; 8]) {
    block[..8].copy_from_slice(magic);
    let crc = cleave::base::checksum::crc32c_without(block, CRC_AT);
    block[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Asserts that a refusal is one line for a person, and none that a hostile writer can stretch.
fn told(error: &impl std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 2048, "{} bytes: {text}", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn uuid_at(bytes: &[u8], at: usize) -> cleave::base::Uuid {
    cleave::base::Uuid::from_bytes(bytes[at..at + 16].try_into().expect("sixteen bytes"))
}
