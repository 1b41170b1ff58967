//! The live map: words of `AtomicU64` in pages that are allocated when their first bit is set.
//!
//! ```text
//! slots    [ page?, ones ][ page?, ones ] ...     one slot for each PAGE_BITS bits
//!              |
//!              v
//! page     [ word 0 ][ word 1 ] ... [ word PAGE_WORDS - 1 ]
//! ```
//! A slot without a page reads as zeros. `ones`, the number of set bits of the page, is the summary level: a run over an
//! empty map of 16 Mi bits (1 TiB at 64 KiB) looks at 529 slots and no word.
//!
//! A map can be made with room for more bits than it has, and grows into that while it is used.
//!
//! Invariants, when no operation is midway (see [`BitMap::self_check`]): `ones` equals the bits set in the page; bits
//! behind the end are zero. Midway: the bit changes first, then `ones`, then the page's mark. Each change of a bit is
//! counted by the one who made it, so the count is never wrong for good. It cannot fall to zero over a bit whose
//! `set` has returned either, unless some other bit was cleared while its own `set` was midway; who clears a bit
//! holds its region or extent drained of writes, so that does not happen.

use bitvec::prelude::{BitVec, Lsb0};
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::dirty::DirtyPages;

/// Words of a page. With the 128 bytes that frame it in a file, a page of the map is a page of the file.
pub const PAGE_WORDS: usize = 496;

/// Bits of a page.
pub const PAGE_BITS: u64 = PAGE_WORDS as u64 * 64;

/// Bytes of a page as [`BitMap::page_bytes`] returns it.
pub const PAGE_MAP_BYTES: usize = PAGE_WORDS * 8;

type Page = [AtomicU64; PAGE_WORDS];

#[derive(Default)]
struct Slot {
    page: OnceLock<Box<Page>>,
    ones: AtomicI64,
}

impl Slot {
    fn page(&self) -> &Page {
        self.page.get_or_init(|| Box::new([const { AtomicU64::new(0) }; PAGE_WORDS]))
    }

    /// The page, unless it is known to hold no one.
    fn page_with_ones(&self) -> Option<&Page> {
        if self.ones.load(Relaxed) == 0 { None } else { self.page.get().map(|page| &**page) }
    }
}

/// A map of bits, all zero at first.
pub struct BitMap {
    bits: AtomicU64,
    /// One for each page that there is room for.
    slots: Box<[Slot]>,
    dirty: DirtyPages,
}

/// The bits `from .. to` of one word, `to` at most 64 and above `from`.
const fn mask(from: u64, to: u64) -> u64 {
    (u64::MAX << from) & (u64::MAX >> (64 - to))
}

impl BitMap {
    /// A map of `bits` bits. Memory: 24 bytes for each [`PAGE_BITS`], and 4 KiB for each page with a bit ever set.
    #[must_use]
    pub fn new(bits: u64) -> Self {
        Self::with_room(bits, bits)
    }

    /// As [`new`](Self::new), with room to grow to `most` bits: it takes the memory of a map of so many.
    #[must_use]
    pub fn with_room(bits: u64, most: u64) -> Self {
        let pages = bits.max(most).div_ceil(PAGE_BITS) as usize;
        let slots = (0..pages).map(|_| Slot::default()).collect();
        Self { bits: AtomicU64::new(bits), slots, dirty: DirtyPages::new(pages) }
    }

    /// Have `bits` bits from now on, no fewer than before, the new ones zero; false, and nothing done, where there is no room.
    /// Others may use the map meanwhile.
    pub fn grow(&self, bits: u64) -> bool {
        let fits = self.has_room_for(bits);
        if fits {
            self.bits.store(bits, Relaxed);
        }
        fits
    }

    /// Whether it can [`grow`](Self::grow) to `bits` bits.
    #[must_use]
    pub fn has_room_for(&self, bits: u64) -> bool {
        bits >= self.len() && bits.div_ceil(PAGE_BITS) as usize <= self.slots.len()
    }

    /// Number of bits.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bits.load(Relaxed)
    }

    /// Number of pages.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.len().div_ceil(PAGE_BITS) as usize
    }

    /// The slots of these pages.
    fn slots(&self) -> &[Slot] {
        &self.slots[..self.pages()]
    }

    /// Whether bit `i` is set.
    ///
    /// # Panics
    /// When `i` is not below [`len`](Self::len); so do all operations on single bits and ranges.
    #[must_use]
    pub fn get(&self, i: u64) -> bool {
        assert!(i < self.len(), "bit {i} of a map of {}", self.len());
        let slot = &self.slots[(i / PAGE_BITS) as usize];
        let Some(page) = slot.page.get() else { return false };
        page[(i % PAGE_BITS / 64) as usize].load(Relaxed) & (1 << (i % 64)) != 0
    }

    /// Set bit `i`; true when it was clear before. A set bit costs one load, behind that of its page's address.
    pub fn set(&self, i: u64) -> bool {
        assert!(i < self.len(), "bit {i} of a map of {}", self.len());
        let index = (i / PAGE_BITS) as usize;
        let newly = set_bits(&self.slots[index].page()[(i % PAGE_BITS / 64) as usize], 1 << (i % 64));
        self.account(index, i64::from(newly))
    }

    /// Set the bits `from .. to`; true when one of them was clear before.
    pub fn set_range(&self, from: u64, to: u64) -> bool {
        self.each_page(from, to, |index, words| {
            let page = self.slots[index].page();
            let newly: u32 = words.map(|(word, mask)| set_bits(&page[word], mask)).sum();
            self.account(index, i64::from(newly))
        })
    }

    /// Clear bit `i`; true when it was set before.
    pub fn clear(&self, i: u64) -> bool {
        self.clear_range(i, i + 1)
    }

    /// Clear the bits `from .. to`; true when one of them was set before.
    pub fn clear_range(&self, from: u64, to: u64) -> bool {
        self.each_page(from, to, |index, words| {
            let Some(page) = self.slots[index].page.get() else { return false };
            let cleared: u32 = words.map(|(word, mask)| clear_bits(&page[word], mask)).sum();
            self.account(index, -i64::from(cleared))
        })
    }

    /// Set every bit.
    pub fn set_all(&self) {
        self.set_range(0, self.len());
    }

    /// Clear every bit.
    pub fn clear_all(&self) {
        self.clear_range(0, self.len());
    }

    /// Set every bit of page `index`: what a page counts as that could not be read.
    pub fn set_page(&self, index: usize) {
        let from = index as u64 * PAGE_BITS;
        self.set_range(from, (from + PAGE_BITS).min(self.len()));
    }

    /// How many bits are set. It costs one load a page.
    #[must_use]
    pub fn count_ones(&self) -> u64 {
        let sum: i64 = self.slots().iter().map(|slot| slot.ones.load(Relaxed)).sum();
        // Midway through a clear of a bit whose setter is still midway the sum can be below zero.
        u64::try_from(sum).unwrap_or(0)
    }

    /// Whether no bit is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots().iter().all(|slot| slot.ones.load(Relaxed) == 0)
    }

    /// Whether one of the bits `from .. to` is set.
    #[must_use]
    pub fn any(&self, from: u64, to: u64) -> bool {
        assert!(from <= to && to <= self.len(), "bits {from}..{to} of a map of {}", self.len());
        from < to && self.first_one(from).is_some_and(|one| one < to)
    }

    /// Whether all of the bits `from .. to` are set.
    #[must_use]
    pub fn all(&self, from: u64, to: u64) -> bool {
        assert!(from <= to && to <= self.len(), "bits {from}..{to} of a map of {}", self.len());
        self.first_zero(from, to) == to
    }

    /// The next run of set bits at or behind `from`, at most `limit` bits of it.
    ///
    /// # Panics
    /// For a limit of zero.
    #[must_use]
    pub fn next_run(&self, from: u64, limit: u64) -> Option<Range<u64>> {
        assert!(limit > 0, "a run has at least one bit");
        let start = self.first_one(from)?;
        Some(start..self.first_zero(start, start.saturating_add(limit).min(self.len())))
    }

    /// All runs of set bits, in order, as the map is while the iterator passes.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let run = self.next_run(at, u64::MAX)?;
            at = run.end;
            Some(run)
        })
    }

    /// Set every bit that is set in `other`.
    ///
    /// # Panics
    /// When the lengths differ; so does [`and_not_from`](Self::and_not_from).
    pub fn or_from(&self, other: &Self) {
        self.with_pages_of(other, |index, theirs| {
            let page = self.slots[index].page();
            let newly: u32 = page.iter().zip(theirs).map(|(word, b)| set_bits(word, b.load(Relaxed))).sum();
            self.account(index, i64::from(newly));
        });
    }

    /// Clear every bit that is set in `other`.
    pub fn and_not_from(&self, other: &Self) {
        self.with_pages_of(other, |index, theirs| {
            let Some(page) = self.slots[index].page.get() else { return };
            let gone: u32 = page.iter().zip(theirs).map(|(word, b)| clear_bits(word, b.load(Relaxed))).sum();
            self.account(index, -i64::from(gone));
        });
    }

    /// Another map with the same bits; its pages with ones are marked for writing.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new(self.len());
        copy.or_from(self);
        copy
    }

    /// The bits as a `bitvec`, for cold views and as the tests' oracle.
    #[must_use]
    pub fn to_bitvec(&self) -> BitVec<u64, Lsb0> {
        let mut words = Vec::with_capacity(self.pages() * PAGE_WORDS);
        for slot in self.slots() {
            match slot.page.get() {
                Some(page) => words.extend(page.iter().map(|word| word.load(Relaxed))),
                None => words.resize(words.len() + PAGE_WORDS, 0),
            }
        }
        let mut bits = BitVec::from_vec(words);
        bits.truncate(self.len() as usize);
        bits
    }

    /// The pages changed since the last call, in order. Their bytes are read after the call: a bit set before is in them,
    /// a bit set after puts its page into the next answer. A page that could not be written goes back by
    /// [`mark_page`](Self::mark_page).
    #[must_use]
    pub fn take_dirty_pages(&self) -> Vec<usize> {
        self.dirty.take()
    }

    /// Whether a page has changed since it was last taken.
    #[must_use]
    pub fn has_dirty_pages(&self) -> bool {
        self.dirty.any()
    }

    /// Let page `index` be written by the next persist pass whether it changes or not.
    pub fn mark_page(&self, index: usize) {
        assert!(index < self.pages(), "page {index} of {}", self.pages());
        self.dirty.mark(index);
    }

    /// Page `index` as little-endian bytes, bit `i` of the page in bit `i % 8` of byte `i / 8`.
    #[must_use]
    pub fn page_bytes(&self, index: usize) -> [u8; PAGE_MAP_BYTES] {
        let mut bytes = [0; PAGE_MAP_BYTES];
        // Not by way of `ones`: what is written out rests on the words alone.
        if let Some(page) = self.slots[index].page.get() {
            for (chunk, word) in bytes.chunks_exact_mut(8).zip(page.iter()) {
                chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
            }
        }
        bytes
    }

    /// Give page `index` the bits of `bytes`, as [`page_bytes`](Self::page_bytes) made them, without marking it for
    /// writing. Bits behind the end of the map are ignored. For a map that is being loaded and that nobody else uses yet.
    pub fn load_page(&self, index: usize, bytes: &[u8; PAGE_MAP_BYTES]) {
        let slot = &self.slots[index];
        if slot.page.get().is_none() && bytes.iter().all(|&byte| byte == 0) {
            return;
        }
        let page = slot.page();
        let mut ones = 0;
        for (word, (at, chunk)) in page.iter().zip(bytes.chunks_exact(8).enumerate()) {
            let mut le = [0; 8];
            le.copy_from_slice(chunk);
            let first = index as u64 * PAGE_BITS + at as u64 * 64;
            let inside = self.len().saturating_sub(first).min(64);
            let value = if inside == 0 { 0 } else { u64::from_le_bytes(le) & mask(0, inside) };
            word.store(value, Relaxed);
            ones += i64::from(value.count_ones());
        }
        slot.ones.store(ones, Relaxed);
    }

    /// Check the invariants; only while no operation is midway.
    ///
    /// # Panics
    /// When one is broken.
    pub fn self_check(&self) {
        assert!(self.pages() <= self.slots.len());
        for (index, slot) in self.slots().iter().enumerate() {
            let mut ones = 0;
            for (at, word) in slot.page.get().into_iter().flat_map(|page| page.iter()).enumerate() {
                let value = word.load(Relaxed);
                ones += i64::from(value.count_ones());
                let first = index as u64 * PAGE_BITS + at as u64 * 64;
                let inside = self.len().saturating_sub(first).min(64);
                assert!(inside == 64 || value >> inside == 0, "page {index}: a bit behind the end");
            }
            assert_eq!(slot.ones.load(Relaxed), ones, "page {index}: count of ones");
        }
    }

    /// The first set bit at or behind `from`.
    fn first_one(&self, from: u64) -> Option<u64> {
        if from >= self.len() {
            return None;
        }
        let mut word = (from % PAGE_BITS / 64) as usize;
        let mut keep = u64::MAX << (from % 64);
        for index in (from / PAGE_BITS) as usize..self.pages() {
            if let Some(page) = self.slots[index].page_with_ones() {
                for (at, value) in page.iter().enumerate().skip(word) {
                    let value = value.load(Relaxed) & keep;
                    keep = u64::MAX;
                    if value != 0 {
                        let bit = at as u64 * 64 + u64::from(value.trailing_zeros());
                        return Some(index as u64 * PAGE_BITS + bit);
                    }
                }
            }
            (word, keep) = (0, u64::MAX);
        }
        None
    }

    /// The first clear bit in `from .. to`, or `to`.
    fn first_zero(&self, from: u64, to: u64) -> u64 {
        let mut at = from;
        while at < to {
            let Some(page) = self.slots[(at / PAGE_BITS) as usize].page.get() else { return at };
            let ones = (page[(at % PAGE_BITS / 64) as usize].load(Relaxed) >> (at % 64)).trailing_ones();
            let word_end = (at / 64 + 1) * 64;
            at += u64::from(ones);
            if at < word_end {
                break;
            }
        }
        at.min(to)
    }

    /// Count `change` bits of page `index` and mark it; true when there were any. The bits have changed before.
    fn account(&self, index: usize, change: i64) -> bool {
        if change == 0 {
            return false;
        }
        self.slots[index].ones.fetch_add(change, Relaxed);
        self.dirty.mark(index);
        true
    }

    /// Run `act` for each page that `from .. to` touches, with its words and the bits of each; true when `act` once was.
    fn each_page(&self, from: u64, to: u64, act: impl Fn(usize, WordMasks) -> bool) -> bool {
        assert!(from <= to && to <= self.len(), "bits {from}..{to} of a map of {}", self.len());
        let mut any = false;
        let mut at = from;
        while at < to {
            let first = at / PAGE_BITS * PAGE_BITS;
            let end = to.min(first + PAGE_BITS);
            any |= act((at / PAGE_BITS) as usize, WordMasks { at: at - first, end: end - first });
            at = end;
        }
        any
    }

    /// Run `act` for each page of `other` that holds a one.
    fn with_pages_of(&self, other: &Self, act: impl Fn(usize, &Page)) {
        assert_eq!(self.len(), other.len(), "maps of different length");
        for (index, slot) in other.slots().iter().enumerate() {
            if let Some(page) = slot.page_with_ones() {
                act(index, page);
            }
        }
    }
}

/// The words under a range of a page's bits, each with the mask of the bits in the range.
struct WordMasks {
    at: u64,
    end: u64,
}

impl Iterator for WordMasks {
    type Item = (usize, u64);
    fn next(&mut self) -> Option<(usize, u64)> {
        (self.at < self.end).then(|| {
            let word = self.at / 64;
            let to = self.end.min((word + 1) * 64);
            let bits = mask(self.at % 64, to - word * 64);
            self.at = to;
            (word as usize, bits)
        })
    }
}

/// Set `bits` of `word`, without a write when they are set; how many were clear.
fn set_bits(word: &AtomicU64, bits: u64) -> u32 {
    let missing = bits & !word.load(Relaxed);
    if missing == 0 { 0 } else { (missing & !word.fetch_or(missing, Relaxed)).count_ones() }
}

/// Clear `bits` of `word`, without a write when they are clear; how many were set.
fn clear_bits(word: &AtomicU64, bits: u64) -> u32 {
    let there = bits & word.load(Relaxed);
    if there == 0 { 0 } else { (there & word.fetch_and(!there, Relaxed)).count_ones() }
}

impl fmt::Debug for BitMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BitMap({} of {} bits)", self.count_ones(), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BITS: u64 = 2 * PAGE_BITS + 1000;

    #[derive(Clone, Debug)]
    enum Op {
        Set(u64),
        Clear(u64),
        SetRange(u64, u64),
        ClearRange(u64, u64),
        SetPage(usize),
        Or(Vec<Range<u64>>),
        AndNot(Vec<Range<u64>>),
        Reload,
    }

    /// Bits of which many lie where words and pages meet.
    fn bit() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..BITS,
            0..130u64,
            (PAGE_BITS - 70..PAGE_BITS + 70),
            (2 * PAGE_BITS - 3..2 * PAGE_BITS + 3),
            BITS - 70..BITS,
        ]
    }

    fn range() -> impl Strategy<Value = Range<u64>> {
        (bit(), bit()).prop_map(|(a, b)| a.min(b)..a.max(b) + 1)
    }

    fn op() -> impl Strategy<Value = Op> {
        let ranges = || proptest::collection::vec(range(), 0..4);
        prop_oneof![
            4 => bit().prop_map(Op::Set),
            4 => bit().prop_map(Op::Clear),
            2 => range().prop_map(|r| Op::SetRange(r.start, r.end)),
            2 => range().prop_map(|r| Op::ClearRange(r.start, r.end)),
            1 => (0..3usize).prop_map(Op::SetPage),
            1 => ranges().prop_map(Op::Or),
            1 => ranges().prop_map(Op::AndNot),
            1 => Just(Op::Reload),
        ]
    }

    fn map_of(ranges: &[Range<u64>]) -> BitMap {
        let map = BitMap::new(BITS);
        for range in ranges {
            map.set_range(range.start, range.end);
        }
        map
    }

    fn apply(map: &mut BitMap, oracle: &mut BitVec<u64, Lsb0>, op: &Op) {
        match op {
            Op::Set(i) => assert_eq!(map.set(*i), !oracle.replace(*i as usize, true)),
            Op::Clear(i) => assert_eq!(map.clear(*i), oracle.replace(*i as usize, false)),
            Op::SetRange(a, b) => {
                assert_eq!(map.set_range(*a, *b), oracle[*a as usize..*b as usize].not_all());
                oracle[*a as usize..*b as usize].fill(true);
            }
            Op::ClearRange(a, b) => {
                assert_eq!(map.clear_range(*a, *b), oracle[*a as usize..*b as usize].any());
                oracle[*a as usize..*b as usize].fill(false);
            }
            Op::SetPage(page) => {
                map.set_page(*page);
                let from = page * PAGE_BITS as usize;
                oracle[from..(from + PAGE_BITS as usize).min(BITS as usize)].fill(true);
            }
            Op::Or(ranges) => {
                let other = map_of(ranges);
                map.or_from(&other);
                *oracle |= other.to_bitvec();
            }
            Op::AndNot(ranges) => {
                let other = map_of(ranges);
                map.and_not_from(&other);
                *oracle &= !other.to_bitvec();
            }
            Op::Reload => {
                let loaded = BitMap::new(BITS);
                for page in 0..map.pages() {
                    loaded.load_page(page, &map.page_bytes(page));
                }
                assert!(!loaded.has_dirty_pages());
                *map = loaded;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_map_that_grows_is_the_map_of_its_new_length(
            before in 1..BITS,
            more in 0..2 * PAGE_BITS,
            set in proptest::collection::vec((0..BITS, 0..BITS), 0..12),
        ) {
            let after = before + more;
            let (map, wanted) = (BitMap::with_room(before, after), BitMap::new(after));
            prop_assert!(!map.grow(before - 1), "it never becomes shorter");
            let apply = |end: u64| for (a, b) in &set {
                let (from, to) = (a % end, a % end + b % (end - a % end));
                map.set_range(from, to);
                wanted.set_range(from, to);
            };
            apply(before);
            map.set_all();
            wanted.set_range(0, before);
            prop_assert!(map.grow(after));
            prop_assert_eq!((map.len(), map.pages(), map.count_ones()), (after, wanted.pages(), before));
            prop_assert_eq!(map.to_bitvec(), wanted.to_bitvec());
            map.clear_range(0, before);
            wanted.clear_range(0, before);
            apply(after);
            prop_assert_eq!(map.to_bitvec(), wanted.to_bitvec());
            prop_assert!(map.runs().eq(wanted.runs()));
            map.self_check();
            prop_assert!(!map.grow(wanted.pages() as u64 * PAGE_BITS + 1), "there is no room for that");
        }

        #[test]
        fn set_algebra_agrees_with_bitvec(ops in proptest::collection::vec(op(), 1..40), from in 0..BITS, limit in 1..2000u64) {
            let mut map = BitMap::new(BITS);
            let mut oracle: BitVec<u64, Lsb0> = BitVec::repeat(false, BITS as usize);
            for op in &ops {
                apply(&mut map, &mut oracle, op);
            }
            map.self_check();
            prop_assert_eq!(&map.to_bitvec(), &oracle);
            prop_assert_eq!(&map.copy().to_bitvec(), &oracle);
            prop_assert_eq!(map.count_ones(), oracle.count_ones() as u64);
            prop_assert_eq!(map.is_empty(), oracle.not_any());
            prop_assert_eq!(map.get(from), oracle[from as usize]);
            let to = (from + limit).min(BITS);
            prop_assert_eq!(map.any(from, to), oracle[from as usize..to as usize].any());
            prop_assert_eq!(map.all(from, to), oracle[from as usize..to as usize].all());
            let run = oracle[from as usize..].first_one().map(|first| {
                let start = from + first as u64;
                let rest = &oracle[start as usize..];
                start..start + (rest.leading_ones() as u64).min(limit)
            });
            prop_assert_eq!(map.next_run(from, limit), run);
            let sum: u64 = map.runs().map(|run| run.end - run.start).sum();
            prop_assert_eq!(sum, map.count_ones());
        }

        #[test]
        fn dirty_pages_carry_every_change(ops in proptest::collection::vec(op(), 1..30)) {
            let mut map = BitMap::new(BITS);
            let mut oracle = BitVec::repeat(false, BITS as usize);
            let on_disk = BitMap::new(BITS);
            for op in ops.iter().filter(|op| !matches!(op, Op::Reload)) {
                apply(&mut map, &mut oracle, op);
                for page in map.take_dirty_pages() {
                    on_disk.load_page(page, &map.page_bytes(page));
                }
                prop_assert_eq!(&on_disk.to_bitvec(), &oracle);
            }
        }
    }

    #[test]
    fn an_empty_tebibyte_allocates_no_page_and_is_passed_without_a_word() {
        let map = BitMap::new(1 << 24);
        assert_eq!(map.pages(), 529);
        assert_eq!(map.next_run(0, 8), None);
        assert!(map.is_empty() && !map.clear_range(0, 1 << 24));
        assert!(map.slots.iter().all(|slot| slot.page.get().is_none()));
        assert_eq!(map.page_bytes(528), [0; PAGE_MAP_BYTES]);
        map.load_page(3, &[0; PAGE_MAP_BYTES]);
        assert!(map.slots[3].page.get().is_none());
    }

    #[test]
    fn bits_behind_the_end_are_not_loaded() {
        let map = BitMap::new(70);
        map.load_page(0, &[0xff; PAGE_MAP_BYTES]);
        assert_eq!(map.count_ones(), 70);
        map.self_check();
    }

    #[test]
    fn a_page_given_back_is_taken_again() {
        let map = BitMap::new(BITS);
        map.set(PAGE_BITS);
        assert_eq!(map.take_dirty_pages(), [1]);
        assert_eq!(map.take_dirty_pages(), [0; 0]);
        map.mark_page(1);
        assert_eq!(map.take_dirty_pages(), [1]);
        assert!(!map.set(PAGE_BITS), "set already");
        assert!(!map.has_dirty_pages(), "setting a set bit marks nothing");
    }

    #[test]
    fn racing_setters_lose_no_bit_and_no_page() {
        let map = BitMap::new(BITS);
        let on_disk = BitMap::new(BITS);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let persist = scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    for page in map.take_dirty_pages() {
                        on_disk.load_page(page, &map.page_bytes(page));
                    }
                }
            });
            let setters: Vec<_> = (0..3u64)
                .map(|thread| {
                    let map = &map;
                    scope.spawn(move || {
                        // The threads share words: bits of one residue class each, and some bits of all.
                        let mut newly = 0u64;
                        for i in (0..BITS).filter(|i| i % 4 == thread || i % 4 == 3) {
                            newly += u64::from(map.set(i));
                        }
                        newly
                    })
                })
                .collect();
            let newly: u64 = setters.into_iter().map(|setter| setter.join().unwrap()).sum();
            done.store(true, std::sync::atomic::Ordering::Release);
            persist.join().unwrap();
            assert_eq!(newly, BITS, "each bit is newly set once");
        });
        for page in map.take_dirty_pages() {
            on_disk.load_page(page, &map.page_bytes(page));
        }
        map.self_check();
        assert_eq!(map.count_ones(), BITS);
        assert_eq!(on_disk.to_bitvec(), map.to_bitvec());
    }
}
