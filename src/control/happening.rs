//! What an administrator must hear of: every kind of happening with the id by which scripts know it, and one that happened.
//!
//! The ids are stable: one that was released keeps its meaning, and none is used again. `tests/golden/events.txt` holds
//! the table ([`table`]) against accidents.

use super::words::PlexState;
use crate::base::Name;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How much a happening matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing has to be done.
    Info,
    /// Something works with less than it should have.
    Warning,
    /// Somebody must see to it.
    Error,
}

impl Severity {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

macro_rules! happenings {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $id:literal, $severity:ident, $way_out:literal;)+) => {
        /// What can happen.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum What {
            $($(#[doc = $meaning])+ #[serde(rename = $id)] $variant,)+
        }

        impl What {
            /// Every kind, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable id.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id,)+
                }
            }

            /// How much it matters.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$variant => Severity::$severity,)+
                }
            }

            /// What it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning),+),)+
                }
            }

            /// What can be done, with `VOL` and `PLEX` for the names; empty when nothing has to be.
            #[must_use]
            pub const fn way_out(self) -> &'static str {
                match self {
                    $(Self::$variant => $way_out,)+
                }
            }
        }
    };
}

happenings! {
    /// The daemon serves.
    DaemonStarted = "daemon.started", Info, "";
    /// The daemon ends; volumes in use wait for the next one.
    DaemonStopping = "daemon.stopping", Info, "";
    /// The daemon gives its place to another binary; volumes wait for it meanwhile.
    DaemonUpgrading = "daemon.upgrading", Info, "";
    /// The binary that was to take the daemon's place cannot be run: this one serves on.
    UpgradeFailed = "daemon.upgrade-failed", Error, "see to the binary, then upgrade again";
    /// A group's configuration cannot be read: its volumes are not served.
    GroupNotLoaded = "group.not-loaded", Error, "look at it with: cleave dump";
    /// Something was wrong with a group's configuration, and it could be read all the same.
    GroupRepaired = "group.repaired", Warning, "";
    /// A label was newer than the catalogue and was taken in its place.
    GroupAdopted = "group.adopted", Warning, "";
    /// A configuration change could not be made durable: it was not made.
    StateFailing = "state.failing", Error, "see to the disk below the state directory";
    /// Configuration changes are durable again.
    StateRestored = "state.restored", Info, "";
    /// A map was lost and counts as all ones: the next copy by it is a full one.
    MapLost = "map.lost", Warning, "";
    /// The intent map cannot be written: after a crash the whole volume is made equal.
    IntentLost = "intent.lost", Error, "see to the disk below the state directory, then stop and start VOL";
    /// The intent map is kept again.
    IntentKept = "intent.kept", Info, "";
    /// A volume was made.
    VolumeMade = "volume.made", Info, "";
    /// A volume was removed.
    VolumeRemoved = "volume.removed", Info, "";
    /// A volume that was only half made when the daemon ended was taken back at start.
    VolumeRolledBack = "volume.rolled-back", Warning, "make it again";
    /// A volume has another length.
    VolumeResized = "volume.resized", Info, "";
    /// A volume was started.
    VolumeStarted = "volume.started", Info, "";
    /// A volume that shall be started with the host was not.
    VolumeNotStarted = "volume.not-started", Error, "see to the reason, then: cleave start VOL";
    /// A volume was stopped in good order.
    VolumeStopped = "volume.stopped", Info, "";
    /// A volume ran and does not run any more: it was not stopped in good order.
    VolumeCrashed = "volume.crashed", Warning, "its plexes are made equal after: cleave start VOL";
    /// The living device of a volume was taken over from a daemon that is gone.
    VolumeTakenOver = "volume.taken-over", Info, "";
    /// A volume could not be taken over: its device waits, and so does whoever uses it.
    VolumeNotRecovered = "volume.not-recovered", Error,
        "see to the reason, then try again with: cleave start VOL; or end the waiting with: cleave force-stop VOL";
    /// A volume failed to be taken over too often and is not tried again by itself.
    VolumeGivenUp = "volume.given-up", Error,
        "try again with: cleave start VOL; or end the waiting with: cleave force-stop VOL";
    /// A volume was stopped by force: what waited for it got errors.
    VolumeForceStopped = "volume.force-stopped", Warning, "its plexes are made equal after: cleave start VOL";
    /// A volume was overwritten as a whole: from a snapshot, or by what it held before.
    VolumeRestored = "volume.restored", Info, "";
    /// A volume is half overwritten by a restore that does not go on: it has no device.
    VolumeHalfRestored = "volume.half-restored", Error,
        "go on with: cleave start VOL; or put back what it held: cleave undo VOL";
    /// A volume has fewer good copies than it should have.
    VolumeDegraded = "volume.degraded", Warning, "see which plex it is with: cleave show VOL";
    /// A volume has all its copies again.
    VolumeWhole = "volume.whole", Info, "";
    /// The last plex of a volume failed a request: the application saw an error.
    VolumeFailed = "volume.failed", Error, "see to its medium: cleave show VOL";
    /// A plex left its volume; what it misses is tracked.
    PlexLost = "plex.lost", Error, "mend its medium, then: cleave plex attach PLEX";
    /// A plex did not answer in time and left its volume; what it misses is tracked.
    PlexHung = "plex.hung", Error, "mend its medium, then: cleave plex attach PLEX";
    /// A plex was taken out of its volume as it was told to; what it misses is tracked.
    PlexDetached = "plex.detached", Warning, "take it in again with: cleave plex attach PLEX";
    /// A plex has not answered a request for a while; reads go to the others.
    PlexSilent = "plex.silent", Warning, "see to the medium of PLEX; cleave set VOL says when it has to leave";
    /// A plex that did not answer does again.
    PlexAnswers = "plex.answers", Info, "";
    /// The file of a plex has another name or none: it serves on, and the next start will not find it.
    PlexUnlinked = "plex.unlinked", Error, "add a copy before VOL stops: cleave mirror VOL";
    /// The medium of a plex is shorter than it was.
    PlexShortened = "plex.shortened", Error, "bring its medium back, then: cleave plex attach PLEX";
    /// A plex has everything again.
    PlexInStep = "plex.in-step", Info, "";
    /// A plex came to its volume, or changed its state as it was told to.
    PlexState = "plex.state", Info, "";
    /// A plex was removed as it was told to.
    PlexRemoved = "plex.removed", Info, "";
    /// A mirror that was not complete failed and was removed with its space.
    MirrorLost = "mirror.lost", Error, "make room or name another medium, then add it again";
    /// A mirror that was not complete when the volume ended was taken back at its start.
    MirrorRolledBack = "mirror.rolled-back", Warning, "add it again";
    /// A label cannot be written on a plex.
    LabelFailing = "label.failing", Warning, "see to the medium of PLEX";
    /// A plex could not read a part of its medium; another plex served it.
    ReadFailed = "read.failed", Warning, "watch the medium of PLEX: it begins to fail";
    /// A plex could not read a part of its medium; it was rewritten from another plex.
    ReadMended = "read.mended", Warning, "watch the medium of PLEX: it begins to fail";
    /// A plex could not read a part of its medium, and no other plex could be read there to mend it.
    ReadNotMended = "read.not-mended", Error, "bring the range back from a backup";
    /// The plexes of a volume are being made equal.
    ResyncBegun = "resync.begun", Info, "";
    /// The plexes of a volume are equal.
    ResyncDone = "resync.done", Info, "";
    /// The plexes of a volume could not be made equal.
    ResyncUnfinished = "resync.unfinished", Warning, "it goes on at the next start of VOL";
    /// The last operation of a daemon that is gone has not ended on a medium; its successor waits for it.
    FenceWaiting = "fence.waiting", Warning, "see to the medium if it hangs";
    /// The last operation of a daemon that is gone has ended.
    FencePassed = "fence.passed", Info, "";
    /// A snapshot was made.
    SnapshotMade = "snapshot.made", Info, "";
    /// A cut that was not finished was taken back.
    SnapshotRolledBack = "snapshot.rolled-back", Warning, "cut it again";
    /// A file system that a cut had left frozen was thawed.
    FilesystemThawed = "filesystem.thawed", Warning, "";
    /// A task failed.
    TaskFailed = "task.failed", Error, "";
}

/// Something that happened. Names are what was called so at that moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Happening {
    /// Rises by one with each happening in the life of a daemon, from 1.
    pub number: u64,
    /// When, in milliseconds since 1970 (UTC).
    pub time_ms: u64,
    /// What.
    pub id: What,
    /// How much it matters.
    pub severity: Severity,
    /// The group, where it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// The volume, where it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// The plex, where it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plex: Option<Name>,
    /// The state that the plex has now, where that is what happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PlexState>,
    /// What happened in this case, one line.
    pub reason: String,
    /// What can be done now; empty when nothing has to be.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub way_out: String,
}

impl Happening {
    /// What it is about: the plex, the volume or the group, else the daemon.
    #[must_use]
    pub fn object(&self) -> &str {
        [&self.plex, &self.volume, &self.group]
            .into_iter()
            .find_map(|name| name.as_ref().map(Name::as_str))
            .unwrap_or("cleaved")
    }
}

/// One line: object, reason, way out. Nothing in it can move a cursor.
impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object(), self.reason.escape_debug())?;
        if self.way_out.is_empty() { Ok(()) } else { write!(f, "; {}", self.way_out.escape_debug()) }
    }
}

/// The table of all kinds, as the documentation has it.
#[must_use]
pub fn table() -> String {
    let mut text = String::new();
    for what in What::ALL {
        text += &format!("{} ({}):{}\n", what.id(), what.severity(), what.meaning());
        if !what.way_out().is_empty() {
            text += &format!("    {}\n", what.way_out());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_words_joined_by_dots_and_none_is_used_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for what in What::ALL {
            let id = what.id();
            assert!(seen.insert(id), "{id} twice");
            let (object, case) = id.split_once('.').unwrap();
            for word in [object, case] {
                assert!(!word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{id}");
            }
            assert_eq!(serde_json::to_string(what).unwrap(), format!("\"{id}\""));
            // Who must see to something is told how to begin, but for what tells its own way out.
            let told = !what.way_out().is_empty() || *what == What::TaskFailed;
            assert!(what.severity() < Severity::Error || told, "{id} has no way out");
        }
    }

    #[test]
    fn the_table_is_as_documented() {
        let kept = include_str!("../../tests/golden/events.txt");
        let now = table();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/events.txt");
            std::fs::write(path, &now).unwrap();
        }
        for (number, (kept, now)) in kept.lines().zip(now.lines()).enumerate() {
            assert_eq!(now, kept, "line {}", number + 1);
        }
        assert_eq!(now.lines().count(), kept.lines().count());
    }

    #[test]
    fn a_happening_is_one_line_whatever_its_reason_holds() {
        let name = |text: &str| Some(Name::new(text).unwrap());
        let mut happening = Happening {
            number: 7,
            time_ms: 1,
            id: What::PlexLost,
            severity: Severity::Error,
            group: name("g"),
            volume: name("v"),
            plex: name("v-02"),
            state: None,
            reason: "gone\n\u{1b}[31m".to_owned(),
            way_out: "mend it".to_owned(),
        };
        assert_eq!(happening.to_string(), "v-02: gone\\n\\u{1b}[31m; mend it");
        happening.plex = None;
        assert_eq!(happening.object(), "v");
        let json = serde_json::to_value(&happening).unwrap();
        assert_eq!((json["id"].as_str(), json["severity"].as_str()), (Some("plex.lost"), Some("error")));
        assert!(json.get("plex").is_none());
        assert_eq!(serde_json::from_value::<Happening>(json).unwrap(), happening);
    }
}
