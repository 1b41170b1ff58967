//! What goes wrong with plexes while they serve is told through here, so that a disk that fails each of a thousand reads a
//! second is told of once, and then with a number now and then.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use crate::base::units::exact_bytes;
use crate::base::{ByteRange, Errno, Uuid};
use crate::control::What;
use crate::volume::HANGS_AFTER;

use super::events::News;
use super::machine::Machine;
use super::owner::Owner;

/// How long the same thing of the same plex is counted before it is told again.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What went wrong with a plex, or is right again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlexFault {
    /// It has not answered a request for [`HANGS_AFTER`].
    Hangs,
    /// It hung, and has answered.
    Answers,
    /// A read of it failed and was served by another plex.
    ReadFailed(ByteRange, Errno),
    /// What it could not read was rewritten from another plex.
    Mended(ByteRange),
    /// It is the last one that can be read, and failed a request.
    LastFailed(Errno),
    /// Its file has another name or none: the next start will not find it.
    Unlinked(String),
    /// Its medium is shorter than it was.
    Shortened {
        /// Bytes that it must have.
        needed: u64,
        /// Bytes that it has.
        found: u64,
    },
}

impl PlexFault {
    const fn what(&self) -> What {
        match self {
            Self::Hangs => What::PlexSilent,
            Self::Answers => What::PlexAnswers,
            Self::ReadFailed(..) => What::ReadFailed,
            Self::Mended(_) => What::ReadMended,
            Self::LastFailed(_) => What::VolumeFailed,
            Self::Unlinked(_) => What::PlexUnlinked,
            Self::Shortened { .. } => What::PlexShortened,
        }
    }

    /// Whether it may come a thousand times a second.
    const fn repeats(&self) -> bool {
        match self {
            Self::ReadFailed(..) | Self::Mended(_) | Self::LastFailed(_) => true,
            Self::Hangs | Self::Answers | Self::Unlinked(_) | Self::Shortened { .. } => false,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Hangs => format!("has not answered for {} s", HANGS_AFTER.as_secs()),
            Self::Answers => "answers again".to_owned(),
            Self::ReadFailed(range, errno) => {
                format!("a read of {range} failed and was served by another plex: {errno}")
            }
            Self::Mended(range) => format!("{range} could not be read, and was rewritten from another plex"),
            Self::LastFailed(errno) => format!("a request failed on its last plex: {errno}"),
            Self::Unlinked(why) => format!("{why}: it serves on, and the next start will not find it"),
            Self::Shortened { needed, found } => {
                let (found, needed) = (exact_bytes(*found), exact_bytes(*needed));
                format!("its medium has {found} and needs {needed}: it was cut off while in use")
            }
        }
    }
}

/// What was told lately, and how often it has happened since.
#[derive(Default)]
pub struct Told {
    counts: RefCell<HashMap<(Uuid, What), u64>>,
}

impl Told {
    /// Count what repeats. True when it is told now, and nothing of its kind was lately: then [`Told::more`] is due.
    fn is_first(&self, plex: Uuid, what: What) -> bool {
        let mut counts = self.counts.borrow_mut();
        match counts.get_mut(&(plex, what)) {
            Some(count) => {
                *count += 1;
                false
            }
            None => {
                counts.insert((plex, what), 0);
                true
            }
        }
    }

    /// How often it has happened since it was told; none when it did not, and the next one is told at once again.
    fn more(&self, plex: Uuid, what: What) -> Option<u64> {
        let mut counts = self.counts.borrow_mut();
        match counts.get_mut(&(plex, what)).map(std::mem::take) {
            Some(0) | None => {
                counts.remove(&(plex, what));
                None
            }
            Some(count) => Some(count),
        }
    }
}

impl<M: Machine> Owner<M> {
    /// Tell what went wrong with `plex` of `volume`.
    pub(super) fn plex_fault(self: &Rc<Self>, volume: Uuid, plex: Uuid, fault: &PlexFault) {
        let what = fault.what();
        if let (PlexFault::LastFailed(_), Some(live)) = (fault, self.live(volume)) {
            live.failed.set(Some(self.machine.now()));
        }
        if fault.repeats() && !self.told.is_first(plex, what) {
            return;
        }
        let reason = fault.reason();
        self.events.raise(self.news_about(News::new(what, reason.as_str()), volume, Some(plex)));
        if !fault.repeats() {
            return;
        }
        let owner = Rc::clone(self);
        self.machine.spawn(async move {
            loop {
                owner.machine.sleep(TOLD_EVERY).await;
                let Some(more) = owner.told.more(plex, what) else { return };
                let again = format!(
                    "{reason}; the like happened {more} times in the last {} s",
                    TOLD_EVERY.as_secs()
                );
                owner.events.raise(owner.news_about(News::new(what, again), volume, Some(plex)));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_told_once_and_then_by_number() {
        let (told, plex, other) = (Told::default(), Uuid::from_random([1; 16]), Uuid::from_random([2; 16]));
        assert!(told.is_first(plex, What::ReadFailed));
        assert!(!told.is_first(plex, What::ReadFailed));
        assert!(!told.is_first(plex, What::ReadFailed));
        assert!(told.is_first(plex, What::ReadMended), "another kind is told of by itself");
        assert!(told.is_first(other, What::ReadFailed), "and so is another plex");
        assert_eq!(told.more(plex, What::ReadFailed), Some(2));
        assert_eq!(told.more(plex, What::ReadFailed), None, "it has stopped");
        assert!(told.is_first(plex, What::ReadFailed), "and is news again");
    }

    #[test]
    fn each_fault_says_what() {
        for (fault, line) in [
            (PlexFault::Hangs, "has not answered for 1 s"),
            (PlexFault::Unlinked("its file was removed".to_owned()), "its file was removed: it serves on"),
            (PlexFault::Shortened { needed: 7, found: 3 }, "has 3 bytes and needs 7 bytes"),
        ] {
            assert!(fault.reason().contains(line), "{fault:?}");
        }
    }
}
