//! What keeps a group from going to another host, and media from being elsewhere.

use crate::base::{Kind, Name, Refusal, Refused};
use crate::state::medium::MediumPath;

/// `group.started`: a volume of the group is started.
pub(in crate::state) fn group_started(group: &Name, volume: &Name) -> Refused {
    let reason = format!("its volume {volume} is started, and a group is exported while all are stopped");
    let way_out = format!("unmount them, then: cleave -g {group} stop --all");
    Refusal::new(Kind::Started, "group.started", group, reason, way_out)
}

/// `group.undo`: an undo archive of a volume of the group is kept.
pub(in crate::state) fn group_undo(group: &Name, volume: &Name, id: &str) -> Refused {
    let reason = format!("an undo archive of its volume {volume} is kept here, which would not go with it");
    let way_out = format!("put it back, or give it up: cleave -g {group} undo --delete {volume} {id}");
    Refusal::new(Kind::InvalidState, "group.undo", group, reason, way_out)
}

/// `group.incomplete`: a plex that the group needs elsewhere cannot be sent along; `why` completes "plex v-01 ".
#[must_use]
pub fn group_incomplete(group: &Name, plex: &Name, why: &str) -> Refused {
    Refusal::new(
        Kind::Medium,
        "group.incomplete",
        group,
        format!("its plex {plex} cannot be told that it goes: {why}"),
        format!("see to that medium, or do without the plex: cleave -g {group} plex detach {plex}"),
    )
}

/// `medium.serving`: the volume of `plex` reads and writes the medium.
pub(in crate::state) fn medium_serving(path: &MediumPath, plex: &Name) -> Refused {
    let reason = format!("its plex {plex} is in use there, and one medium is not at two places");
    let way_out =
        format!("name no copy of it; if it shall be another's, then first: cleave plex detach {plex}");
    Refusal::new(Kind::Busy, "medium.serving", path, reason, way_out)
}

/// `medium.carries`: `plex` lies on the medium.
pub(in crate::state) fn medium_carries(path: &MediumPath, plex: &Name) -> Refused {
    let reason = format!("plex {plex} lies on it");
    let way_out = format!("have it elsewhere first: cleave plex replace {plex}");
    Refusal::new(Kind::Busy, "medium.carries", path, reason, way_out)
}
