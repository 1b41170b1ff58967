//! Which regions were written and are not yet known to be on every plex: what the intent map says by extents, finer, and in
//! memory that outlives the process and not the host. What a daemon that dies leaves to be made equal is this little.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "CLVUNFL" and the version, 1
//!      8     8  number of the intent map's header; 0 while the map is filled
//!     16     8  bytes of the volume
//!     24     8  bytes of a region
//!     32        zero, or the memory's own
//!   4096     n  one bit a region, in words of 64
//! ```
//!
//! A bit is set before a write in its region is submitted and cleared with the intent bit of its extent (ordering rules 1
//! and 2), so the map covers at any moment what was written under the bits of the intent map. Whoever takes a volume up
//! writes the header of its intent map with a number of its own, and this map names that number: it is believed by the next
//! one alone, and not where somebody came between who could not have it, or did not know it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::limits::{EXTENT_BYTES, PAGE_BYTES};
use crate::base::{ByteRange, Extent, Region, RegionSize};

use super::ExtentMap;

/// Words in front of the bits.
const HEADER_WORDS: usize = PAGE_BYTES / 8;

const KIND: u64 = u64::from_le_bytes(*b"CLVUNFL\x01");

/// Memory that one volume may take: more than that, and its crashes are known by extents.
const MOST_BYTES: u64 = 64 << 20;

/// Words of memory, wherever they lie; clones are the same ones.
#[derive(Clone)]
pub struct SharedWords(Arc<dyn AsRef<[AtomicU64]> + Send + Sync>);

impl SharedWords {
    /// The words that `holder` holds.
    pub fn new(holder: impl AsRef<[AtomicU64]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(holder))
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];
    fn deref(&self) -> &[AtomicU64] {
        (*self.0).as_ref()
    }
}

/// The map of one volume. Clones are the same one.
#[derive(Clone)]
pub struct UnflushedMap {
    words: SharedWords,
    region: RegionSize,
}

impl UnflushedMap {
    /// Bytes of memory that the map of a volume of `length` bytes takes; `None` when that is more than it is worth.
    #[must_use]
    pub fn bytes(length: u64) -> Option<u64> {
        let words = region(length).count(length).div_ceil(64);
        let bytes = (HEADER_WORDS as u64 + words) * 8;
        Some(bytes.next_multiple_of(PAGE_BYTES as u64)).filter(|bytes| *bytes <= MOST_BYTES)
    }

    /// The map in `words` of the volume with the intent map `durable`, whose header has the number `number` from now on. What
    /// stands there is kept when it names the number `found` before; anything else is replaced by what `durable` says. With
    /// it, whether it was kept. `None` when the memory is too small.
    #[must_use]
    pub fn take_up(
        words: SharedWords,
        durable: &ExtentMap,
        found: Option<u64>,
        number: u64,
    ) -> Option<(Self, bool)> {
        let length = durable.length();
        if Self::bytes(length).is_none_or(|bytes| ((words.len() * 8) as u64) < bytes) {
            return None;
        }
        let map = Self { words, region: region(length) };
        let expected = found.map(|found| [KIND, found, length, map.region.bytes()]);
        let kept = expected.is_some_and(|expected| {
            expected
                .iter()
                .zip(map.words.iter())
                .all(|(expected, word)| *expected == word.load(Ordering::Acquire))
        });
        if !kept {
            // In this order: who dies here leaves a map that nobody believes.
            map.words[1].store(0, Ordering::Release);
            let used = map.region.count(length).div_ceil(64) as usize;
            map.bits()[..used].iter().for_each(|word| word.store(0, Ordering::Release));
            for (word, value) in [(0, KIND), (2, length), (3, map.region.bytes())] {
                map.words[word].store(value, Ordering::Release);
            }
            durable.ranges().for_each(|range| map.set(range));
        }
        map.words[1].store(number, Ordering::Release);
        Some((map, kept))
    }

    /// Be the map of a volume of `length` bytes from now on, no shorter than before. Where the memory has no room for it the
    /// map is believed by nobody any more, and what lies behind its end is not noted.
    pub fn grow(&self, length: u64) {
        if self.region.count(length).div_ceil(64) > self.bits().len() as u64 {
            self.words[1].store(0, Ordering::Release);
            return;
        }
        let (from, to) = (self.region.count(self.length()), self.region.count(length));
        self.change(Region(from), Region(to), |word, mask| _ = word.fetch_and(!mask, Ordering::Relaxed));
        self.words[2].store(length, Ordering::Release);
    }

    /// Whether it has all that was noted in it: its memory has had room for the whole volume.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.words[1].load(Ordering::Acquire) != 0
    }

    fn length(&self) -> u64 {
        self.words[2].load(Ordering::Relaxed)
    }

    fn bits(&self) -> &[AtomicU64] {
        &self.words[HEADER_WORDS..]
    }

    /// Set every region that `range` touches.
    pub fn set(&self, range: ByteRange) {
        let (first, end) = self.region.span(range);
        // Not only where it seems to be clear: a load may be older than a clear on another processor.
        self.change(first, end, |word, mask| _ = word.fetch_or(mask, Ordering::Relaxed));
    }

    /// Clear the regions of `extent`: its intent bit is about to be cleared. No write is in flight there.
    pub fn clear(&self, extent: Extent) {
        let range = extent.bytes(self.length());
        let (first, end) = self.region.span(range);
        self.change(first, end, |word, mask| _ = word.fetch_and(!mask, Ordering::Relaxed));
    }

    fn change(&self, first: Region, end: Region, change: impl Fn(&AtomicU64, u64)) {
        let (bits, mut at) = (self.bits(), first.0);
        while at < end.0 {
            let (from, to) = (at % 64, 64.min(at % 64 + end.0 - at));
            // One that outgrew its memory is worth nothing.
            let Some(word) = bits.get((at / 64) as usize) else { return };
            change(word, (u64::MAX << from) & (u64::MAX >> (64 - to)));
            at += to - from;
        }
    }

    /// The first region at or behind `from` that is set, or that is clear; the map's end when there is none.
    fn next(&self, from: u64, set: bool) -> u64 {
        let (bits, end) = (self.bits(), self.region.count(self.length()));
        let mut at = from;
        while at < end {
            let word = bits[(at / 64) as usize].load(Ordering::Relaxed);
            let sought = (if set { word } else { !word }) & (u64::MAX << (at % 64));
            if sought != 0 {
                return end.min(at / 64 * 64 + u64::from(sought.trailing_zeros()));
            }
            at = (at / 64 + 1) * 64;
        }
        end
    }

    /// The bytes of the set regions, neighbours joined, in order, as the map is while the iterator passes.
    pub fn ranges(&self) -> impl Iterator<Item = ByteRange> {
        let (length, end) = (self.length(), self.region.count(self.length()));
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next(at, true);
            at = self.next(first, false);
            (first < end).then(|| self.region.range(Region(first), Region(at), length))
        })
    }

    /// Bytes in set regions.
    #[must_use]
    pub fn unflushed_bytes(&self) -> u64 {
        self.ranges().map(|range| range.length).sum()
    }
}

impl std::fmt::Debug for UnflushedMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnflushedMap({} of {} bytes)", self.unflushed_bytes(), self.length())
    }
}

/// The size of its regions: that of a change map unless told otherwise, and never more than an extent, which is what is
/// cleared at a time.
fn region(length: u64) -> RegionSize {
    const EXTENT: RegionSize = RegionSize::new(EXTENT_BYTES as u32).expect("an extent is a valid region");
    let region = RegionSize::for_volume(length);
    if region.bytes() > EXTENT_BYTES { EXTENT } else { region }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: u64 = 64 << 10;
    const NUMBER: u64 = 7;

    fn memory(length: u64) -> SharedWords {
        let words = UnflushedMap::bytes(length).unwrap() / 8;
        SharedWords::new((0..words).map(|_| AtomicU64::new(0)).collect::<Vec<_>>())
    }

    fn take_up(words: &SharedWords, durable: &ExtentMap, found: Option<u64>) -> (UnflushedMap, bool) {
        UnflushedMap::take_up(words.clone(), durable, found, NUMBER).unwrap()
    }

    fn ranges(map: &UnflushedMap) -> Vec<(u64, u64)> {
        map.ranges().map(|range| (range.offset / REGION, range.length)).collect()
    }

    #[test]
    fn a_region_is_set_until_its_extent_is_cleared() {
        let length = 9 * EXTENT_BYTES + 512;
        let (words, durable) = (memory(length), ExtentMap::new(length));
        let (map, kept) = take_up(&words, &durable, Some(6));
        assert!(!kept && ranges(&map).is_empty(), "new memory was left by nobody");
        map.set(ByteRange::new(EXTENT_BYTES - 1, 2));
        map.set(ByteRange::new(9 * EXTENT_BYTES, 512));
        map.set(ByteRange::new(0, 0));
        let all = [(63, 2 * REGION), (9 * 64, 512)];
        assert_eq!(ranges(&map), all);
        assert_eq!(map.unflushed_bytes(), 2 * REGION + 512);
        map.clear(Extent(1));
        assert_eq!(ranges(&map), [(63, REGION), all[1]]);
        map.clear(Extent(9));
        map.clear(Extent(0));
        assert!(ranges(&map).is_empty());
        // Whole words, and parts of them.
        map.set(ByteRange::new(5 * REGION, 3 * EXTENT_BYTES));
        assert_eq!(map.unflushed_bytes(), 3 * EXTENT_BYTES);
        map.clear(Extent(1));
        assert_eq!(map.unflushed_bytes(), 2 * EXTENT_BYTES);
    }

    #[test]
    fn what_the_last_one_left_is_kept_and_all_else_is_what_the_intent_map_says() {
        let length = 3 * EXTENT_BYTES;
        let (words, durable) = (memory(length), ExtentMap::new(length));
        let (map, _) = take_up(&words, &durable, None);
        map.set(ByteRange::new(0, 1));
        durable.set(ByteRange::new(0, EXTENT_BYTES + 1));
        let (map, kept) = take_up(&words, &durable, Some(NUMBER));
        assert!(kept && ranges(&map) == [(0, REGION)]);
        // Another one came between, a clean stop, another length, another version, and one that was not filled to the end.
        let replaced = || {
            let (map, kept) = take_up(&words, &durable, Some(NUMBER));
            !kept && map.unflushed_bytes() == 2 * EXTENT_BYTES
        };
        assert!(!take_up(&words, &durable, Some(NUMBER + 1)).1);
        assert!(!take_up(&words, &durable, None).1);
        for (word, value) in [(0, KIND + 1), (1, 0), (2, length - 512), (3, 2 * REGION)] {
            words[word].store(value, Ordering::Relaxed);
            assert!(replaced(), "word {word}");
        }
        assert!(UnflushedMap::take_up(memory(512), &ExtentMap::new(1 << 40), None, NUMBER).is_none());
    }

    #[test]
    fn memory_is_two_mebibytes_for_a_tebibyte_and_bounded_for_all_else() {
        assert_eq!(UnflushedMap::bytes(1 << 40), Some((2 << 20) + 4096));
        assert_eq!(UnflushedMap::bytes(64 << 40), Some((2 << 20) + 4096));
        assert_eq!(UnflushedMap::bytes(1 << 50).map(|bytes| bytes >> 20), Some(32));
        assert_eq!(UnflushedMap::bytes(1 << 60), None);
    }
}
