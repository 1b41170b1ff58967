//! What a person may set of a volume, with the defaults and their reasons.

use serde::{Deserialize, Serialize};

use super::refuse;
use crate::base::{Affinity, Name, Refused};

/// Seconds that a plex is waited for while others answer, unless set: what the drivers of disks give a command before they
/// end it with an error themselves.
pub const DEFAULT_PLEX_TIMEOUT_S: u32 = 30;

/// The longest wait that can be set, an hour; 0 is no limit at all.
pub const MAX_PLEX_TIMEOUT_S: u32 = 3600;

/// Extents of 4 MiB that may count as dirty at once, unless set. A crash of the machine has that much read of each plex (4 GiB:
/// some twenty seconds of a disk, a few of a fast one), and no more than what differs written; a working set of that size
/// costs no clearing.
pub const DEFAULT_DIRTY_EXTENTS: u32 = 1024;

/// The fewest: one request may touch nine, and some must be clear of writes for others to be set.
pub const MIN_DIRTY_EXTENTS: u32 = 64;

/// The most: the extents of the largest intent map that is worth its name, 64 TiB of dirty data.
pub const MAX_DIRTY_EXTENTS: u32 = 1 << 24;

/// The most queues of a device: each is a thread with a lane of the volume's gate, of which others need some too.
pub const MAX_QUEUES: u16 = 32;

/// How the data of a volume's requests travel between the kernel and the plexes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataPath {
    /// Of a volume with one plex from the requests' own pages, where the kernel has them; of one with several as [`Copy`]: a
    /// page that its owner changes while it is written would leave the plexes different, and one that was lent to a plex that
    /// hangs cannot be given back.
    ///
    /// [`Copy`]: Self::Copy
    #[default]
    Auto,
    /// Through memory of the daemon, which can give a request back although a plex has not answered.
    Copy,
    /// From the requests' own pages, also to several plexes.
    Zero,
}

impl DataPath {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// The settings of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Seconds that a plex may take for a request while others have answered; past it, it leaves. 0: it is waited for.
    pub plex_timeout_s: u32,
    /// Extents that may count as dirty at once.
    pub dirty_extents: u32,
    /// How its data travel. Of a volume that runs, whether they are copied is decided anew at its next start.
    #[serde(skip_serializing_if = "DataPath::is_auto")]
    pub data: DataPath,
    /// Queues of its device, each with a thread, from its next start on; 0: as many as this host's processors ask for.
    #[serde(skip_serializing_if = "is_zero")]
    pub queues: u16,
    /// Which processors the threads of its queues run on, from its next start on.
    #[serde(skip_serializing_if = "Affinity::is_auto")]
    pub affinity: Affinity,
    /// Whether it is started when the host is.
    #[serde(skip_serializing_if = "is_true")]
    pub autostart: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_true(yes: &bool) -> bool {
    *yes
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            plex_timeout_s: DEFAULT_PLEX_TIMEOUT_S,
            dirty_extents: DEFAULT_DIRTY_EXTENTS,
            data: DataPath::Auto,
            queues: 0,
            affinity: Affinity::Auto,
            autostart: true,
        }
    }
}

impl Settings {
    /// Whether nothing was set by hand.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether each value can be served.
    ///
    /// # Errors
    /// `setting.range` names the value.
    pub fn check(&self, volume: &Name) -> Result<(), Refused> {
        if self.plex_timeout_s > MAX_PLEX_TIMEOUT_S {
            let range = format!("1 to {MAX_PLEX_TIMEOUT_S} seconds, or none");
            return Err(refuse::setting_range(volume, "plex-timeout", self.plex_timeout_s, &range));
        }
        if !(MIN_DIRTY_EXTENTS..=MAX_DIRTY_EXTENTS).contains(&self.dirty_extents) {
            let range = format!("{MIN_DIRTY_EXTENTS} to {MAX_DIRTY_EXTENTS} extents");
            return Err(refuse::setting_range(volume, "dirty-extents", self.dirty_extents, &range));
        }
        if self.queues > MAX_QUEUES {
            let range = format!("1 to {MAX_QUEUES}, or auto");
            return Err(refuse::setting_range(volume, "queues", self.queues.into(), &range));
        }
        Ok(())
    }
}

/// Settings to be changed; the others stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SettingsChange {
    /// See [`Settings::plex_timeout_s`].
    pub plex_timeout_s: Option<u32>,
    /// See [`Settings::dirty_extents`].
    pub dirty_extents: Option<u32>,
    /// See [`Settings::data`].
    pub data: Option<DataPath>,
    /// See [`Settings::queues`].
    pub queues: Option<u16>,
    /// See [`Settings::affinity`].
    pub affinity: Option<Affinity>,
    /// See [`Settings::autostart`].
    pub autostart: Option<bool>,
}

impl SettingsChange {
    /// `settings` with what is changed.
    #[must_use]
    pub fn applied_to(self, settings: Settings) -> Settings {
        Settings {
            plex_timeout_s: self.plex_timeout_s.unwrap_or(settings.plex_timeout_s),
            dirty_extents: self.dirty_extents.unwrap_or(settings.dirty_extents),
            data: self.data.unwrap_or(settings.data),
            queues: self.queues.unwrap_or(settings.queues),
            affinity: self.affinity.unwrap_or(settings.affinity),
            autostart: self.autostart.unwrap_or(settings.autostart),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_their_range_are_refused_with_it() {
        let name = Name::new("v").unwrap();
        let with = |plex_timeout_s, dirty_extents| {
            Settings { plex_timeout_s, dirty_extents, ..Settings::default() }.check(&name)
        };
        assert!(with(0, 64).is_ok() && with(3600, MAX_DIRTY_EXTENTS).is_ok());
        for (bad, what) in [
            (with(3601, 64), "v: plex-timeout cannot be 3601; choose 1 to 3600 seconds, or none"),
            (with(30, 63), "v: dirty-extents cannot be 63; choose 64 to 16777216 extents"),
            (
                with(30, MAX_DIRTY_EXTENTS + 1),
                "v: dirty-extents cannot be 16777217; choose 64 to 16777216 extents",
            ),
        ] {
            let refused = bad.unwrap_err();
            assert_eq!((refused.id.as_str(), refused.to_string().as_str()), ("setting.range", what));
        }
    }

    #[test]
    fn more_queues_than_a_volume_can_have_are_refused() {
        let name = Name::new("v").unwrap();
        let with = |queues| Settings { queues, ..Settings::default() }.check(&name);
        assert!(with(0).is_ok() && with(MAX_QUEUES).is_ok());
        assert_eq!(with(33).unwrap_err().to_string(), "v: queues cannot be 33; choose 1 to 32, or auto");
    }

    #[test]
    fn a_change_leaves_the_rest_alone() {
        let change = SettingsChange { dirty_extents: Some(100), ..SettingsChange::default() };
        let before = Settings {
            plex_timeout_s: 7,
            dirty_extents: 9,
            data: DataPath::Copy,
            queues: 3,
            affinity: Affinity::Any,
            autostart: false,
        };
        let settings = change.applied_to(before);
        assert_eq!(settings, Settings { dirty_extents: 100, ..before });
        assert!(!settings.is_default() && Settings::default().is_default());
    }
}
