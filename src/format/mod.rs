//! Bytes to structures and back, one structure a file.
//!
//! * [`map_page`]: a page of an intent map or change map; [`map_file`]: the file that holds a map's pages
//! * [`label`]: what stands behind the data on a plex
//! * [`undo`]: what a restore overwrites, with the way back
//! * [`config`]: the configuration of a group, as text
//!
//! Promises: little endian throughout; no input makes a decoder panic or allocate more than a named limit; every change
//! of one bit and every truncation of an encoded block is found; a structure of a newer version is refused, never
//! guessed at. The magic, the checksum and the version keep their place in all versions to come.
//!
//! What is assumed of a medium: a block of 4 KiB that is written may after a crash be old, new, or a mixture of 512-byte
//! sectors; a block that is not being written keeps its bytes or fails its checksum; a write may land at a wrong place
//! or nowhere. Hence each block carries its checksum, its own place and its owner, and is written beside its predecessor
//! and not over it.
//!
//! The room does not know files, rings or what the states mean that it carries.
#![forbid(unsafe_code)]

pub mod config;
mod damage;
pub mod label;
mod layout;
pub mod map_file;
pub mod map_page;
pub mod undo;

pub use damage::Damage;
pub use layout::Field;

/// A structure as the page of the on-disk format shows it.
#[derive(Clone, Copy, Debug)]
pub struct Structure {
    /// What it is called there.
    pub name: &'static str,
    /// Its magic and the version that is written, where it has a head.
    pub head: Option<(&'static [u8; 8], u16)>,
    /// Its fields, without gaps.
    pub fields: &'static [Field],
}

/// All of them.
pub const STRUCTURES: [Structure; 6] = [
    label::STRUCTURE,
    map_file::STRUCTURE,
    map_page::STRUCTURE,
    undo::HEADER,
    undo::table::PAGE,
    undo::ENTRY,
];
