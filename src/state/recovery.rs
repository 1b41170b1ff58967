//! What an interrupted verb leaves in the records, and what the next start makes of it: rolled back or completed.
//!
//! ```text
//! verb            record in between                 the next start of the daemon, then of the volume
//! make            volume EMPTY; CLEAN, never run    rolled back: nobody was told of it
//! mirror          plex TEMP                         rolled back, its medium freed
//!                 plex STALE with its map           completed: it is attached and copied what its map says
//! snapstart       plex SNAPTMP                      rolled back, its medium freed
//!                 plex SNAPATT                      completed under a living device; else rolled back, as VxVM does
//! snapshot        cut prepared                      rolled back, its plexes copied what they may lack
//!                 snapshot volume without a device  completed: it is there, and is started by hand
//! snapback        plex SNAPATT at the origin        as for snapstart
//! restore         phase SAVING                      rolled back: nothing was overwritten
//!                 phase WRITING, UNDOING            completed: the volume has no device until it goes on to its end
//! remove, rm      plex leaving                      completed: its file removed, its labels erased
//! start, stop     started, without a device         rolled back: not started, made equal at the next start
//! resync          source recorded                   completed: it goes on from the same source
//! ```
//! What a verb made before the commit that never came is named by no record: the files of maps are removed as orphans.

use serde::{Deserialize, Serialize};
use std::fmt;

use super::group::{Group, Volume};
use super::medium::PlexMedium;
use super::plex::PlexState;
use super::restore::RestorePhase;
use super::volume::VolumeState;
use crate::base::{Generation, Name, Uuid};

/// A plex that no volume has any more and whose medium is not given back yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaving {
    /// What it was.
    pub plex: Uuid,
    /// Where it lies.
    pub medium: PlexMedium,
    /// Length of the volume that it was a copy of, in bytes: tells where its labels stand.
    pub length: u64,
}

/// What becomes of what was interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// As if it had never begun.
    RolledBack,
    /// It is brought to its end.
    Completed,
}

/// Something that an interrupted verb left, with all that a person is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unfinished {
    /// A configuration of this generation was written and never took effect.
    Commit {
        /// The group.
        group: Name,
        /// The generation that is not used again.
        generation: Generation,
    },
    /// A group without a configuration: its making was interrupted.
    GroupMaking {
        /// Its directory.
        place: String,
    },
    /// A group that was being removed.
    GroupRemoval {
        /// Its directory.
        place: String,
    },
    /// The directory for the media of a group was not made yet.
    GroupMedia {
        /// The directory.
        place: String,
    },
    /// A map that no record names.
    Orphan {
        /// The file.
        place: String,
    },
    /// A volume that was being made.
    Making {
        /// The volume.
        volume: Name,
    },
    /// A plex whose medium was being made.
    Adding {
        /// The volume.
        volume: Name,
        /// The plex.
        plex: Name,
    },
    /// A snapshot mirror that was being copied.
    SnapshotMirror {
        /// The volume.
        volume: Name,
        /// The plex.
        plex: Name,
        /// Whether the volume's device lives, so that the copy goes on.
        living: bool,
    },
    /// A plex that was being copied what it lacked.
    CatchingUp {
        /// The volume.
        volume: Name,
        /// The plex.
        plex: Name,
    },
    /// A cut that was prepared and not committed.
    Cut {
        /// The volume.
        volume: Name,
        /// The snapshot volume that would have come of it.
        snapshot: Name,
    },
    /// A volume that was to be restored and of which nothing was overwritten.
    RestoreBegun {
        /// The volume.
        volume: Name,
    },
    /// A volume that is half overwritten.
    Restore {
        /// The volume.
        volume: Name,
    },
    /// A volume that ran and has no device any more.
    Run {
        /// The volume.
        volume: Name,
    },
    /// Plexes that were being made equal.
    Resync {
        /// The volume.
        volume: Name,
        /// The plex whose content counts.
        source: Name,
    },
    /// A plex that was given up and not freed.
    Leaving {
        /// Its medium.
        place: String,
    },
    /// A device that no record names.
    Device {
        /// N of `/dev/ublkbN`.
        number: u32,
    },
}

impl Unfinished {
    /// What becomes of it.
    #[must_use]
    pub const fn fate(&self) -> Fate {
        match self {
            Self::Commit { .. }
            | Self::GroupMaking { .. }
            | Self::Orphan { .. }
            | Self::Making { .. }
            | Self::Adding { .. }
            | Self::SnapshotMirror { living: false, .. }
            | Self::Cut { .. }
            | Self::Run { .. }
            | Self::RestoreBegun { .. }
            | Self::Device { .. } => Fate::RolledBack,
            Self::GroupRemoval { .. }
            | Self::GroupMedia { .. }
            | Self::SnapshotMirror { living: true, .. }
            | Self::CatchingUp { .. }
            | Self::Resync { .. }
            | Self::Restore { .. }
            | Self::Leaving { .. } => Fate::Completed,
        }
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fate() {
            Fate::RolledBack => f.write_str("rolled back: ")?,
            Fate::Completed => f.write_str("completed: ")?,
        }
        match self {
            Self::Commit { group, generation } => {
                write!(f, "group {group}: configuration {generation} never took effect")
            }
            Self::GroupMaking { place } => write!(f, "{place}: a group was being made"),
            Self::GroupRemoval { place } => write!(f, "{place}: the group was being removed"),
            Self::GroupMedia { place } => write!(f, "{place}: the group's directory of media was missing"),
            Self::Orphan { place } => write!(f, "{place}: a map that no record names was removed"),
            Self::Making { volume } => write!(f, "volume {volume}: it was being made"),
            Self::Adding { volume, plex } => write!(f, "volume {volume}: plex {plex} was being made"),
            Self::SnapshotMirror { volume, plex, living: false } => {
                write!(f, "volume {volume}: snapshot mirror {plex} was being copied; it is removed")
            }
            Self::SnapshotMirror { volume, plex, living: true } => {
                write!(f, "volume {volume}: the copy to snapshot mirror {plex} goes on")
            }
            Self::CatchingUp { volume, plex } => {
                write!(f, "volume {volume}: the copy to plex {plex} goes on")
            }
            Self::Cut { volume, snapshot } => {
                write!(f, "volume {volume}: snapshot {snapshot} was being taken")
            }
            Self::Run { volume } => write!(
                f,
                "volume {volume}: it ran and has no device any more; its plexes are made equal at the next start"
            ),
            Self::RestoreBegun { volume } => {
                write!(f, "volume {volume}: it was to be restored; nothing of it was overwritten")
            }
            Self::Restore { volume } => {
                write!(
                    f,
                    "volume {volume}: it is half overwritten; it has no device until its restore is done"
                )
            }
            Self::Resync { volume, source } => {
                write!(f, "volume {volume}: the resync goes on from plex {source}")
            }
            Self::Leaving { place } => write!(f, "{place}: the plex was given up; its medium is freed"),
            Self::Device { number } => {
                write!(f, "device {number}: no volume has it and nobody has it open; it is removed")
            }
        }
    }
}

/// What a start of the daemon settles, from the record as it was found; `living` are the volumes whose devices live.
#[must_use]
pub fn at_restart(group: &Group, living: &[Uuid]) -> Vec<Unfinished> {
    let mut found = Vec::new();
    for volume in group.volumes() {
        let name = || volume.name().clone();
        if was_never_started(volume) {
            found.push(Unfinished::Making { volume: name() });
            continue;
        }
        let lives = living.contains(&volume.uuid());
        if volume.state().is_started() && !lives {
            found.push(Unfinished::Run { volume: name() });
        }
        found.extend(volume.restore().map(|restore| match restore.phase {
            RestorePhase::Saving => Unfinished::RestoreBegun { volume: name() },
            RestorePhase::Writing | RestorePhase::Undoing => Unfinished::Restore { volume: name() },
        }));
        let being_made = |state| matches!(state, PlexState::Temp | PlexState::SnapTmp);
        for plex in volume.plexes().iter().filter(|plex| being_made(plex.state())) {
            found.push(Unfinished::Adding { volume: name(), plex: plex.name().clone() });
        }
    }
    let place = |leaving: &Leaving| leaving.medium.path.to_string();
    found.extend(group.leaving().iter().map(|leaving| Unfinished::Leaving { place: place(leaving) }));
    found
}

/// What the next start of `volume` settles, or its recovery if its device is `living`, from the record as it was found.
#[must_use]
pub fn at_start(volume: &Volume, living: bool) -> Vec<Unfinished> {
    let mut found = Vec::new();
    let name = || volume.name().clone();
    if let Some(cut) = volume.prepared() {
        found.push(Unfinished::Cut { volume: name(), snapshot: cut.name.clone() });
    }
    for plex in volume.plexes() {
        let (volume, plex_name) = (name(), plex.name().clone());
        match plex.state() {
            PlexState::SnapAtt => {
                found.push(Unfinished::SnapshotMirror { volume, plex: plex_name, living });
            }
            PlexState::Stale if plex.is_attached() => {
                found.push(Unfinished::CatchingUp { volume, plex: plex_name });
            }
            PlexState::Empty
            | PlexState::Clean
            | PlexState::Active
            | PlexState::Stale
            | PlexState::IoFail
            | PlexState::SnapDone
            | PlexState::SnapTmp
            | PlexState::Temp
            | PlexState::Offline => {}
        }
    }
    let source = volume.resync().and_then(|resync| volume.plex_by_id(resync.source));
    if let Some(source) = source {
        found.push(Unfinished::Resync { volume: name(), source: source.name().clone() });
    }
    found
}

/// Whether a volume was being made when its verb was interrupted: `make` ends with a start, and a snapshot volume begins
/// with one.
#[must_use]
pub fn was_never_started(volume: &Volume) -> bool {
    match volume.state() {
        VolumeState::Empty => true,
        VolumeState::Clean | VolumeState::NeedSync => volume.run() == Generation(0),
        VolumeState::Active | VolumeState::Sync => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::change::tests::{
        all_present, below, cut, empty_group, ids, made_all, path, ready_to_cut, started,
    };
    use crate::state::change::{self, CutTarget, Made, MakeArgs, RemoveArgs, SnapbackArgs, StartArgs};
    use crate::state::{MediumKind, PlexState};

    const MIB: u64 = 1 << 20;

    fn lines(found: &[Unfinished]) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    /// What a restart and then a start of the volumes say and do, and that nothing is left to be settled after them.
    #[track_caller]
    fn settle(group: &Group, living: &[Uuid], expected: &[&str]) -> Group {
        let mut told = lines(&at_restart(group, living));
        let mut group = change::after_restart(group, living, &mut ids(90)).unwrap().group;
        assert_eq!(
            lines(&at_restart(&group, living)).iter().filter(|line| line.contains("volume")).count(),
            0
        );
        for volume in group.clone().volumes() {
            let name = volume.name().as_str();
            let media = all_present(&group, name);
            let lives = living.contains(&volume.uuid());
            told.extend(lines(&at_start(volume, lives)));
            group = if lives {
                change::recover(&group, volume.uuid(), &media, 5, &mut ids(91)).unwrap().group
            } else {
                let args = StartArgs { volume: name, media: &media, source: None, unix_s: 5 };
                change::start(&group, &args, &mut ids(91)).unwrap().group
            };
        }
        let freed: Vec<_> = group.leaving().iter().map(|leaving| leaving.plex).collect();
        let group = change::released(&group, &freed).unwrap().group;
        assert!(at_restart(&group, &group.volumes().iter().map(Volume::uuid).collect::<Vec<_>>()).is_empty());
        // The name of a file holds a part of an identity.
        let short = |line: &String| match line.split_once(".img") {
            Some((before, after)) => format!("{}*{after}", &before[..before.len() - 8]),
            None => line.clone(),
        };
        assert_eq!(told.iter().map(short).collect::<Vec<_>>(), expected);
        group
    }

    fn plexes(group: &Group, volume: &str) -> String {
        let volume = group.volume(volume).unwrap();
        let states: Vec<_> = volume.plexes().iter().map(|p| format!("{}={}", p.name(), p.state())).collect();
        format!("{} {}", volume.state(), states.join(" "))
    }

    fn one() -> Group {
        let args = MakeArgs { name: "v", length: 100 * MIB, region_size: None, sites: &[below("/a")] };
        let group = change::make_volume(&empty_group(), &args, &mut ids(2)).unwrap().group;
        let volume = group.volume("v").unwrap().uuid();
        let group =
            change::finish_make(&group, volume, &made_all(&group, "v"), false, &mut ids(3)).unwrap().group;
        started(&group, "v")
    }

    fn ready(group: &Group, plex: Uuid) -> Group {
        let (volume, _) = group.plex_by_id(plex).unwrap();
        let made = Made { plex, bytes: change::needed_bytes(volume), block_size: 512, memory_alignment: 4 };
        change::plex_ready(group, &made, &mut ids(40)).unwrap().group
    }

    #[test]
    fn a_make_that_was_interrupted_before_its_start_is_rolled_back() {
        let args = MakeArgs { name: "v", length: 100 * MIB, region_size: None, sites: &[below("/a")] };
        let empty = change::make_volume(&empty_group(), &args, &mut ids(2)).unwrap().group;
        let volume = empty.volume("v").unwrap().uuid();
        let made =
            change::finish_make(&empty, volume, &made_all(&empty, "v"), false, &mut ids(3)).unwrap().group;
        for group in [empty, made] {
            let change = change::after_restart(&group, &[], &mut ids(9)).unwrap();
            let leaving = change.group.leaving();
            assert_eq!(
                (leaving.len(), leaving[0].medium.kind, leaving[0].length),
                (1, MediumKind::Made, 100 * MIB)
            );
            let after = settle(&group, &[], &["rolled back: volume v: it was being made"]);
            assert_eq!(after.volumes().len(), 0);
        }
    }

    #[test]
    fn a_started_volume_without_a_device_counts_as_crashed_and_a_living_one_as_running() {
        let (group, run) = (
            one(),
            "rolled back: volume v: it ran and has no device any more; its plexes are made equal at the next start",
        );
        assert_eq!(plexes(&settle(&group, &[], &[run]), "v"), "ACTIVE v-01=ACTIVE");
        let volume = group.volume("v").unwrap().uuid();
        assert_eq!(plexes(&settle(&group, &[volume], &[]), "v"), "ACTIVE v-01=ACTIVE");
        // A resync goes on from its source.
        let pair = change::tests::pair();
        let crashed = change::after_restart(&pair, &[], &mut ids(5)).unwrap().group;
        let syncing = started(&crashed, "v");
        let uuid = syncing.volume("v").unwrap().uuid();
        settle(&syncing, &[uuid], &["completed: volume v: the resync goes on from plex v-01"]);
    }

    #[test]
    fn a_mirror_that_was_being_made_is_rolled_back_and_one_that_was_copied_is_completed() {
        let group = change::add_plexes(&one(), "v", &[below("/b")], &mut ids(20)).unwrap().group;
        let volume = group.volume("v").unwrap().uuid();
        let adding = "rolled back: volume v: plex v-02 was being made";
        let run = "rolled back: volume v: it ran and has no device any more; its plexes are made equal at the next start";
        assert_eq!(plexes(&settle(&group, &[volume], &[adding]), "v"), "ACTIVE v-01=ACTIVE");
        assert_eq!(plexes(&settle(&group, &[], &[run, adding]), "v"), "ACTIVE v-01=ACTIVE");
        let plex = group.volume("v").unwrap().plexes()[1].uuid();
        let copied = ready(&group, plex);
        let goes_on = "completed: volume v: the copy to plex v-02 goes on";
        assert_eq!(plexes(&settle(&copied, &[volume], &[goes_on]), "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
        assert_eq!(plexes(&settle(&copied, &[], &[run, goes_on]), "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
        // A stopped volume has them too.
        let stopped = change::stop(&one(), "v", &[], &mut ids(6)).unwrap().group;
        let group = change::add_plexes(&stopped, "v", &[below("/b")], &mut ids(20)).unwrap().group;
        assert_eq!(plexes(&settle(&group, &[], &[adding]), "v"), "ACTIVE v-01=ACTIVE");
    }

    #[test]
    fn a_snapshot_mirror_goes_on_under_a_living_device_and_else_is_rolled_back() {
        let group = change::snapstart(&one(), "v", &[below("/b")], &mut ids(20)).unwrap().group;
        let volume = group.volume("v").unwrap().uuid();
        let run = "rolled back: volume v: it ran and has no device any more; its plexes are made equal at the next start";
        let adding = "rolled back: volume v: plex v-02 was being made";
        settle(&group, &[volume], &[adding]);
        settle(&group, &[], &[run, adding]);
        let plex = group.volume("v").unwrap().plexes()[1].uuid();
        let copied = ready(&group, plex);
        let goes_on = "completed: volume v: the copy to snapshot mirror v-02 goes on";
        assert_eq!(plexes(&settle(&copied, &[volume], &[goes_on]), "v"), "ACTIVE v-01=ACTIVE v-02=SNAPATT");
        let removed = "rolled back: volume v: snapshot mirror v-02 was being copied; it is removed";
        assert_eq!(plexes(&settle(&copied, &[], &[run, removed]), "v"), "ACTIVE v-01=ACTIVE");
    }

    #[test]
    fn a_cut_without_a_commit_is_rolled_back_and_one_with_it_stands() {
        let group = ready_to_cut(10);
        let target = CutTarget { volume: "v", name: Some("tmp"), mirrors: 1 };
        let (_, prepared) = change::prepare_cut(&group, &[target], &mut ids(30)).unwrap();
        let volume = group.volume("v").unwrap().uuid();
        let rolled = "rolled back: volume v: snapshot tmp was being taken";
        let after = settle(&prepared.group, &[volume], &[rolled]);
        assert_eq!(
            (after.volumes().len(), plexes(&after, "v").as_str()),
            (1, "ACTIVE v-01=ACTIVE v-02=STALE")
        );
        let run = "rolled back: volume v: it ran and has no device any more; its plexes are made equal at the next start";
        settle(&prepared.group, &[], &[run, rolled]);
        let stands = cut(&group, "v", Some("tmp"), 30);
        let after = settle(&stands, &[volume], &[&run.replace("volume v", "volume tmp")]);
        assert_eq!(plexes(&after, "tmp"), "ACTIVE v-02=ACTIVE");
        // A snapback is a copy to a snapshot mirror.
        let stopped = change::stop(&stands, "tmp", &[], &mut ids(33)).unwrap().group;
        let args = SnapbackArgs { snapshot: "tmp", plexes: None, holders: &[] };
        let back = change::snapback(&stopped, &args, &mut ids(34)).unwrap().group;
        settle(&back, &[volume], &["completed: volume v: the copy to snapshot mirror v-02 goes on"]);
    }

    #[test]
    fn a_plex_that_was_given_up_is_freed_by_the_next_start() {
        let group = change::remove_plex(&change::tests::pair(), "v", "v-02", &mut ids(9)).unwrap().group;
        let volume = group.volume("v").unwrap().uuid();
        let freed = "completed: /b/v-02-*: the plex was given up; its medium is freed";
        settle(&group, &[volume], &[freed]);
        let args = RemoveArgs { volume: "v", recursive: true, force: true, holders: &[] };
        let gone = change::remove_volume(&one(), &args, &mut ids(9)).unwrap().group;
        assert_eq!(gone.leaving()[0].medium.path.file_name().split('-').next(), Some("v"));
        settle(&gone, &[], &["completed: /a/v-01-*: the plex was given up; its medium is freed"]);
        // A medium that leaves may be used again at once.
        let path = path(gone.leaving()[0].medium.path.as_str());
        let sites = [crate::state::change::Site::NewFile { path, sparse: false }];
        let args = MakeArgs { name: "v", length: 100 * MIB, region_size: None, sites: &sites };
        let again = change::make_volume(&gone, &args, &mut ids(12)).unwrap().group;
        assert_eq!(again.volume("v").unwrap().plexes()[0].state(), PlexState::Empty);
    }
}
