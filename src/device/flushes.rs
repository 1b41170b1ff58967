//! How the flushes of a medium ended, counted in memory that outlives the process and not the power.
//!
//! A medium whose flush has failed may read for a while as it will not stay: its cache, or the kernel's, still shows what
//! was given up, and the next flush succeeds and proves nothing. Who saw the failure takes the medium out durably. Who
//! dies before that, or before the answer, leaves these counts to whoever comes next; a power cut takes them, and with them
//! every cache that could mislead.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of one medium: how many flushes were begun, went well and failed. A write whose failure may hide in a cache counts as a
/// flush.
///
/// ```text
/// offset  size  field
///      0     8  magic "CLVFLSH" and the version, 1; zero in a new file
///      8     8  begun
///     16     8  went well, or made up for
///     24     8  failed and not made up for
/// ```
#[repr(C)]
#[derive(Default, Debug)]
pub struct Flushes {
    kind: AtomicU64,
    begun: AtomicU64,
    well: AtomicU64,
    failed: AtomicU64,
}

const _: () = assert!(size_of::<Flushes>() == 32 && align_of::<Flushes>() == 8);

const KIND: u64 = u64::from_le_bytes(*b"CLVFLSH\x01");

/// What is open in such counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Open {
    /// Flushes without a good end: those that failed, and those whose end nobody heard.
    pub all: u64,
    /// Of those, the ones that are known to have failed.
    pub failed: u64,
}

/// Such counts, wherever they lie; clones are the same ones.
#[derive(Clone)]
pub struct SharedFlushes(Arc<dyn AsRef<Flushes> + Send + Sync>);

impl SharedFlushes {
    /// The counts that `holder` holds.
    pub fn new(holder: impl AsRef<Flushes> + Send + Sync + 'static) -> Self {
        Self(Arc::new(holder))
    }
}

impl Deref for SharedFlushes {
    type Target = Flushes;
    fn deref(&self) -> &Flushes {
        (*self.0).as_ref()
    }
}

impl AsRef<Self> for Flushes {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Flushes {
    /// Begin to count here; whether counts stood here that can be read. Those that cannot are replaced.
    pub fn claim(&self) -> bool {
        let known = self.kind.swap(KIND, Ordering::AcqRel) == KIND;
        if !known {
            self.settle_all();
        }
        known
    }

    /// A flush is about to be submitted.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// One that was begun went well.
    pub fn went_well(&self) {
        self.well.fetch_add(1, Ordering::AcqRel);
    }

    /// One that was begun has failed.
    pub fn has_failed(&self) {
        self.failed.fetch_add(1, Ordering::AcqRel);
    }

    /// What is open now.
    #[must_use]
    pub fn open(&self) -> Open {
        // In this order: one that begins and ends meanwhile is not counted as a good end of another.
        let well = self.well.load(Ordering::Acquire);
        let all = self.begun.load(Ordering::Acquire).saturating_sub(well);
        Open { all, failed: self.failed.load(Ordering::Acquire).min(all) }
    }

    /// `open` was made up for: everything that those flushes should have covered was written once more and flushed, or whoever
    /// relied on it was told.
    pub fn settle(&self, open: Open) {
        self.well.fetch_add(open.all, Ordering::AcqRel);
        self.failed.fetch_sub(open.failed, Ordering::AcqRel);
    }

    /// Nothing is open any more, and nothing is under way.
    pub fn settle_all(&self) {
        self.failed.store(0, Ordering::Release);
        self.well.store(self.begun.load(Ordering::Acquire), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_no_good_end_stays_open_until_it_is_settled() {
        let flushes = Flushes::default();
        assert!(!flushes.claim() && flushes.claim(), "a new one is told from one that was used");
        flushes.begin();
        assert_eq!(flushes.open(), Open { all: 1, failed: 0 });
        flushes.went_well();
        assert_eq!(flushes.open(), Open::default());
        flushes.begin();
        flushes.has_failed();
        flushes.begin();
        let before = flushes.open();
        assert_eq!(before, Open { all: 2, failed: 1 });
        // A successor counts on, and settles what it found once it has made up for that.
        flushes.begin();
        flushes.settle(before);
        assert_eq!(flushes.open(), Open { all: 1, failed: 0 });
        flushes.went_well();
        assert_eq!(flushes.open(), Open::default());
        flushes.begin();
        flushes.settle_all();
        assert_eq!(flushes.open(), Open::default());
    }

    #[test]
    fn counts_of_another_version_are_nobodys() {
        let flushes = SharedFlushes::new(Flushes { kind: AtomicU64::new(7), ..Flushes::default() });
        flushes.clone().begin();
        assert!(!flushes.claim());
        assert_eq!(flushes.open(), Open::default());
    }
}
