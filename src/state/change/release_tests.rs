//! What has to hold for a volume to be released, and what stays of it.

use super::tests::*;
use super::*;
use crate::base::{Kind, Name};
use crate::state::{Group, MediumKind};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn stopped(group: &Group, volume: &str) -> Group {
    stop(group, volume, &[], &mut ids(9)).unwrap().group
}

fn release(group: &Group, volume: &str) -> Result<Change, crate::base::Refused> {
    release_volume(group, &name(volume), &mut ids(8))
}

#[test]
fn rule_21_a_released_volume_leaves_its_plexes_where_they_are() {
    let group = stopped(&pair(), "v");
    let plexes: Vec<_> = group.volume("v").unwrap().plexes().to_vec();
    assert!(plexes.iter().all(|plex| plex.medium().kind == MediumKind::Made));
    let released = release(&group, "v").unwrap();
    assert_eq!(released.group.volume("v").unwrap_err().id, "volume.unknown");
    // What removes files that Cleave made is told that these are not its own any more, now and after a crash.
    let kept = |medium: &crate::state::PlexMedium| medium.kind == MediumKind::Image;
    let freed: Vec<_> = released
        .after_commit
        .iter()
        .filter_map(|effect| match effect {
            Effect::Release { plex, medium, .. } => Some((*plex, kept(medium))),
            _ => None,
        })
        .collect();
    assert_eq!(freed, plexes.iter().map(|plex| (plex.uuid(), true)).collect::<Vec<_>>());
    assert!(released.group.leaving().iter().all(|leaving| kept(&leaving.medium)));
}

#[test]
fn what_would_lose_something_is_not_released() {
    let group = pair();
    refused(
        release(&group, "v"),
        Kind::Started,
        "release.started",
        "v: a volume is released while it is stopped; unmount it, then: cleave stop v",
    );
    let broken = crashed(&group, group.volume("v").unwrap().uuid()).unwrap().group;
    refused(
        release(&broken, "v"),
        Kind::InvalidState,
        "release.unclean",
        "v: it was not stopped in good order, and its plexes may differ; have them made equal first: cleave start v; \
         cleave task watch; cleave stop v",
    );
    let lost = group.volume("v").unwrap().plexes()[1].uuid();
    let degraded = lose_plex(&group, lost, Loss::Failed, None, &mut ids(5)).unwrap().group;
    refused(
        release(&stopped(&degraded, "v"), "v"),
        Kind::InvalidState,
        "release.plex",
        "v: its plex v-02 is STALE, and no copy of what the volume holds; start it and bring the plex in step (cleave \
         recover v), or remove it: cleave remove-mirror v v-02",
    );
    let related = cut(&ready_to_cut(20), "v", Some("s"), 40);
    assert_eq!(release(&stopped(&related, "v"), "v").unwrap_err().id, "release.related");
    refused(
        release(&stopped(&related, "s"), "s"),
        Kind::InvalidState,
        "release.related",
        "s: it is a snapshot that keeps to its origin; give it back (cleave snapback s) or make it independent (cleave snapclear s)",
    );
    assert_eq!(release(&group, "w").unwrap_err().id, "volume.unknown");
    let kept = stopped(&super::restore_tests::restored(), "v");
    let refused = release(&kept, "v").unwrap_err();
    assert_eq!((refused.id.as_str(), refused.kind), ("release.undo", Kind::InvalidState));
}
