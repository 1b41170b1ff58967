//! A look at the files of plexes now and then: a file that lost its name or its end would be missed at the next start, or at
//! the next read, and a person can do more about it now.

use std::collections::HashSet;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use futures_util::future::select_all;

use crate::base::{Errno, Uuid};
use crate::ring::{MediaKind, Name as MediumName};

use super::live::Live;
use super::machine::{Machine, OpenMedium, UNWATCHED};
use super::owner::Owner;
use super::plex_faults::PlexFault;

/// Between two looks at least, so that who makes and removes links all the time keeps nobody busy.
const PAUSE: Duration = Duration::from_secs(1);

type Wait<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Look after the files of all volumes for as long as the daemon runs: when one comes and when something happens to one, so
/// that an idle daemon sleeps; now and then while something is wrong.
pub(super) async fn keep<M: Machine>(owner: Rc<Owner<M>>) {
    let mut told: HashSet<Uuid> = HashSet::new();
    loop {
        // Each of these waits from here on: what happens during the look is looked at once more.
        let mut waits: Vec<Wait<'_>> = vec![Box::pin(owner.stirred.notified())];
        let mut files = Vec::new();
        for live in owner.live.borrow().values() {
            waits.push(Box::pin(live.volume.rerouted()));
            let route = live.volume.route();
            let plexes = route.plexes.iter().filter(|plex| plex.medium.kind() == MediaKind::File);
            files.extend(plexes.map(|plex| (Rc::downgrade(live), plex.uuid, plex.medium.path().to_owned())));
        }
        let paths: Vec<_> = files.iter().map(|(_, _, path)| path.clone()).collect();
        if !paths.is_empty() {
            waits.push(Box::pin(owner.machine.watch(paths).await));
        }
        let (mut wrong, mut untold) = (HashSet::new(), false);
        // A file system that hangs keeps the one file that is looked at, and no other, from being closed.
        for (live, plex, _) in files {
            match look(&owner, &live, plex, &mut told).await {
                Ok(true) => {}
                Ok(false) => drop(wrong.insert(plex)),
                // It cannot tell now: it is asked again.
                Err(_) => untold = true,
            }
        }
        // What is right again, or gone, is news when it happens again.
        told.retain(|plex| wrong.contains(plex));
        if untold || !wrong.is_empty() {
            waits.push(Box::pin(owner.machine.sleep(UNWATCHED)));
        }
        select_all(waits).await;
        owner.machine.sleep(PAUSE).await;
    }
}

/// Whether all is well with the file of `plex`; what is wrong is told once.
async fn look<M: Machine>(
    owner: &Rc<Owner<M>>,
    live: &Weak<Live<M>>,
    plex: Uuid,
    told: &mut HashSet<Uuid>,
) -> Result<bool, Errno> {
    let medium =
        live.upgrade().and_then(|live| live.volume.route().plex(plex).map(|plex| plex.medium.clone()));
    let Some(medium) = medium else { return Ok(true) };
    let needed = medium.length();
    let found = owner.machine.worker(move || found(&medium)).await?;
    let (Some(what), Some(live)) = (found, live.upgrade()) else { return Ok(true) };
    if told.insert(plex) {
        let is_short = matches!(what, Found::Short(_));
        owner.plex_fault(live.volume.shape().uuid, plex, &what.fault(needed));
        if is_short {
            // The last one stays, and fails what is asked of it. Who ended the keeper has ended the plex as well.
            let _ = live.keeper.lose(plex, Errno::GONE).await;
        }
    }
    Ok(false)
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
