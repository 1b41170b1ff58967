//! Units as types, and every conversion between them in one place.
//!
//! Offsets and lengths of media and volumes are bytes in `u64`; a [`Region`] is a bit of a change map, an [`Extent`] a
//! bit of an intent map.

use serde::{Deserialize, Serialize};
use std::fmt;

use super::limits::{EXTENT_BYTES, MAX_VOLUME_BYTES, REGION_BYTES_MAX, REGION_BYTES_MIN, SECTOR_BYTES};

/// A range of bytes on a volume or medium: `offset .. offset + length`, never past `u64::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

impl ByteRange {
    /// The range of `length` bytes from `offset`.
    ///
    /// # Panics
    /// When the end does not fit `u64`: requests are bounded by the device's length before ranges are made.
    #[must_use]
    pub const fn new(offset: u64, length: u64) -> Self {
        assert!(offset.checked_add(length).is_some(), "byte range wraps");
        Self { offset, length }
    }

    /// First byte behind the range.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.offset + self.length
    }

    /// Whether both ranges share a byte.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }

    /// Whether no byte is in the range.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }

    /// Whether `other` lies wholly inside.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.offset <= other.offset && other.end() <= self.end()
    }

    /// The part shared with `other`, empty (at `self.offset`) when there is none.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        let start = self.offset.max(other.offset);
        let end = self.end().min(other.end());
        if start < end { Self::new(start, end - start) } else { Self::new(self.offset, 0) }
    }

    /// The range widened to multiples of `unit` bytes, cut off at `limit`.
    #[must_use]
    pub fn widen(self, unit: u64, limit: u64) -> Self {
        let start = self.offset - self.offset % unit;
        let end = self.end().next_multiple_of(unit).min(limit);
        Self::new(start, end - start)
    }

    /// The range cut into pieces that end at multiples of `unit` bytes.
    pub fn pieces(self, unit: u64) -> impl Iterator<Item = Self> {
        let mut at = self.offset;
        std::iter::from_fn(move || {
            (at < self.end()).then(|| {
                let end = ((at / unit + 1) * unit).min(self.end());
                let piece = Self::new(at, end - at);
                at = end;
                piece
            })
        })
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.offset, self.length)
    }
}

/// Index of a region: the unit of a change map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Region(pub u64);

/// Index of an extent: the unit of the intent map, 4 MiB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Extent(pub u64);

impl Extent {
    /// The extents that `range` touches, as first and one past the last; an empty range touches none.
    #[must_use]
    pub const fn span(range: ByteRange) -> (Self, Self) {
        if range.length == 0 {
            return (Self(0), Self(0));
        }
        (Self(range.offset / EXTENT_BYTES), Self((range.end() - 1) / EXTENT_BYTES + 1))
    }

    /// How many extents a volume of `length` bytes has.
    #[must_use]
    pub const fn count(length: u64) -> u64 {
        length.div_ceil(EXTENT_BYTES)
    }

    /// The bytes of this extent on a volume of `length` bytes.
    #[must_use]
    pub const fn bytes(self, length: u64) -> ByteRange {
        let start = self.0 * EXTENT_BYTES;
        let end = if start + EXTENT_BYTES < length { start + EXTENT_BYTES } else { length };
        ByteRange::new(start, end - start)
    }
}

/// Bytes that one bit of a change map stands for: a power of two from 16 KiB to 64 MiB.
///
/// Persistent FastResync of VxVM has the same lower bound and the same default of 64 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RegionSize(u32);

impl RegionSize {
    /// 64 KiB.
    pub const DEFAULT: Self = Self(64 << 10);

    /// A region size of `bytes`, or `None` unless it is a power of two within the limits.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= REGION_BYTES_MIN && bytes <= REGION_BYTES_MAX {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The default for a volume of `length` bytes: 64 KiB up to 1 TiB, above that doubled until the map of one
    /// volume stays at 2 MiB of memory (16 Mi bits).
    #[must_use]
    pub fn for_volume(length: u64) -> Self {
        let mut bytes = Self::DEFAULT.0;
        while length.div_ceil(u64::from(bytes)) > 1 << 24 && bytes < REGION_BYTES_MAX {
            bytes *= 2;
        }
        Self(bytes)
    }

    /// Bytes a region.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 as u64
    }

    /// How many regions a volume of `length` bytes has.
    #[must_use]
    pub const fn count(self, length: u64) -> u64 {
        length.div_ceil(self.bytes())
    }

    /// The regions that `range` touches, as first and one past the last; an empty range touches none.
    #[must_use]
    pub const fn span(self, range: ByteRange) -> (Region, Region) {
        if range.length == 0 {
            return (Region(0), Region(0));
        }
        // A division by what is not known to be a power of two takes longer than all the rest of marking a region.
        let shift = self.0.trailing_zeros();
        (Region(range.offset >> shift), Region(((range.end() - 1) >> shift) + 1))
    }

    /// The bytes of the regions `first .. end` on a volume of `length` bytes.
    #[must_use]
    pub fn range(self, first: Region, end: Region, length: u64) -> ByteRange {
        let start = first.0 * self.bytes();
        let stop = (end.0 * self.bytes()).min(length);
        ByteRange::new(start, stop - start)
    }
}

impl TryFrom<u32> for RegionSize {
    type Error = &'static str;
    fn try_from(bytes: u32) -> Result<Self, Self::Error> {
        Self::new(bytes).ok_or("region size is not a power of two from 16 KiB to 64 MiB")
    }
}

impl From<RegionSize> for u32 {
    fn from(size: RegionSize) -> Self {
        size.0
    }
}

/// A counter that only rises: configuration generations, run and stop generations, page sequence numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The next generation.
    ///
    /// # Panics
    /// After 2^64 steps, which no machine lives to see.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("generation counter exhausted"))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a size on the command line was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SizeError {
    /// Nothing, or no digits in front.
    NotANumber,
    /// A suffix other than those of `vxintro(1M)`.
    UnknownUnit,
    /// Zero bytes.
    Zero,
    /// Above 2^63 - 1 bytes or the product's own limit.
    TooLarge,
}

/// A length as VxVM's commands take it: a number with the suffix `b` or `s` (512-byte sectors), `k`, `m`, `g`, `t`, `p`
/// (powers of 1024); without a suffix, sectors.
///
/// # Errors
/// [`SizeError`], also for zero and for anything above [`MAX_VOLUME_BYTES`].
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    if digits.is_empty() {
        return Err(SizeError::NotANumber);
    }
    let factor: u64 = match unit {
        "" | "s" | "b" | "S" | "B" => SECTOR_BYTES,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        "p" | "P" => 1 << 50,
        _ => return Err(SizeError::UnknownUnit),
    };
    let number: u64 = digits.parse().map_err(|_| SizeError::TooLarge)?;
    match number.checked_mul(factor) {
        Some(0) => Err(SizeError::Zero),
        Some(bytes) if bytes <= MAX_VOLUME_BYTES => Ok(bytes),
        _ => Err(SizeError::TooLarge),
    }
}

/// `bytes` for people: the largest binary unit that leaves at least 1, with one decimal where it says more.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let whole = bytes >> (10 * unit);
    let rest = bytes & ((1u64 << (10 * unit)) - 1);
    if rest == 0 {
        return format!("{whole} {}", UNITS[unit]);
    }
    let tenths = (u128::from(rest) * 10) >> (10 * unit);
    format!("{whole}.{tenths} {}", UNITS[unit])
}

/// `bytes` as refusals tell them, for people and to the byte: "46 MiB (48234496 bytes)".
#[must_use]
pub fn exact_bytes(bytes: u64) -> String {
    if bytes < 1024 { counted(bytes, "byte") } else { format!("{} ({bytes} bytes)", human_bytes(bytes)) }
}

/// So many things: "1 plex", "2 plexes", "0 copies".
#[must_use]
pub fn counted<N: fmt::Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    if count == N::from(1) {
        return format!("{count} {noun}");
    }
    match noun.strip_suffix('y') {
        Some(stem) => format!("{count} {stem}ies"),
        None if noun.ends_with('x') => format!("{count} {noun}es"),
        None => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_unit_borders_and_cover_the_range() {
        let pieces: Vec<_> = ByteRange::new(100, 300).pieces(128).collect();
        assert_eq!(
            pieces,
            [
                ByteRange::new(100, 28),
                ByteRange::new(128, 128),
                ByteRange::new(256, 128),
                ByteRange::new(384, 16)
            ]
        );
        assert_eq!(ByteRange::new(5, 0).pieces(4).count(), 0);
    }

    #[test]
    fn spans_include_every_touched_unit() {
        assert_eq!(Extent::span(ByteRange::new(0, 1)), (Extent(0), Extent(1)));
        assert_eq!(Extent::span(ByteRange::new(EXTENT_BYTES - 1, 2)), (Extent(0), Extent(2)));
        assert_eq!(RegionSize::DEFAULT.span(ByteRange::new(65536, 65536)), (Region(1), Region(2)));
        assert_eq!(RegionSize::DEFAULT.span(ByteRange::new(9, 0)), (Region(0), Region(0)));
    }

    #[test]
    fn region_size_grows_above_one_tebibyte() {
        assert_eq!(RegionSize::for_volume(1 << 40), RegionSize::DEFAULT);
        assert_eq!(RegionSize::for_volume((1 << 40) + 1).bytes(), 128 << 10);
        assert_eq!(RegionSize::new(48 << 10), None);
    }

    #[test]
    fn sizes_are_read_as_vxvm_reads_them() {
        assert_eq!(parse_size("1g"), Ok(1 << 30));
        assert_eq!(parse_size("204800"), Ok(204_800 * 512));
        assert_eq!(parse_size("10M"), Ok(10 << 20));
        assert_eq!(parse_size("0"), Err(SizeError::Zero));
        assert_eq!(parse_size("0g"), Err(SizeError::Zero));
        assert_eq!(parse_size("-1"), Err(SizeError::NotANumber));
        assert_eq!(parse_size("1e3"), Err(SizeError::UnknownUnit));
        assert_eq!(parse_size("1KB"), Err(SizeError::UnknownUnit));
        assert_eq!(parse_size("9223372036854775808"), Err(SizeError::TooLarge));
        assert_eq!(parse_size("99999999999999999999999"), Err(SizeError::TooLarge));
        assert_eq!(parse_size(""), Err(SizeError::NotANumber));
    }

    #[test]
    fn human_sizes_read_well() {
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1 << 30), "1 GiB");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn refusals_tell_sizes_to_the_byte_as_well() {
        assert_eq!(exact_bytes(48_234_496), "46 MiB (48234496 bytes)");
        assert_eq!(exact_bytes(1_049_088), "1.0 MiB (1049088 bytes)");
        assert_eq!(
            (exact_bytes(1024), exact_bytes(1023)),
            ("1 KiB (1024 bytes)".into(), "1023 bytes".into())
        );
        assert_eq!((exact_bytes(1), exact_bytes(0)), ("1 byte".into(), "0 bytes".into()));
    }

    #[test]
    fn things_are_counted_in_words() {
        let told = |count: u64| ["plex", "volume", "copy"].map(|noun| counted(count, noun)).join(", ");
        assert_eq!(told(0), "0 plexes, 0 volumes, 0 copies");
        assert_eq!(told(1), "1 plex, 1 volume, 1 copy");
        assert_eq!(told(2), "2 plexes, 2 volumes, 2 copies");
    }
}
