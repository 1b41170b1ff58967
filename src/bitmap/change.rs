//! The change map: one bit a region of a volume, "differs, or may differ, since a named moment".

use crate::base::{ByteRange, Region, RegionSize};

use super::{BitMap, ExtentMap, UnflushedMap};

/// A [`BitMap`] that is asked in bytes of a volume. Ranges lie inside the volume's length.
#[derive(Debug)]
pub struct ChangeMap {
    bits: BitMap,
    length: u64,
    region: RegionSize,
}

impl ChangeMap {
    /// The map of a volume of `length` bytes, nothing marked.
    #[must_use]
    pub fn new(length: u64, region: RegionSize) -> Self {
        Self { bits: BitMap::new(region.count(length)), length, region }
    }

    /// Bytes of the volume.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of a region.
    #[must_use]
    pub const fn region_size(&self) -> RegionSize {
        self.region
    }

    /// The bits, one a region, for loading and writing out.
    #[must_use]
    pub const fn bits(&self) -> &BitMap {
        &self.bits
    }

    /// Mark every region that `range` touches; true when one of them was clear before.
    ///
    /// # Panics
    /// When the range leaves the volume; so do all operations on ranges.
    pub fn mark(&self, range: ByteRange) -> bool {
        let (first, end) = self.region.span(range);
        if end.0 == first.0 + 1 { self.bits.set(first.0) } else { self.bits.set_range(first.0, end.0) }
    }

    /// Mark all regions.
    pub fn mark_all(&self) {
        self.bits.set_all();
    }

    /// Whether a region that `range` touches is marked.
    #[must_use]
    pub fn is_marked(&self, range: ByteRange) -> bool {
        let (first, end) = self.region.span(range);
        if end.0 == first.0 + 1 { self.bits.get(first.0) } else { self.bits.any(first.0, end.0) }
    }

    /// The next marked bytes at or behind the region of `from`: whole neighbouring regions, cut off at the volume's end,
    /// at most `max` bytes but at least one region. From the volume's end on there is none, so that each answer's end can be
    /// the next question.
    #[must_use]
    pub fn next_dirty(&self, from: u64, max: u64) -> Option<ByteRange> {
        if from >= self.length {
            return None;
        }
        let limit = (max / self.region.bytes()).max(1);
        let run = self.bits.next_run(from / self.region.bytes(), limit)?;
        Some(self.region.range(Region(run.start), Region(run.end), self.length))
    }

    /// All marked ranges, in order, as the map is while the iterator passes.
    pub fn dirty_ranges(&self) -> impl Iterator<Item = ByteRange> {
        self.bits.runs().map(|run| self.region.range(Region(run.start), Region(run.end), self.length))
    }

    /// Bytes in marked regions.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        let whole = self.dirty_regions().saturating_mul(self.region.bytes());
        let tail = self.length % self.region.bytes();
        let last_is_short = tail != 0 && self.bits.get(self.bits.len() - 1);
        if last_is_short { whole.saturating_sub(self.region.bytes() - tail) } else { whole }
    }

    /// How many regions are marked.
    #[must_use]
    pub fn dirty_regions(&self) -> u64 {
        self.bits.count_ones()
    }

    /// Whether no region is marked.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.bits.is_empty()
    }

    /// Clear the regions that lie wholly inside `range`, where the volume's last region ends with the volume. A region
    /// that is only touched stays marked: its other part may still differ.
    pub fn clear(&self, range: ByteRange) {
        assert!(range.end() <= self.length, "{range} of a volume of {} bytes", self.length);
        let first = range.offset.div_ceil(self.region.bytes());
        let end =
            if range.end() == self.length { self.bits.len() } else { range.end() / self.region.bytes() };
        if first < end {
            self.bits.clear_range(first, end);
        }
    }

    /// Clear all regions.
    pub fn clear_all(&self) {
        self.bits.clear_all();
    }

    /// Mark what is marked in `other`, whose regions may have another size.
    ///
    /// # Panics
    /// When the volumes' lengths differ.
    pub fn or_from(&self, other: &Self) {
        assert_eq!(self.length, other.length, "maps of volumes of different length");
        if self.region == other.region {
            self.bits.or_from(&other.bits);
        } else {
            other.dirty_ranges().for_each(|range| _ = self.mark(range));
        }
    }

    /// Clear what is marked in `other`.
    ///
    /// # Panics
    /// When the volumes' lengths or the sizes of the regions differ.
    pub fn and_not_from(&self, other: &Self) {
        assert_eq!((self.length, self.region), (other.length, other.region), "maps of different volumes");
        self.bits.and_not_from(&other.bits);
    }

    /// Mark what lies in set extents: after a crash, where writes may have been under way.
    ///
    /// # Panics
    /// When the volume of `extents` is longer. It may be shorter while it grows.
    pub fn or_extents(&self, extents: &ExtentMap) {
        assert!(self.length >= extents.length(), "the extents of a longer volume");
        extents.ranges().for_each(|range| _ = self.mark(range));
    }

    /// Mark what lies in set regions of `unflushed`: after the end of the process alone, where writes may have been under way.
    ///
    /// # Panics
    /// When the volume is shorter.
    pub fn or_unflushed(&self, unflushed: &UnflushedMap) {
        unflushed.ranges().for_each(|range| _ = self.mark(range));
    }

    /// Another map with the same marks, for the volume when it has `length` bytes, no fewer than now; with `new` marked or
    /// not in all that it gets.
    ///
    /// # Panics
    /// When it would be shorter.
    #[must_use]
    pub fn grown(&self, length: u64, new: bool) -> Self {
        assert!(length >= self.length, "a map that is cut off");
        let grown = Self::new(length, self.region);
        self.dirty_ranges().for_each(|range| _ = grown.mark(range));
        if new {
            grown.mark(ByteRange::new(self.length, length - self.length));
        }
        grown
    }

    /// Another map with the same marks.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { bits: self.bits.copy(), length: self.length, region: self.region }
    }

    /// Check the invariants; only while no operation is midway.
    ///
    /// # Panics
    /// When one is broken.
    pub fn self_check(&self) {
        self.bits.self_check();
        assert_eq!(self.bits.len(), self.region.count(self.length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REGION: u64 = 64 << 10;

    fn map(length: u64) -> ChangeMap {
        ChangeMap::new(length, RegionSize::DEFAULT)
    }

    #[test]
    fn a_short_last_region_counts_its_own_bytes_and_can_be_cleared() {
        let map = map(3 * REGION + 512);
        assert!(map.mark(ByteRange::new(3 * REGION, 1)));
        assert_eq!(map.dirty_bytes(), 512);
        assert_eq!(map.next_dirty(0, 1 << 20), Some(ByteRange::new(3 * REGION, 512)));
        assert_eq!(map.next_dirty(3 * REGION + 512, 1 << 20), None, "behind the end, inside the last region");
        map.clear(ByteRange::new(3 * REGION, 511));
        assert_eq!(map.dirty_regions(), 1, "touched, not covered");
        map.clear(ByteRange::new(3 * REGION, 512));
        assert!(map.is_clean());
    }

    #[test]
    fn a_partly_covered_region_stays_marked() {
        let map = map(8 * REGION);
        map.mark_all();
        map.clear(ByteRange::new(1, 3 * REGION));
        assert_eq!(
            map.dirty_ranges().collect::<Vec<_>>(),
            [ByteRange::new(0, REGION), ByteRange::new(3 * REGION, 5 * REGION)]
        );
        map.clear(ByteRange::new(REGION - 1, 1));
        assert!(map.is_marked(ByteRange::new(0, 1)));
    }

    #[test]
    fn a_run_is_cut_at_the_asked_length_but_never_below_a_region() {
        let map = map(32 * REGION);
        map.mark_all();
        assert_eq!(map.next_dirty(0, 8 * REGION + 5), Some(ByteRange::new(0, 8 * REGION)));
        assert_eq!(map.next_dirty(REGION + 7, 1), Some(ByteRange::new(REGION, REGION)));
        assert_eq!(map.next_dirty(32 * REGION, 1), None);
    }

    #[test]
    fn an_empty_range_marks_nothing() {
        let map = map(4 * REGION);
        assert!(!map.mark(ByteRange::new(REGION, 0)));
        assert!(map.is_clean());
    }

    #[test]
    fn intent_is_or_ed_in_whole_extents_up_to_the_end() {
        let length = (9 << 20) + 4096;
        let (map, extents) = (map(length), ExtentMap::new(length));
        extents.set(ByteRange::new(length - 1, 1));
        map.mark(ByteRange::new(0, 1));
        map.or_extents(&extents);
        assert_eq!(
            map.dirty_ranges().collect::<Vec<_>>(),
            [ByteRange::new(0, REGION), ByteRange::new(8 << 20, (1 << 20) + 4096)]
        );
    }

    proptest! {
        #[test]
        fn marks_and_ors_agree_with_a_byte_oracle(
            ranges in proptest::collection::vec((0..40u64, 0..10u64), 0..8),
            coarse in 0..3u32,
            probe in (0..50u64, 1..6u64),
        ) {
            // Eighths of a region as the oracle's unit, over 50 of them: 6.25 regions.
            let unit = REGION / 8;
            let length = 50 * unit;
            let map = map(length);
            let other = ChangeMap::new(length, RegionSize::new(u32::try_from(REGION).unwrap() >> 2 << (coarse * 2)).unwrap());
            let mut oracle = [false; 50];
            for (i, &(at, len)) in ranges.iter().enumerate() {
                let range = ByteRange::new(at * unit, len * unit);
                let size = if i % 2 == 0 { REGION } else { other.region_size().bytes() };
                if i % 2 == 0 { map.mark(range); } else { other.mark(range); }
                if len > 0 {
                    // What one bit of the marking map covers, then what a bit of the receiving map covers.
                    let wide = range.widen(size, length).widen(REGION, length);
                    for mark in &mut oracle[(wide.offset / unit) as usize..wide.end().div_ceil(unit) as usize] {
                        *mark = true;
                    }
                }
            }
            map.or_from(&other);
            map.self_check();
            let marked: u64 = oracle.iter().filter(|mark| **mark).count() as u64 * unit;
            prop_assert_eq!(map.dirty_bytes(), marked);
            let end = (probe.0 + probe.1).min(50);
            let expected = {
                let wide = ByteRange::new(probe.0 * unit, (end - probe.0) * unit).widen(REGION, length);
                oracle[(wide.offset / unit) as usize..(wide.end() / unit) as usize].iter().any(|mark| *mark)
            };
            prop_assert_eq!(map.is_marked(ByteRange::new(probe.0 * unit, (end - probe.0) * unit)), expected);
        }
    }
}
