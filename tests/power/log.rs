//! The log that the emulator keeps of a disk: its entries, the states that it stands for, and the disk at each of them.
//!
//! ```text
//!   sector 0         magic u64, version u64, entries u64, sector size u32
//!   then each entry  sector u64, sectors u64, flags u64, nothing u64, zeroes to the end of the sector
//!                    and behind it the data, `sectors` of them, unless it is a discard
//! ```
//!
//! All numbers are little-endian. Writes and flushes are logged in the order in which they completed. The disk forces no
//! write: who wants that writes and flushes.
//!
//! A write to the first MiB of the disk is a mark: a line of text that tells what is promised, from then on, of what was
//! flushed before it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use cleave::base::zero::is_zero;
use rustix::fs::{FallocateFlags, fallocate};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
/// Where marks are written, in bytes.
const MARKS: u64 = 1 << 20;
/// What a power cut may tear a write into, in bytes.
const PIECE: u64 = 4096;

/// One entry; offsets and lengths in bytes.
pub struct Entry {
    offset: u64,
    length: u64,
    flags: u64,
    /// Where its data are in the log.
    data: u64,
    mark: Option<String>,
}

impl Entry {
    const fn is_flush(&self) -> bool {
        self.flags & FLUSH != 0
    }

    /// Whether it changes the disk.
    const fn is_write(&self) -> bool {
        self.length > 0 && self.mark.is_none()
    }
}

/// The disk at one moment: the first `entries` of the log; when it is torn also some of the writes behind them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// So many entries are whole.
    pub entries: usize,
    /// Whether some of the entries from there to `until` are there, in pieces.
    pub torn: bool,
    /// No flush before this entry made any write behind `entries` durable.
    pub until: usize,
}

/// A part of the recorded disk that was a disk of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice {
    /// Its name.
    pub name: String,
    /// Where it begins, in bytes.
    pub start: u64,
    /// Its length, in bytes.
    pub length: u64,
}

/// Where the stamps of the volume lie, and what is promised of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamps {
    /// Their place in the volume, in bytes.
    pub offset: u64,
    /// Their number of slots.
    pub slots: u64,
    /// All numbers below were acknowledged.
    pub floor: u64,
}

/// What a volume was formatted with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
}

/// What the marks tell of a moment.
#[derive(Default)]
pub struct Told {
    /// The volume was made.
    pub made: bool,
    /// The file system that it holds.
    pub file_system: Option<FileSystem>,
    /// Its stamps.
    pub stamps: Option<Stamps>,
    /// The snapshots that exist for sure.
    pub snapshots: Vec<String>,
    /// The snapshots that may be gone: somebody had begun to give them back.
    given_back: Vec<String>,
}

/// A log.
pub struct Log {
    file: File,
    entries: Vec<Entry>,
    begin: usize,
}

fn number(bytes: &[u8], place: usize) -> u64 {
    u64::from_le_bytes(bytes[place * 8..place * 8 + 8].try_into().expect("eight bytes are cut out"))
}

impl Log {
    /// Open and read all but the data.
    pub fn open(path: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(failed)?;
        let mut head = [0; 32];
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        if number(&head, 0) != MAGIC {
            return Err(format!("{} is no log of writes", path.display()));
        }
        let (count, sector) = (number(&head, 2), number(&head, 3) & 0xffff_ffff);
        if !sector.is_power_of_two() || !(512..=4096).contains(&sector) {
            return Err(format!("{} has sectors of {sector} bytes", path.display()));
        }
        let mut entries = Vec::new();
        let mut place = sector;
        for _ in 0..count {
            file.read_exact_at(&mut head, place).map_err(failed)?;
            let (offset, length) = (number(&head, 0) * sector, number(&head, 1) * sector);
            let (flags, data) = (number(&head, 2), place + sector);
            let mark = if flags & (FLUSH | DISCARD) == 0 && offset < MARKS {
                let mut text = vec![0; 512];
                file.read_exact_at(&mut text, data).map_err(failed)?;
                Some(String::from_utf8_lossy(&text).trim_end_matches('\0').trim().to_owned())
            } else {
                None
            };
            place = if flags & DISCARD == 0 { data + length } else { data };
            entries.push(Entry { offset, length, flags, data, mark });
        }
        let begin = entries.iter().position(|entry| entry.mark.as_deref() == Some("begin"));
        let begin = begin.ok_or_else(|| format!("{} has no mark 'begin'", path.display()))?;
        Ok(Self { file, entries, begin })
    }

    /// Every moment at which the disk is judged, in order: behind each flush that made something durable, and, torn, before
    /// the next one.
    pub fn states(&self) -> Vec<State> {
        let mut states = Vec::new();
        let mut entries = self.begin;
        let mut written = false;
        for (place, entry) in self.entries.iter().enumerate().skip(self.begin) {
            written |= entry.is_write();
            if entry.is_flush() && written {
                states.push(State { entries, torn: false, until: place });
                states.push(State { entries, torn: true, until: place });
                (entries, written) = (place + 1, false);
            }
        }
        states.push(State { entries, torn: false, until: self.entries.len() });
        states
    }

    fn marks(&self, upto: usize) -> impl Iterator<Item = Vec<&str>> {
        self.entries[..upto].iter().filter_map(|entry| Some(entry.mark.as_deref()?.split(' ').collect()))
    }

    /// The slices of the disk.
    pub fn slices(&self) -> Result<Vec<Slice>, String> {
        let slices: Vec<Slice> = self
            .marks(self.begin)
            .filter_map(|mark| match mark[..] {
                ["slice", name, start, sectors] => Some(Slice {
                    name: name.to_owned(),
                    start: start.parse::<u64>().ok()? * 512,
                    length: sectors.parse::<u64>().ok()? * 512,
                }),
                _ => None,
            })
            .collect();
        if slices.is_empty() { Err("the log tells of no slices".to_owned()) } else { Ok(slices) }
    }

    /// What had been told until then: a mark is written when what it promises has been flushed.
    pub fn told(&self, state: &State) -> Told {
        let mut told = Told::default();
        for mark in self.marks(state.until) {
            match mark[..] {
                ["made", "v"] => told.made = true,
                ["ext4", "v"] => told.file_system = Some(FileSystem::Ext4),
                ["xfs", "v"] => told.file_system = Some(FileSystem::Xfs),
                ["stamps", "v", offset, slots] => {
                    told.stamps = offset.parse().ok().zip(slots.parse().ok()).map(|(offset, slots)| Stamps {
                        offset,
                        slots,
                        floor: 0,
                    });
                }
                ["acked", "v", floor] => {
                    if let (Some(stamps), Ok(floor)) = (&mut told.stamps, floor.parse()) {
                        stamps.floor = floor;
                    }
                }
                ["cut", "v", snapshot, _, _] => told.snapshots.push(snapshot.to_owned()),
                ["back", snapshot] => told.given_back.push(snapshot.to_owned()),
                _ => {}
            }
        }
        let Told { snapshots, given_back, .. } = &mut told;
        snapshots.retain(|snapshot| !given_back.contains(snapshot));
        told
    }

    /// What the cut of `snapshot` was bounded by, whenever that was told: all stamps below the first number are in it,
    /// none from the second on.
    pub fn cut(&self, snapshot: &str) -> Option<(u64, u64)> {
        self.marks(self.entries.len()).find_map(|mark| match mark[..] {
            ["cut", "v", name, low, high] if name == snapshot => low.parse().ok().zip(high.parse().ok()),
            _ => None,
        })
    }
}

/// The recorded disk, put together from the log.
pub struct Disk<'a> {
    log: &'a Log,
    file: File,
    done: usize,
}

impl<'a> Disk<'a> {
    /// An empty disk in a new file.
    pub fn create(log: &'a Log, path: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(failed)?;
        let end = log.slices()?.iter().map(|slice| slice.start + slice.length).max().unwrap_or(0);
        file.set_len(end).map_err(failed)?;
        Ok(Self { log, file, done: 0 })
    }

    /// Where its bytes are.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Write everything up to entry `entries`, which must not lie behind.
    pub fn advance(&mut self, entries: usize) -> Result<(), String> {
        assert!(entries >= self.done, "a disk is put together forwards only");
        for entry in &self.log.entries[self.done..entries] {
            write(self.log, &self.file, entry, 0..entry.length)?;
        }
        self.done = entries;
        Ok(())
    }

    /// Write some pieces of the writes that a torn state has in part, in another order than they came. The disk is good for
    /// nothing else then.
    pub fn tear(&self, state: &State) -> Result<(), String> {
        tear(self.log, &self.file, state, 0)
    }
}

/// Write some pieces of the torn part of `state` to `to`, whose beginning is byte `base` of the recorded disk: those that lie
/// in it.
pub fn tear(log: &Log, to: &File, state: &State, base: u64) -> Result<(), String> {
    let end = base + to.metadata().map_err(|error| error.to_string())?.len();
    // The same pieces for the same state, whoever asks.
    let mut seed = state.until as u64;
    let mut random = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    // Overlapping writes of one group keep their order: the disk had completed the first before it got the second.
    for entry in &log.entries[state.entries..state.until] {
        let mut from = 0;
        while from < entry.length {
            let upto = ((entry.offset + from) / PIECE * PIECE + PIECE - entry.offset).min(entry.length);
            let lost = random() % 2 == 0;
            let inside = entry.offset + from >= base && entry.offset + upto <= end;
            if !lost && inside {
                write_at(log, to, entry, from..upto, base)?;
            }
            from = upto;
        }
    }
    Ok(())
}

fn write(log: &Log, to: &File, entry: &Entry, part: std::ops::Range<u64>) -> Result<(), String> {
    write_at(log, to, entry, part, 0)
}

fn write_at(
    log: &Log,
    to: &File,
    entry: &Entry,
    part: std::ops::Range<u64>,
    base: u64,
) -> Result<(), String> {
    if !entry.is_write() || part.is_empty() {
        return Ok(());
    }
    let mut bytes = vec![0; usize::try_from(part.end - part.start).map_err(|error| error.to_string())?];
    if entry.flags & DISCARD == 0 {
        log.file
            .read_exact_at(&mut bytes, entry.data + part.start)
            .map_err(|error| format!("the log: {error}"))?;
    }
    let failed = |error: std::io::Error| format!("the disk: {error}");
    let mut place = entry.offset + part.start - base;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (zero, run) = first_run(rest);
        if zero {
            // A hole, which nobody needs to copy or compare: most of a new volume is zeroes that were written.
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(to, hole, place, run as u64).map_err(|error| failed(error.into()))?;
        } else {
            to.write_all_at(&rest[..run], place).map_err(failed)?;
        }
        place += run as u64;
        rest = &rest[run..];
    }
    Ok(())
}

/// Whether the first pieces of `bytes` are zero, and the length up to the first that is not as they are.
fn first_run(bytes: &[u8]) -> (bool, usize) {
    let pieces = || bytes.chunks(PIECE as usize);
    let first = pieces().next().is_none_or(is_zero);
    (first, pieces().take_while(|piece| is_zero(piece) == first).map(<[u8]>::len).sum())
}
