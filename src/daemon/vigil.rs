//! A look at the files of plexes now and then: a file that lost its name or its end would be missed at the next start, or at
//! the next read, and a person can do more about it now.

use std::collections::HashSet;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::base::{Errno, Uuid};
use crate::ring::{MediaKind, Name as MediumName};

use super::machine::{Machine, OpenMedium};
use super::owner::Owner;
use super::plex_faults::PlexFault;

/// Between two looks. A file that was cut off is found by the next read or write of it anyway.
const INTERVAL: Duration = Duration::from_secs(5);

/// Look after the files of all volumes for as long as the daemon runs.
pub(super) async fn keep<M: Machine>(owner: Rc<Owner<M>>) {
    let mut told: HashSet<Uuid> = HashSet::new();
    loop {
        owner.machine.sleep(INTERVAL).await;
        // A file system that hangs keeps the one file that is looked at, and no other, from being closed.
        let all: Vec<_> = owner.live.borrow().values().map(Rc::downgrade).collect();
        let files = all.iter().flat_map(|live| {
            let route = live.upgrade().map(|live| live.volume.route());
            let plexes = route.iter().flat_map(|route| &route.plexes);
            let files = plexes.filter(|plex| plex.medium.kind() == MediaKind::File);
            files.map(|plex| (Weak::clone(live), plex.uuid)).collect::<Vec<_>>()
        });
        let mut wrong = HashSet::new();
        for (live, plex) in files.collect::<Vec<_>>() {
            let medium = live
                .upgrade()
                .and_then(|live| live.volume.route().plex(plex).map(|plex| plex.medium.clone()));
            let Some(medium) = medium else { continue };
            let needed = medium.length();
            // A file system that cannot tell now is asked again.
            let Ok(what) = owner.machine.worker(move || found(&medium)).await else { continue };
            let (Some(what), Some(live)) = (what, live.upgrade()) else { continue };
            wrong.insert(plex);
            if told.insert(plex) {
                let volume = live.volume.shape().uuid;
                let is_short = matches!(what, Found::Short(_));
                owner.plex_fault(volume, plex, &what.fault(needed));
                if is_short {
                    // The last one stays, and fails what is asked of it. Who ended the keeper has ended the plex as well.
                    let _ = live.keeper.lose(plex, Errno::GONE).await;
                }
            }
        }
        // What is right again, or gone, is news when it happens again.
        told.retain(|plex| wrong.contains(plex));
    }
}

/// What is wrong with a file.
enum Found {
    /// It has only so many bytes.
    Short(u64),
    /// Nothing stands at its path, or something else.
    Unlinked(&'static str),
}

impl Found {
    fn fault(&self, needed: u64) -> PlexFault {
        match self {
            Self::Short(found) => PlexFault::Shortened { needed, found: *found },
            Self::Unlinked(why) => PlexFault::Unlinked((*why).to_owned()),
        }
    }
}

fn found(medium: &impl OpenMedium) -> Result<Option<Found>, Errno> {
    let size = medium.size_now()?;
    Ok(if size < medium.length() {
        Some(Found::Short(size))
    } else {
        match medium.name_now()? {
            MediumName::Its => None,
            MediumName::Gone => Some(Found::Unlinked("its file was removed")),
            MediumName::Another => {
                Some(Found::Unlinked("its file was moved away and another stands at its path"))
            }
        }
    })
}
