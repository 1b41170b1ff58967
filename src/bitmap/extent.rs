//! The intent map in memory: one bit an extent of 4 MiB.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::base::{ByteRange, Extent};

use super::BitMap;

/// A [`BitMap`] over a volume's extents. Ranges lie inside the volume's length.
#[derive(Debug)]
pub struct ExtentMap {
    bits: BitMap,
    length: AtomicU64,
}

impl ExtentMap {
    /// The map of a volume of `length` bytes, no extent set.
    #[must_use]
    pub fn new(length: u64) -> Self {
        Self::with_room(length, length)
    }

    /// As [`new`](Self::new), with room to grow to a volume of `most` bytes.
    #[must_use]
    pub fn with_room(length: u64, most: u64) -> Self {
        let bits = BitMap::with_room(Extent::count(length), Extent::count(most));
        Self { bits, length: AtomicU64::new(length) }
    }

    /// Be the map of a volume of `length` bytes from now on, no shorter than before, no new extent set; false, and nothing
    /// done, where there is no room. Others may use the map meanwhile.
    pub fn grow(&self, length: u64) -> bool {
        let grown = self.bits.grow(Extent::count(length));
        if grown {
            self.length.store(length, Relaxed);
        }
        grown
    }

    /// Bytes of the volume.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length.load(Relaxed)
    }

    /// The bits, one an extent, for loading and writing out.
    #[must_use]
    pub const fn bits(&self) -> &BitMap {
        &self.bits
    }

    /// Whether every extent that `range` touches is set. Within one extent this is one load, behind that of the page's
    /// address.
    ///
    /// # Panics
    /// When the range leaves the volume; so do all operations on ranges and extents.
    #[must_use]
    pub fn covered(&self, range: ByteRange) -> bool {
        let (first, end) = Extent::span(range);
        if end.0 == first.0 + 1 { self.bits.get(first.0) } else { self.bits.all(first.0, end.0) }
    }

    /// Whether an extent that `range` touches is set.
    #[must_use]
    pub fn touched(&self, range: ByteRange) -> bool {
        let (first, end) = Extent::span(range);
        self.bits.any(first.0, end.0)
    }

    /// Set every extent that `range` touches; true when one of them was clear before.
    pub fn set(&self, range: ByteRange) -> bool {
        let (first, end) = Extent::span(range);
        if end.0 == first.0 + 1 { self.bits.set(first.0) } else { self.bits.set_range(first.0, end.0) }
    }

    /// Set all extents.
    pub fn set_all(&self) {
        self.bits.set_all();
    }

    /// Clear `extent`; true when it was set before.
    pub fn clear(&self, extent: Extent) -> bool {
        self.bits.clear(extent.0)
    }

    /// Clear all extents.
    pub fn clear_all(&self) {
        self.bits.clear_all();
    }

    /// Whether no extent is set.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.bits.is_empty()
    }

    /// How many extents are set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bits.count_ones()
    }

    /// The set extents, in order, as the map is while the iterator passes.
    pub fn extents(&self) -> impl Iterator<Item = Extent> {
        self.bits.runs().flatten().map(Extent)
    }

    /// The bytes of the set extents, neighbours joined, cut off at the volume's end.
    pub fn ranges(&self) -> impl Iterator<Item = ByteRange> {
        self.bits.runs().map(|run| {
            let start = Extent(run.start).bytes(self.length()).offset;
            let end = Extent(run.end - 1).bytes(self.length()).end();
            ByteRange::new(start, end - start)
        })
    }

    /// Set what is set in `other`.
    ///
    /// # Panics
    /// When the volumes' lengths differ.
    pub fn or_from(&self, other: &Self) {
        assert_eq!(self.length(), other.length(), "maps of volumes of different length");
        self.bits.or_from(&other.bits);
    }

    /// Another map with the same extents.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { bits: self.bits.copy(), length: AtomicU64::new(self.length()) }
    }

    /// Check the invariants; only while no operation is midway.
    ///
    /// # Panics
    /// When one is broken.
    pub fn self_check(&self) {
        self.bits.self_check();
        assert_eq!(self.bits.len(), Extent::count(self.length()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::EXTENT_BYTES;

    #[test]
    fn a_request_over_a_border_needs_both_extents() {
        let map = ExtentMap::new(5 * EXTENT_BYTES + 1);
        let across = ByteRange::new(2 * EXTENT_BYTES - 512, 1024);
        assert!(map.set(ByteRange::new(EXTENT_BYTES, 1)));
        assert!(!map.covered(across) && map.touched(across));
        assert!(map.set(across));
        assert!(map.covered(across) && !map.set(across));
        assert_eq!(map.extents().collect::<Vec<_>>(), [Extent(1), Extent(2)]);
        assert!(map.clear(Extent(1)) && !map.clear(Extent(1)));
        assert_eq!(map.count(), 1);
        map.self_check();
    }

    #[test]
    fn ranges_end_with_the_volume() {
        let length = 5 * EXTENT_BYTES + 4096;
        let map = ExtentMap::new(length);
        map.set(ByteRange::new(4 * EXTENT_BYTES, EXTENT_BYTES + 1));
        map.set(ByteRange::new(0, 1));
        assert_eq!(
            map.ranges().collect::<Vec<_>>(),
            [ByteRange::new(0, EXTENT_BYTES), ByteRange::new(4 * EXTENT_BYTES, EXTENT_BYTES + 4096)]
        );
        map.set_all();
        assert_eq!(map.ranges().collect::<Vec<_>>(), [ByteRange::new(0, length)]);
        let copy = map.copy();
        map.clear_all();
        assert!(map.is_clean() && copy.count() == 6);
        map.or_from(&copy);
        assert_eq!(map.count(), 6);
    }

    #[test]
    fn nothing_is_covered_by_nothing() {
        let map = ExtentMap::new(EXTENT_BYTES);
        assert!(map.covered(ByteRange::new(0, 0)), "a flush needs no intent");
        assert!(!map.set(ByteRange::new(0, 0)));
    }
}
