//! What happens to plexes and is told to people: the one function that all of it goes through.
//!
//! A disk that fails each of a thousand reads a second is told of once, and then with a number now and then.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{ByteRange, Errno, Uuid};
use crate::volume::HANGS_AFTER;

use super::machine::Machine;
use super::owner::Owner;

/// How long the same thing of the same plex is counted before it is told again.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What happened to a plex.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happening {
    /// It has not answered a request for [`HANGS_AFTER`].
    Hangs,
    /// It hung, and has answered.
    Answers,
    /// It left the write path and is recorded as STALE, or removed.
    Lost(Errno),
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

/// Things that repeat are told together when they are of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Repeated {
    ReadFailed,
    Mended,
    LastFailed,
}

impl Happening {
    const fn repeats(&self) -> Option<Repeated> {
        match self {
            Self::ReadFailed(..) => Some(Repeated::ReadFailed),
            Self::Mended(_) => Some(Repeated::Mended),
            Self::LastFailed(_) => Some(Repeated::LastFailed),
            Self::Hangs | Self::Answers | Self::Lost(_) | Self::Unlinked(_) | Self::Shortened { .. } => None,
        }
    }

    /// Whether something is wrong that a person should see to.
    const fn is_bad(&self) -> bool {
        match self {
            Self::Lost(_) | Self::LastFailed(_) | Self::Unlinked(_) | Self::Shortened { .. } => true,
            Self::Hangs | Self::Answers | Self::ReadFailed(..) | Self::Mended(_) => false,
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hangs => write!(f, "has not answered for {} s", HANGS_AFTER.as_secs()),
            Self::Answers => f.write_str("answers again"),
            Self::Lost(Errno::TIMED_OUT) => f.write_str(
                "plex lost: it did not answer in time; attach it when its medium does: cleave plex attach",
            ),
            Self::Lost(errno) => write!(f, "plex lost: {errno}"),
            Self::ReadFailed(range, errno) => {
                write!(f, "a read of {range} failed and was served by another plex: {errno}")
            }
            Self::Mended(range) => write!(f, "{range} was rewritten from another plex"),
            Self::LastFailed(errno) => write!(f, "the last plex failed a request: {errno}"),
            Self::Unlinked(why) => write!(
                f,
                "{why}: it serves on, and the next start will not find it; add a mirror before the volume stops: cleave mirror"
            ),
            Self::Shortened { needed, found } => {
                write!(f, "its medium has {found} bytes and needs {needed}: it was cut off while in use")
            }
        }
    }
}

/// What was told lately, and how often it has happened since.
#[derive(Default)]
pub struct Told {
    counts: RefCell<HashMap<(Uuid, Repeated), u64>>,
}

impl Told {
    /// Count what repeats. True when it is told now, and nothing of its kind was lately: then [`Told::more`] is due.
    fn is_first(&self, plex: Uuid, kind: Repeated) -> bool {
        let mut counts = self.counts.borrow_mut();
        match counts.get_mut(&(plex, kind)) {
            Some(count) => {
                *count += 1;
                false
            }
            None => {
                counts.insert((plex, kind), 0);
                true
            }
        }
    }

    /// How often it has happened since it was told; none when it did not, and the next one is told at once again.
    fn more(&self, plex: Uuid, kind: Repeated) -> Option<u64> {
        let mut counts = self.counts.borrow_mut();
        match counts.get_mut(&(plex, kind)).map(std::mem::take) {
            Some(0) | None => {
                counts.remove(&(plex, kind));
                None
            }
            Some(count) => Some(count),
        }
    }
}

impl<M: Machine> Owner<M> {
    /// Tell what happened to `plex` of `volume`.
    pub(super) fn happened(self: &Rc<Self>, volume: Uuid, plex: Uuid, what: &Happening) {
        let Some(kind) = what.repeats() else { return self.tell(volume, plex, what, 0) };
        if !self.told.is_first(plex, kind) {
            return;
        }
        self.tell(volume, plex, what, 0);
        let (owner, what) = (Rc::clone(self), what.clone());
        self.machine.spawn(async move {
            loop {
                owner.machine.sleep(TOLD_EVERY).await;
                match owner.told.more(plex, kind) {
                    Some(more) => owner.tell(volume, plex, &what, more),
                    None => return,
                }
            }
        });
    }

    /// The line of the log. `more` is how often the like happened since it was told last.
    fn tell(&self, volume: Uuid, plex: Uuid, what: &Happening, more: u64) {
        let record = self.group_of(volume).map(|group| group.record());
        let volume_name = record.as_ref().and_then(|group| Some(group.volume_by_id(volume)?.name().clone()));
        let plex_name = record.as_ref().and_then(|group| Some(group.plex_by_id(plex)?.1.name().clone()));
        let volume = volume_name.map_or_else(|| volume.to_string(), |name| name.to_string());
        let plex = plex_name.map_or_else(|| plex.to_string(), |name| name.to_string());
        let again = match more {
            0 => String::new(),
            more => format!("; the like happened {more} times in the last {} s", TOLD_EVERY.as_secs()),
        };
        if what.is_bad() {
            tracing::error!(volume, plex, "{what}{again}");
        } else {
            tracing::warn!(volume, plex, "{what}{again}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_told_once_and_then_by_number() {
        let (told, plex, other) = (Told::default(), Uuid::from_random([1; 16]), Uuid::from_random([2; 16]));
        assert!(told.is_first(plex, Repeated::ReadFailed));
        assert!(!told.is_first(plex, Repeated::ReadFailed));
        assert!(!told.is_first(plex, Repeated::ReadFailed));
        assert!(told.is_first(plex, Repeated::Mended), "another kind is told of by itself");
        assert!(told.is_first(other, Repeated::ReadFailed), "and so is another plex");
        assert_eq!(told.more(plex, Repeated::ReadFailed), Some(2));
        assert_eq!(told.more(plex, Repeated::ReadFailed), None, "it has stopped");
        assert!(told.is_first(plex, Repeated::ReadFailed), "and is news again");
    }

    #[test]
    fn each_line_says_what_and_what_to_do() {
        for (what, line) in [
            (Happening::Hangs, "has not answered for 1 s"),
            (Happening::Lost(Errno::IO), "plex lost: "),
            (Happening::Lost(Errno::TIMED_OUT), "cleave plex attach"),
            (Happening::Unlinked("its file was removed".to_owned()), "cleave mirror"),
            (Happening::Shortened { needed: 7, found: 3 }, "has 3 bytes and needs 7"),
        ] {
            assert!(what.to_string().contains(line), "{what}");
        }
    }
}
