//! What keeps a volume from another length, from a scrub, or from being given back as plain images.

use crate::base::{Kind, Name, Refusal, Refused};
use crate::state::group::Plex;

pub(in crate::state) fn release_started(name: &Name) -> Refused {
    let way_out = format!("unmount it, then: cleave stop {name}");
    Refusal::new(Kind::Started, "release.started", name, "a volume is released while it is stopped", way_out)
}

pub(in crate::state) fn release_unclean(name: &Name) -> Refused {
    let reason = "it was not stopped in good order, and its plexes may differ";
    let way_out =
        format!("have them made equal first: cleave start {name}; cleave task watch; cleave stop {name}");
    Refusal::new(Kind::InvalidState, "release.unclean", name, reason, way_out)
}

pub(in crate::state) fn release_undo(name: &Name, id: &str) -> Refused {
    let reason = "an undo archive of a restore is kept, which would be lost with it";
    let way_out = format!("put it back, or give it up: cleave undo --delete {name} {id}");
    Refusal::new(Kind::InvalidState, "release.undo", name, reason, way_out)
}

pub(in crate::state) fn release_plex(name: &Name, plex: &Plex) -> Refused {
    let reason =
        format!("its plex {} is {}, and no copy of what the volume holds", plex.name(), plex.state());
    let way_out = format!(
        "start it and bring the plex in step (cleave recover {name}), or remove it: cleave remove-mirror {name} {}",
        plex.name()
    );
    Refusal::new(Kind::InvalidState, "release.plex", name, reason, way_out)
}

pub(in crate::state) fn resize_label_file(name: &Name, plex: &Name) -> Refused {
    let reason = format!("the medium of plex {plex} has its labels in a file, and no room to grow");
    let way_out = format!(
        "put the plex on another medium: cleave plex replace {plex}, or give the plain image back: cleave release {name}"
    );
    Refusal::new(Kind::InvalidState, "resize.label-file", name, reason, way_out)
}

pub(in crate::state) fn resize_undo(name: &Name, id: &str) -> Refused {
    let reason = "an undo archive of a restore is kept, which fits its length of today";
    let way_out = format!("put it back, or give it up: cleave undo --delete {name} {id}");
    Refusal::new(Kind::InvalidState, "resize.undo", name, reason, way_out)
}

pub(in crate::state) fn resize_under_way(name: &Name) -> Refused {
    let way_out = format!("start it, which brings that to an end, or stop and start it: cleave start {name}");
    let reason = "a change of its length was begun and is not complete";
    Refusal::new(Kind::Busy, "resize.under-way", name, reason, way_out)
}

pub(in crate::state) fn resize_started(name: &Name) -> Refused {
    let reason = "a volume becomes shorter only while it is stopped";
    let way_out = format!("make its file system smaller, unmount it, then: cleave stop {name}");
    Refusal::new(Kind::Started, "resize.started", name, reason, way_out)
}

pub(in crate::state) fn resize_unclean(name: &Name) -> Refused {
    let reason = "it was not stopped in good order";
    let way_out = format!("have its plexes made equal first: cleave start {name}");
    Refusal::new(Kind::InvalidState, "resize.unclean", name, reason, way_out)
}

pub(in crate::state) fn resize_plex(volume: &Name, plex: &Plex) -> Refused {
    let way_out = match plex.purpose() {
        crate::state::Purpose::Snapshot => {
            format!("wait for it (cleave snapwait {volume}) or remove it (cleave snapabort {volume})")
        }
        crate::state::Purpose::Mirror => format!(
            "have it brought up to date (cleave recover {volume}) or remove it (cleave remove-mirror {volume} {})",
            plex.name()
        ),
    };
    let reason = format!("it is {}: the length changes only while all plexes are in step", plex.state());
    Refusal::new(Kind::InvalidState, "resize.plex", plex.name(), reason, way_out)
}

pub(in crate::state) fn resize_scrub(name: &Name) -> Refused {
    let way_out = "wait for it (cleave task watch), or end it (cleave task abort)";
    Refusal::new(Kind::Busy, "resize.scrub", name, "a scrub of it is under way", way_out)
}

pub(in crate::state) fn scrub_hours(from: u8, to: u8) -> Refused {
    let way_out = "give two different hours of the day from 0 to 23, as 1-5";
    Refusal::new(Kind::Usage, "scrub.hours", format!("{from}-{to}"), "are no hours of the day", way_out)
}

pub(in crate::state) fn scrub_interval(volume: &Name) -> Refused {
    let way_out = "give an hour at least and ten years at most, as 7d";
    Refusal::new(Kind::Usage, "scrub.interval", volume, "cannot be scrubbed at such an interval", way_out)
}

pub(in crate::state) fn scrub_running(volume: &Name) -> Refused {
    let way_out = "watch it with: cleave task watch; end it with: cleave task abort";
    Refusal::new(Kind::Busy, "scrub.running", volume, "a scrub of it is under way", way_out)
}

pub(in crate::state) fn scrub_alone(volume: &Name) -> Refused {
    let reason = "fewer than two of its plexes are in step, so there is nothing to compare";
    Refusal::new(Kind::InvalidState, "scrub.alone", volume, reason, "add a mirror with: cleave mirror")
}

pub(in crate::state) fn scrub_no_majority(volume: &Name, plexes: usize, first: Option<&Name>) -> Refused {
    let reason =
        format!("it has {plexes} plexes in step, so no majority can say which is right where they differ");
    let source = first.map_or_else(|| "PLEX".to_owned(), ToString::to_string);
    let way_out = format!("name the plex that counts: cleave scrub {volume} --repair --source {source}");
    Refusal::new(Kind::Usage, "scrub.no-majority", volume, reason, way_out)
}

pub(in crate::state) fn scrub_source(plex: &Plex) -> Refused {
    let reason = format!("cannot be the source of a repair: it is {}", plex.state());
    Refusal::new(Kind::InvalidState, "scrub.source-unfit", plex.name(), reason, "name an ACTIVE plex")
}
