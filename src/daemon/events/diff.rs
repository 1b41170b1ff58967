//! From one configuration to the next: what that means for those who look after it. Pure.

use std::collections::HashMap;

use crate::base::{Name, Uuid};
use crate::control::What;
use crate::daemon::rows;
use crate::state::change::{Change, Effect};
use crate::state::{Group, Plex, PlexState, Volume, VolumeState};

use super::{Cause, News};

/// What `change` of `before` means, volumes in their order, each before its plexes. `causes` tells why plexes leave.
#[must_use]
pub fn news(before: &Group, change: &Change, causes: &HashMap<Uuid, Cause>) -> Vec<News> {
    let after = &change.group;
    let group = after.name();
    let mut told = Vec::new();
    for volume in after.volumes() {
        let old = before.volume_by_id(volume.uuid());
        let moved = match old {
            None => came(after, volume).into_iter().collect(),
            Some(old) => volume_moved(after, change, old, volume),
        };
        told.extend(moved.into_iter().map(|news| news.of_volume(group, volume.name())));
        // The plexes of a volume that is made come with it.
        if old.is_none() {
            continue;
        }
        told.extend(volume.plexes().iter().filter_map(|plex| {
            let was = before.plex_by_id(plex.uuid()).map(|(_, plex)| plex);
            let runs_on = old.is_some_and(|old| old.state().is_started()) && volume.state().is_started();
            let news = plex_moved(was, plex, causes.get(&plex.uuid()), runs_on)?;
            let state = rows::plex_state(plex.state());
            Some(news.of_volume(group, volume.name()).of_plex(plex.name()).in_state(state))
        }));
        let gone = old.into_iter().flat_map(Volume::plexes);
        let gone = gone.filter(|plex| after.plex_by_id(plex.uuid()).is_none()).map(|plex| {
            let news = plex_gone(plex, causes.get(&plex.uuid()), old, volume);
            news.of_volume(group, volume.name()).of_plex(plex.name())
        });
        told.extend(gone);
        told.extend(
            old.and_then(|old| degraded(old, volume)).map(|news| news.of_volume(group, volume.name())),
        );
    }
    for volume in before.volumes().iter().filter(|volume| after.volume_by_id(volume.uuid()).is_none()) {
        let news = match volume.state() {
            VolumeState::Empty => News::new(What::VolumeRolledBack, "it was only half made, and was removed"),
            VolumeState::Clean | VolumeState::Active | VolumeState::NeedSync | VolumeState::Sync => {
                News::new(What::VolumeRemoved, "was removed")
            }
        };
        told.push(news.of_volume(group, volume.name()));
    }
    told
}

/// A volume that was not there before.
fn came(after: &Group, volume: &Volume) -> Option<News> {
    match after.link_of(volume.uuid()) {
        Some((origin, _)) => {
            Some(News::new(What::SnapshotMade, format!("is a snapshot of {}", origin.name())))
        }
        None if volume.state() == VolumeState::Empty => None,
        None => Some(News::new(What::VolumeMade, "was made")),
    }
}

fn volume_moved(after: &Group, change: &Change, old: &Volume, new: &Volume) -> Vec<News> {
    use VolumeState::{Active, Clean, Empty, NeedSync, Sync};
    let mut told = Vec::new();
    let stops = change
        .before_commit
        .iter()
        .any(|effect| matches!(effect, Effect::StopDevice { volume, .. } if *volume == new.uuid()));
    let begun = || {
        let source = new.resync().and_then(|resync| new.plex_by_id(resync.source)).map(Plex::name);
        let from = source.map_or_else(String::new, |plex: &Name| format!(", plex {plex} counts"));
        News::new(What::ResyncBegun, format!("its plexes are being made equal{from}"))
    };
    match (old.state(), new.state()) {
        (Empty, Clean | Active | NeedSync | Sync) => told.push(News::new(What::VolumeMade, "was made")),
        (Clean | NeedSync, Active) => told.push(News::new(What::VolumeStarted, "was started")),
        (Clean | NeedSync, Sync) => told.extend([News::new(What::VolumeStarted, "was started"), begun()]),
        (Active, Sync) => told.push(begun()),
        (Sync, Active) => told.push(News::new(What::ResyncDone, "its plexes are equal")),
        (Active | Sync, Clean) => told.push(News::new(What::VolumeStopped, "was stopped")),
        (Active | Sync, NeedSync) if stops => told.push(News::new(
            What::VolumeStopped,
            "was stopped while its plexes were being made equal: that goes on at its next start",
        )),
        (Active | Sync, NeedSync) => {
            told.push(News::new(What::VolumeCrashed, "ran, and was not stopped in good order"));
        }
        (Empty | Clean | Active | NeedSync | Sync, Empty)
        | (Clean, Clean | NeedSync)
        | (NeedSync, Clean | NeedSync)
        | (Active, Active)
        | (Sync, Sync) => {}
    }
    match (old.is_intent_lost(), new.is_intent_lost()) {
        (false, true) => told.push(News::new(What::IntentLost, "its intent map cannot be written")),
        (true, false) => told.push(News::new(What::IntentKept, "its intent map is kept again")),
        (false, false) | (true, true) => {}
    }
    if let (Some(cut), None) = (old.prepared(), new.prepared())
        && after.volume_by_id(cut.volume).is_none()
    {
        let text = format!("the cut of snapshot {} was not finished, and was taken back", cut.name);
        told.push(News::new(What::SnapshotRolledBack, text));
    }
    told
}

/// A plex that came, or has another state, or left the write path; `runs_on` is whether its volume ran before and does now.
fn plex_moved(was: Option<&Plex>, plex: &Plex, cause: Option<&Cause>, runs_on: bool) -> Option<News> {
    use PlexState::{Active, Clean, Empty, IoFail, Offline, SnapAtt, SnapDone, SnapTmp, Stale, Temp};
    let is = || News::new(What::PlexState, format!("is {}", plex.state()));
    let Some(was) = was else { return (plex.state() != Empty).then(is) };
    let left = was.is_attached() && !plex.is_attached();
    match (was.state(), plex.state()) {
        // One that fails has a cause; what is not there at a start is lost without.
        (Active | SnapDone | Stale, Stale) if left && runs_on && cause.is_none() => {
            Some(News::new(What::PlexDetached, "was taken out of its volume"))
        }
        (Active | Clean | SnapDone | SnapAtt, Stale | IoFail) | (Stale, IoFail) => Some(lost(cause, plex)),
        (Stale, Stale) if left => Some(lost(cause, plex)),
        (Stale | SnapAtt | Temp | IoFail, Active | SnapDone) => {
            Some(News::new(What::PlexInStep, format!("is {}", plex.state())))
        }
        // They come and go with the volume.
        (Active, Clean) | (Clean, Active) | (Empty, Clean | Active) => None,
        (one, other) if one == other => None,
        (
            Active | Clean | SnapDone | SnapAtt | Stale | IoFail | Empty | SnapTmp | Temp | Offline,
            Active | Clean | SnapDone | SnapAtt | Stale | IoFail | Empty | SnapTmp | Temp | Offline,
        ) => Some(is()),
    }
}

fn lost(cause: Option<&Cause>, plex: &Plex) -> News {
    let what = if cause.is_some_and(|cause| cause.hung) { What::PlexHung } else { What::PlexLost };
    let why = cause.map_or_else(String::new, |cause| format!(": {}", cause.reason));
    let misses =
        if plex.state() == PlexState::IoFail { ", and what it misses cannot be tracked" } else { "" };
    News::new(what, format!("left its volume{why}{misses}"))
}

fn plex_gone(plex: &Plex, cause: Option<&Cause>, old: Option<&Volume>, new: &Volume) -> News {
    let started_now = old.is_some_and(|old| !old.state().is_started()) && new.state().is_started();
    let unfinished = matches!(plex.state(), PlexState::SnapAtt | PlexState::SnapTmp | PlexState::Temp);
    match cause {
        Some(cause) => News::new(What::MirrorLost, format!("was removed with its space: {}", cause.reason)),
        None if started_now && unfinished => {
            News::new(What::MirrorRolledBack, "was not complete when the volume ended, and was removed")
        }
        None => News::new(What::PlexRemoved, "was removed"),
    }
}

fn degraded(old: &Volume, new: &Volume) -> Option<News> {
    let count = |volume: &Volume| volume.plexes().iter().filter(|plex| rows::is_degraded(plex)).count();
    // A mirror that is being added was never relied on.
    let added = |plex: &&Plex| old.plex_by_id(plex.uuid()).is_none_or(|old| old.state() == PlexState::Temp);
    let adding = new.plexes().iter().filter(|plex| rows::is_degraded(plex)).filter(added).count();
    match (count(old), count(new) - adding) {
        (0, 0) => None,
        (0, bad) => {
            let all = new.plexes().len();
            let text = match all {
                1 => "its only plex cannot be relied on".to_owned(),
                _ => format!("{bad} of its {all} plexes cannot be relied on"),
            };
            Some(News::new(What::VolumeDegraded, text))
        }
        (_, 0) if adding == 0 => Some(News::new(What::VolumeWhole, "all its plexes can be relied on")),
        (_, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Errno;
    use crate::state::change::{
        Change, CutFacts, CutTarget, Loss, Made, MakeArgs, Presence, Site, StartArgs, add_plexes,
        after_restart, attach_plex, commit_cut, create_group, detach_plex, finish_make, lose_plex,
        make_volume, plex_ready, prepare_cut, recover, resync_done, roll_back_cut, set_intent_lost,
        snapabort, snapstart, start, stop, synced_plex,
    };
    use crate::state::{Grade, Ids, MediumPath, PoolMedium};

    struct Story {
        group: Group,
        ids: Ids,
        causes: HashMap<Uuid, Cause>,
    }

    impl Story {
        fn new() -> Self {
            let mut ids = Ids::from_seed([7; 32]);
            let media = [PoolMedium { path: MediumPath::new("/m").unwrap(), block: false, name: None }];
            let group = create_group("default", &media, &mut ids).unwrap();
            Self { group, ids, causes: HashMap::new() }
        }

        /// Makes the change and tells what it means, one line each.
        fn tell(&mut self, change: impl FnOnce(&Group, &mut Ids) -> Change) -> Vec<String> {
            let change = change(&self.group, &mut self.ids);
            let told = news(&self.group, &change, &self.causes);
            self.group = change.group;
            told.into_iter()
                .map(|news| {
                    let happening = news.happening(1, 0);
                    let state = happening.state.map_or_else(String::new, |state| format!(" [{state}]"));
                    format!("{} {}: {}{state}", happening.id.id(), happening.object(), happening.reason)
                })
                .collect()
        }

        fn plex(&self, at: usize) -> Uuid {
            self.group.volumes()[0].plexes()[at].uuid()
        }

        fn made(&self, at: usize) -> Made {
            Made { plex: self.plex(at), bytes: 1 << 30, block_size: 4096, memory_alignment: 512 }
        }

        fn here(&self) -> Vec<(Uuid, Presence)> {
            let plexes = self.group.volumes()[0].plexes();
            plexes.iter().map(|plex| (plex.uuid(), Presence::Present(None))).collect()
        }

        fn start(&mut self) -> Vec<String> {
            let media = self.here();
            self.tell(|group, ids| {
                start(group, &StartArgs { volume: "v", media: &media, source: None, unix_s: 0 }, ids).unwrap()
            })
        }
    }

    fn below() -> [Site; 1] {
        [Site::Below { directory: MediumPath::new("/m").unwrap(), sparse: true }]
    }

    fn made_and_started() -> Story {
        let mut story = Story::new();
        let two = [below(), below()].concat();
        let args = MakeArgs { name: "v", length: 4 << 20, region_size: None, sites: &two };
        assert_eq!(story.tell(|group, ids| make_volume(group, &args, ids).unwrap()), Vec::<String>::new());
        let made = [story.made(0), story.made(1)];
        let volume = story.group.volumes()[0].uuid();
        let told = story.tell(|group, ids| finish_make(group, volume, &made, false, ids).unwrap());
        assert_eq!(told, ["volume.made v: was made"]);
        assert_eq!(story.start(), ["volume.started v: was started"]);
        story
    }

    #[test]
    fn a_lost_plex_is_told_with_its_cause_and_its_return_too() {
        let mut story = made_and_started();
        let (volume, second) = (story.group.volumes()[0].uuid(), story.plex(1));
        story.causes.insert(second, Errno::IO.into());
        let told = story.tell(|group, ids| lose_plex(group, second, Loss::Failed, None, ids).unwrap());
        assert_eq!(
            told,
            [
                "plex.lost v-02: left its volume: Input/output error [STALE]",
                "volume.degraded v: 1 of its 2 plexes cannot be relied on"
            ]
        );
        let told = story.tell(|group, ids| attach_plex(group, "v", "v-02", ids).unwrap());
        assert_eq!(told, Vec::<String>::new());
        let told = story.tell(|group, ids| synced_plex(group, second, ids).unwrap());
        assert_eq!(
            told,
            ["plex.in-step v-02: is ACTIVE [ACTIVE]", "volume.whole v: all its plexes can be relied on"]
        );
        story.causes = HashMap::from([(second, Errno::TIMED_OUT.into())]);
        let told = story.tell(|group, ids| lose_plex(group, second, Loss::Slow, None, ids).unwrap());
        assert!(told[0].starts_with("plex.hung v-02: "), "{told:?}");
        for (lost, line) in [(true, "intent.lost"), (false, "intent.kept")] {
            let told = story.tell(|group, _| set_intent_lost(group, volume, lost).unwrap());
            assert!(told.len() == 1 && told[0].starts_with(line), "{told:?}");
        }
    }

    #[test]
    fn a_plex_that_is_taken_out_by_hand_is_not_told_as_lost() {
        let mut story = made_and_started();
        let told = story.tell(|group, ids| detach_plex(group, "v", "v-02", ids).unwrap());
        assert_eq!(
            told,
            [
                "plex.detached v-02: was taken out of its volume [STALE]",
                "volume.degraded v: 1 of its 2 plexes cannot be relied on"
            ]
        );
        // Its medium has nothing to be mended, but who starts the volume without it is told so.
        story.tell(|group, ids| attach_plex(group, "v", "v-02", ids).unwrap());
        let second = story.plex(1);
        story.tell(|group, ids| synced_plex(group, second, ids).unwrap());
        story.tell(|group, ids| stop(group, "v", &[], ids).unwrap());
        let media =
            vec![(story.plex(0), Presence::Present(None)), (second, Presence::Missing("gone".to_owned()))];
        let told = story.tell(|group, ids| {
            start(group, &StartArgs { volume: "v", media: &media, source: None, unix_s: 0 }, ids).unwrap()
        });
        assert!(told.iter().any(|line| line.starts_with("plex.lost v-02: ")), "{told:?}");
    }

    #[test]
    fn crash_start_resync_and_stop_are_told() {
        let mut story = made_and_started();
        let volume = story.group.volumes()[0].uuid();
        let crash = story.tell(|group, ids| after_restart(group, &[], ids).unwrap());
        assert_eq!(crash, ["volume.crashed v: ran, and was not stopped in good order"]);
        let begun = "resync.begun v: its plexes are being made equal, plex v-01 counts";
        assert_eq!(story.start(), ["volume.started v: was started", begun]);
        let stopped = story.tell(|group, ids| stop(group, "v", &[], ids).unwrap());
        assert!(
            stopped.len() == 1 && stopped[0].starts_with("volume.stopped v: was stopped while"),
            "{stopped:?}"
        );
        story.start();
        let done = story.tell(|group, _| resync_done(group, volume).unwrap());
        assert_eq!(done, ["resync.done v: its plexes are equal"]);
        let media = story.here();
        let taken = story.tell(|group, ids| recover(group, volume, &media, 0, ids).unwrap());
        assert_eq!(taken, [begun]);
        story.tell(|group, _| resync_done(group, volume).unwrap());
        let stopped = story.tell(|group, ids| stop(group, "v", &[], ids).unwrap());
        assert_eq!(stopped, ["volume.stopped v: was stopped"]);
    }

    #[test]
    fn what_was_half_made_is_told_as_rolled_back() {
        let mut story = Story::new();
        let args = MakeArgs { name: "v", length: 4 << 20, region_size: None, sites: &below() };
        story.tell(|group, ids| make_volume(group, &args, ids).unwrap());
        let told = story.tell(|group, ids| after_restart(group, &[], ids).unwrap());
        assert_eq!(told, ["volume.rolled-back v: it was only half made, and was removed"]);

        let mut story = made_and_started();
        story.tell(|group, ids| snapstart(group, "v", &below(), ids).unwrap());
        let made = story.made(2);
        story.tell(|group, ids| plex_ready(group, &made, ids).unwrap());
        story.tell(|group, ids| after_restart(group, &[], ids).unwrap());
        let told = story.start();
        assert!(
            told.contains(
                &"mirror.rolled-back v-03: was not complete when the volume ended, and was removed"
                    .to_owned()
            ),
            "{told:?}"
        );
    }

    #[test]
    fn snapshot_mirrors_are_told_from_their_beginning_to_their_end() {
        let mut story = made_and_started();
        let added = story.tell(|group, ids| snapstart(group, "v", &below(), ids).unwrap());
        assert_eq!(added, ["plex.state v-03: is SNAPTMP [SNAPTMP]"]);
        let made = story.made(2);
        let ready = story.tell(|group, ids| plex_ready(group, &made, ids).unwrap());
        assert_eq!(ready, ["plex.state v-03: is SNAPATT [SNAPATT]"]);
        let mirror = story.plex(2);
        let done = story.tell(|group, ids| synced_plex(group, mirror, ids).unwrap());
        assert_eq!(done, ["plex.in-step v-03: is SNAPDONE [SNAPDONE]"]);

        let target = || CutTarget { volume: "v", name: None, mirrors: 1 };
        let mut sets = Vec::new();
        let prepared = story.tell(|group, ids| {
            let (set, change) = prepare_cut(group, &[target()], ids).unwrap();
            sets.push(set);
            change
        });
        assert_eq!(prepared, Vec::<String>::new());
        let back = story.tell(|group, ids| roll_back_cut(group, sets[0], false, ids).unwrap());
        assert!(
            back.contains(
                &"snapshot.rolled-back v: the cut of snapshot SNAP-v was not finished, and was taken back"
                    .to_owned()
            ),
            "{back:?}"
        );
        assert_eq!(story.group.volumes()[0].plexes()[2].state(), PlexState::SnapDone);
        story.tell(|group, ids| {
            let (set, change) = prepare_cut(group, &[target()], ids).unwrap();
            sets.push(set);
            change
        });
        let volume = story.group.volumes()[0].uuid();
        let facts = CutFacts { volume, grade: Grade::Fs, cut_unix_s: 1, hold_ns: 1, frozen_ns: 2 };
        let cut = story.tell(|group, ids| commit_cut(group, sets[1], &[facts], ids).unwrap());
        assert_eq!(cut, ["snapshot.made SNAP-v: is a snapshot of v"]);

        story.tell(|group, ids| snapstart(group, "v", &below(), ids).unwrap());
        let told = story.tell(|group, ids| snapabort(group, "v", None, ids).unwrap());
        assert!(told.len() == 1 && told[0].starts_with("plex.removed v-"), "{told:?}");
        story.tell(|group, ids| snapstart(group, "v", &below(), ids).unwrap());
        let made = story.made(2);
        story.tell(|group, ids| plex_ready(group, &made, ids).unwrap());
        let failing = story.plex(2);
        story.causes.insert(failing, Errno::NO_SPACE.into());
        let told = story.tell(|group, ids| lose_plex(group, failing, Loss::Failed, None, ids).unwrap());
        assert!(
            told.len() == 1 && told[0].ends_with("was removed with its space: No space left on device"),
            "{told:?}"
        );
    }

    #[test]
    fn a_mirror_that_is_added_makes_no_volume_degraded() {
        let mut story = made_and_started();
        story.tell(|group, ids| add_plexes(group, "v", &below(), ids).unwrap());
        let made = story.made(2);
        let told = story.tell(|group, ids| plex_ready(group, &made, ids).unwrap());
        assert_eq!(told, ["plex.state v-03: is STALE [STALE]"]);
    }
}
