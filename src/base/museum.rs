//! The bug museum: faults by which systems of this kind have lost data, each made again at one place of the tree behind the
//! cargo feature `museum`. The tests that everybody runs must find each of them; `tests/museum` runs them and says how.
//!
//! Without the feature [`shows`] is a constant `false` and no exhibit leaves an instruction behind. With it, a process shows
//! the one exhibit that the environment variable `CLEAVE_MUSEUM` names, or none.

macro_rules! exhibits {
    ($($(#[doc = $line:literal])+ $name:ident,)+) => {
        /// A fault that can be shown: what goes wrong, and where that has happened.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Exhibit {
            $($(#[doc = $line])+ $name,)+
        }

        impl Exhibit {
            /// All of them, in the order of the rooms in which they stand.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What goes wrong, and where that has happened.
            #[must_use]
            pub const fn story(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($line),+),)+
                }
            }
        }
    };
}

exhibits! {
    /// A page changes while it is on its way to two plexes, which keep different bytes (kernel mirrors, checksumming file
    /// systems).
    PageChangesUnderWrite,
    /// Trims and writes reach two plexes in different orders (replicated block stores).
    DiscardOutOfOrder,
    /// Overlapping writes are kept in order within one queue only: two plexes keep different winners (multi-queue mirrors).
    OverlapsOrderedPerQueue,
    /// A write that shall be durable is passed on as a plain one: its flag is lost on the way (replication in kernels).
    DurableWriteSentPlain,
    /// An unaligned trim is passed on as it is: one plex keeps old data, another reads zeroes (replication in kernels).
    DiscardPassedAsItIs,
    /// What is written is marked in the change maps after it was sent, not before (replication in kernels).
    MarkedAfterWrite,
    /// A write into a region that is still to be copied counts as its copy: the rest of the region is left out (kernel
    /// mirrors).
    WriteEndsCopyOfRegion,
    /// The error of one part of a request is overwritten by the success of the last (replication in kernels).
    EarlierErrorOverwritten,
    /// A flush is acknowledged and not done (virtual machine monitors, user-space block devices).
    FlushNotDone,
    /// The error of a flush is not told (network block servers).
    FlushErrorSwallowed,
    /// A flush that failed is tried again, and the second answer is believed (databases).
    FailedFlushTriedAgain,
    /// A flush covers only what its own queue has written (network block devices with several connections).
    FlushCoversOneQueue,
    /// A write to a degraded volume is marked in no map: who comes back is believed whole (kernel mirrors).
    DegradedWriteNotMarked,
    /// What a plex is still to be given is forgotten when it leaves: a state decides and no copy (replication in kernels).
    MapForgottenAtLoss,
    /// A plex that leaves, and with it its volatile cache, comes back as if it had kept all that it acknowledged (kernel
    /// mirrors).
    LostCacheForgotten,
    /// A page of a map counts as written when its write has failed (user-space block stores).
    DirtyMarkDroppedBeforeWrite,
    /// The intent log cannot be written, and the data is sent all the same (replication in kernels).
    LogFailureIgnored,
    /// When all plexes fail, one that is behind is kept and the good one given up (replicated block stores).
    WorseCopyKept,
    /// A finished snapshot mirror is left out of the flush that lets intent bits be cleared: after a power cut it is not what
    /// it counts for (kernel mirrors with bitmaps).
    MirrorNotFlushed,
    /// I/O counts as suspended before what is in flight has settled: a cut has writes half on either side (replication in
    /// kernels).
    CutDoesNotDrain,
    /// A resync copies beside older writes that are still under way, and what it read overwrites them (replication in
    /// kernels).
    WindowIgnoresWrites,
    /// A plex comes back while writes from before it left are still under way to it (replicated block stores).
    ReattachWithStragglers,
    /// A write that spans a region in repair and a later one is held up in the first alone (replicated block stores).
    SpanningWriteCountedOnce,
    /// The numbers of a map's pages start anew after a reload, so that older pages count as newer (snapshots in kernels).
    PageNumbersNotLoaded,
    /// A map whose tracking was interrupted is believed all the same (backup by changed blocks).
    UntrackedRunBelieved,
    /// A page of the log that was torn in the middle is believed (logs without checksums).
    TornPageBelieved,
    /// A region counts as copied before its bytes were flushed (block clones in kernels, replicated block stores).
    ClearedBeforeFlush,
    /// A resync ends as complete though an older write to its target failed meanwhile (replication in kernels).
    LateFailureMissed,
    /// A repair writes back what it read, beside a newer write, which is undone (network block stores with caches).
    RepairBesideWrites,
    /// The configuration is put in force although the flush before it failed (transaction managers in kernels).
    CommitAfterFailedSync,
    /// Of two copies the one with the older history is taken (replicated block stores).
    OlderCopyBelieved,
    /// Two daemons serve one state directory (backup stores, distributed locks).
    TwoDaemonsOnOneStore,
    /// Space is given back before the record says so (storage engines).
    SpaceFreedBeforeCommit,
    /// A second crash during a resync chooses its source anew: what was read is not what is kept (kernel mirrors).
    SourceChosenAnew,
    /// A plex that was written to while its volume was stopped is believed (mirrors of plain files and disks).
    ChangedFileBelieved,
    /// A finished snapshot mirror is not made equal after a power cut (volume managers).
    MirrorBelievedAfterCrash,
    /// A starting daemon does not wait for the last operations of a dead one, whose late write lands on a page that the new
    /// one has read or written (user-space storage).
    SuccessorDoesNotWait,
    /// A flush goes out as another kind of request, which succeeds and flushes nothing (replication in kernels).
    FlushOfTheWrongKind,
    /// The kernel is not told that a device has a cache, and never sends a flush (user-space block devices).
    CacheNotAdvertised,
}

#[cfg(not(feature = "museum"))]
mod room {
    /// Whether this process shows `exhibit`: never.
    #[must_use]
    #[inline(always)]
    pub const fn shows(exhibit: super::Exhibit) -> bool {
        let _ = exhibit;
        false
    }

    /// Note that queue `queue` has written; nobody asks.
    #[inline(always)]
    pub const fn note(queue: usize) {
        let _ = queue;
    }

    /// Whether `queue` was noted.
    #[must_use]
    #[inline(always)]
    pub const fn was_noted(queue: usize) -> bool {
        let _ = queue;
        false
    }

    const _: () = assert!(!shows(super::Exhibit::FlushNotDone));
}

#[cfg(feature = "museum")]
mod room {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::sync::OnceLock;

    use super::Exhibit;

    thread_local! {
        static NOTED: RefCell<BTreeSet<usize>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// Whether this process shows `exhibit`.
    #[must_use]
    pub fn shows(exhibit: Exhibit) -> bool {
        static CHOICE: OnceLock<Option<Exhibit>> = OnceLock::new();
        let choice = CHOICE.get_or_init(|| {
            let name = std::env::var("CLEAVE_MUSEUM").ok().filter(|name| !name.is_empty())?;
            let found = Exhibit::ALL.iter().copied().find(|exhibit| exhibit.name() == name);
            Some(found.unwrap_or_else(|| panic!("CLEAVE_MUSEUM={name}: the museum has no such exhibit")))
        });
        *choice == Some(exhibit)
    }

    /// Note that queue `queue` has written since its last flush.
    pub fn note(queue: usize) {
        NOTED.with_borrow_mut(|noted| noted.insert(queue));
    }

    /// Whether queue `queue` was noted; it is not any more.
    #[must_use]
    pub fn was_noted(queue: usize) -> bool {
        NOTED.with_borrow_mut(|noted| noted.remove(&queue))
    }
}

pub use room::{note, shows, was_noted};
