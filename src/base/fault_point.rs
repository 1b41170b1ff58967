//! Fault points: the moments between two steps of what must survive a crash, by name.
//!
//! The code says where it stands ([`FaultPoint::reached`]); the simulator ends the process there, or cuts the power, and a run of it
//! fails when a point was never hit. In a release build nothing of it is left, unless the feature `fault-points` asks for it.

#[cfg(any(debug_assertions, feature = "fault-points"))]
use std::cell::RefCell;

macro_rules! fault_points {
    ($($name:ident = $text:literal,)*) => {
        /// A moment between two steps.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum FaultPoint {
            $(#[doc = $text] $name,)*
        }

        impl FaultPoint {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What people call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

fault_points! {
    CommitWritten = "commit: the next text is durable under its first name",
    CommitLinked = "commit: the head is linked as a past generation",
    CommitRenamed = "commit: the next text is the head, its name not yet durable",
    CommitDurable = "commit: the next text is the head, durably",
    TransactionPrepared = "transaction: maps are made and plexes detached, nothing is committed",
    TransactionCommitted = "transaction: committed, the labels are old",
    TransactionLabelled = "transaction: labels are written, files not yet removed",
    TransactionDone = "transaction: everything of it is done",
    MakeRecorded = "make: the record is there, no plex is",
    MakeAllocated = "make: the plexes are there, not in the record",
    MakeLabelled = "make: the plexes bear their labels, not in the record",
    MakeFinished = "make: complete and not started",
    AttachRecorded = "attach: the record is there, the plex is not",
    AttachAllocated = "attach: the plex is there, not ready in the record",
    AttachReady = "attach: the plex is ready and not in the write path",
    AttachJoined = "attach: the plex is in the write path",
    StartJudged = "start: the labels are judged",
    StartRecorded = "start: the record says that it runs",
    StartIntentLoaded = "start: the intent map is loaded",
    StartMapsLoaded = "start: the change maps are loaded",
    StartKept = "start: the keeper runs, no device is shown",
    StartShown = "start: the device serves, the record does not know its number",
    StartLinked = "start: the links are made",
    RecoveryListed = "recovery: living devices are known",
    RecoveryRolledBack = "recovery: what was half made is rolled back",
    RecoveryRecorded = "recovery: the run is recorded, the device waits",
    WriteCovered = "write: its intent is durable, nothing is submitted",
    WriteDone = "write: on every plex, not acknowledged",
    IntentCleared = "intent: bits are cleared in memory, their page is old",
    MapsPersisted = "change maps: pages are written",
    FlushDone = "flush: every plex has answered, not acknowledged",
    LossSeen = "plex lost: seen, not recorded",
    LossRecorded = "plex lost: recorded, not acknowledged",
    CopyFlushed = "copy: the target is flushed, its bits are set",
    CopyCleared = "copy: bits are cleared in memory",
    StepPersisted = "in step: its map is durable",
    StepJoined = "in step: it takes part in flushes",
    StepFlushed = "in step: everything is flushed, not recorded",
    StepRecorded = "in step: recorded, not read from",
    ResyncEqual = "resync: the plexes are equal, not recorded",
    ResyncRecorded = "resync: recorded, the intent bits are pinned",
    CutPrepared = "snapshot: prepared",
    CutFrozen = "snapshot: file systems are frozen",
    CutSwapped = "snapshot: the routes are swapped under the hold",
    CutReleased = "snapshot: released and thawed",
    CutFlushed = "snapshot: the detached plexes are flushed",
    CutCommitted = "snapshot: committed, no device is shown",
    CutRolledBack = "snapshot: backed out",
    SnapbackStopped = "snapback: the snapshot is stopped",
    SnapbackRecorded = "snapback: recorded, the plex is not in the write path",
    RestoreHidden = "restore: the device is gone, nothing is recorded",
    RestoreSaved = "restore: the undo archive is durable, not recorded",
    RestoreWritten = "restore: everything is overwritten and flushed, not recorded",
    RestoreRecorded = "restore: recorded, no device is shown",
    UndoWritten = "undo: everything is put back and flushed, not recorded",
    UndoRecorded = "undo: recorded, no device is shown",
    MediumFreed = "freeing: the medium of a plex is free, the record still says that it is to be",
    ScrubRecorded = "scrub: recorded, not begun",
    ScrubCompared = "scrub: everything is compared, its end is not recorded",
    RemoveStopped = "rm: the volume is stopped",
    RemoveRecorded = "rm: the record is gone",
    ResizeBegun = "resize: begun, nothing is different",
    ResizeRoomMade = "resize: the media are longer, their labels are old",
    ResizeLabelled = "resize: labels of the new length are written, it is not recorded",
    ResizeBlanked = "resize: what the volume gets reads as zero, it is not recorded",
    ResizeRecorded = "resize: recorded, labels and media are old",
    ResizeRelabelled = "resize: a label is where it belongs, the stale one stands",
    ResizeFitted = "resize: the media are as they should be, that is not recorded",
    ResizeSettled = "resize: settled, the device has its old length",
    ResizeShown = "resize: the device has its new length, the record says that it may not",
    StopLinksRemoved = "stop: the links are gone, the device serves",
    StopDeviceEnded = "stop: the device is gone, nothing is flushed",
    StopKeeperEnded = "stop: everything is flushed and clear, not recorded",
    StopRecorded = "stop: recorded, the files' look is not",
    StopNoted = "stop: complete",
}

/// What is done at a fault point.
#[cfg(any(debug_assertions, feature = "fault-points"))]
type Hook = Box<dyn FnMut(FaultPoint)>;

#[cfg(any(debug_assertions, feature = "fault-points"))]
thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

impl FaultPoint {
    /// The calling code stands here. Does nothing unless somebody on this thread has asked for it.
    #[inline]
    pub fn reached(self) {
        #[cfg(any(debug_assertions, feature = "fault-points"))]
        {
            // Taken out while it runs: what it does may come by a point itself, or not return at all.
            let hook = HOOK.with(|slot| slot.borrow_mut().take());
            if let Some(mut hook) = hook {
                hook(self);
                HOOK.with(|slot| {
                    slot.borrow_mut().get_or_insert(hook);
                });
            }
        }
    }

    /// Have `hook` called at every point that this thread comes by; none to be rid of it. A hook that unwinds is gone.
    #[cfg(any(debug_assertions, feature = "fault-points"))]
    pub fn on_reached(hook: Option<Box<dyn FnMut(Self)>>) {
        HOOK.with(|slot| *slot.borrow_mut() = hook);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_point_tells_whoever_asked_and_nobody_else() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let told = Rc::clone(&seen);
        FaultPoint::CommitWritten.reached();
        FaultPoint::on_reached(Some(Box::new(move |point| told.borrow_mut().push(point))));
        FaultPoint::CommitLinked.reached();
        FaultPoint::CommitRenamed.reached();
        FaultPoint::on_reached(None);
        FaultPoint::CommitDurable.reached();
        assert_eq!(*seen.borrow(), [FaultPoint::CommitLinked, FaultPoint::CommitRenamed]);
    }

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = FaultPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), FaultPoint::ALL.len());
    }
}
