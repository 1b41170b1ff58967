//! The plex machine: VxVM's plex states, and the one function that changes them.
//!
//! ```text
//!              Initialise            Start                     Fail, Detach, Distrust
//!   EMPTY ───────────────► CLEAN ◄────────────► ACTIVE ─────────────────────────────────► STALE ◄──► OFFLINE
//!     │                      │       Stop         ▲ ▲                                      │ ▲
//!     │ Associate            │ Return             │ └──────── Complete(Mirror) ────────────┘ │ Attach, Distrust
//!     └──► STALE             ▼                    │ Break                                    │
//!            ▲    SNAPTMP ► SNAPATT ──────────► SNAPDONE ◄──── Complete(Snapshot) ── STALE   IOFAIL ◄── FailUntracked
//!   TEMP ────┘    Associate   │  Complete         │
//!   Associate                 │ Detach            │ Fail, Detach, Distrust
//!                             └──────► STALE ◄────┘
//! ```
//!
//! Convert makes an ACTIVE plex SNAPDONE, as `vxplex convert` does. TEMP and SNAPTMP hold the name of a plex whose medium
//! is still being made; SNAPATT is being copied. Start removes all three with their space, as VxVM does. A daemon that
//! takes over a living device (Recover) keeps SNAPATT: the volume never stopped, and the copy goes on by its map.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The states of vxinfo(1M) and vxprint(1M).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PlexState {
    /// Not initialised: what it holds is not defined.
    Empty,
    /// Good; its volume is stopped.
    Clean,
    /// In use, or was so at a crash.
    Active,
    /// Lacks data; its map says what, and goes on collecting what it misses.
    Stale,
    /// Failed when it could not be tracked: lacks anything.
    IoFail,
    /// A snapshot mirror that is being copied.
    SnapAtt,
    /// A snapshot mirror in step with its volume.
    SnapDone,
    /// A snapshot mirror whose medium is being made.
    SnapTmp,
    /// A mirror whose medium is being made.
    Temp,
    /// Taken out by hand: associated, not updated.
    Offline,
}

/// How a plex takes part in I/O.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PlexMode {
    /// Gets writes and serves reads.
    RW,
    /// Gets writes, serves no read.
    WO,
    /// Serves reads only.
    RO,
}

/// VxVM's kernel state of a volume or plex, derived here and never stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum KernelState {
    /// Takes part in I/O.
    Enabled,
    /// The volume runs without it.
    Detached,
    /// The volume does not run.
    Disabled,
}

/// What a plex is kept for: decides what it becomes when it is in step again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A copy that the volume relies on.
    #[default]
    Mirror,
    /// A snapshot mirror, to be broken off.
    Snapshot,
}

/// What may happen to a plex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PlexEvent {
    /// Its content is declared the volume's (new and zero, or the first of a new volume).
    Initialise,
    /// Its medium is there; its content is not the volume's.
    Associate,
    /// It begins to get writes while what it lacks is copied.
    Attach,
    /// Everything is copied, the plex is flushed and its map empty.
    Complete(Purpose),
    /// A write or flush failed, or its medium is missing.
    Fail,
    /// As `Fail`, but no map could be made for it.
    FailUntracked,
    /// It leaves without an error: too slow, or its cut was rolled back.
    Detach,
    /// Its content was changed behind our back, or another plex was named as the only truth.
    Distrust,
    /// Its volume is started.
    Start,
    /// A new daemon takes over the volume's living device.
    Recover,
    /// Its volume is stopped cleanly.
    Stop,
    /// A cut breaks it off into a snapshot volume.
    Break,
    /// It goes back from a snapshot volume to the origin.
    Return,
    /// A mirror is made a snapshot mirror.
    Convert,
    /// Taken out by hand.
    TakeOffline,
    /// Taken in again by hand.
    BringOnline,
    /// It is given up, with its space.
    Remove,
}

/// What has to happen along with a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PlexAction {
    /// The data path sends writes to it (and reads when its mode is RW).
    JoinRoute,
    /// The data path leaves it out.
    LeaveRoute,
    /// A map with all bits set.
    FullMap,
    /// A map that has at least every intent bit now set (ordering rule 3); one that exists is added to.
    SeedMap,
    /// Its map is not needed any more.
    RetireMap,
    /// The plexes that remain in step get a new data-generation id (ordering rule 16).
    NewGeneration,
    /// Its record and its space go.
    Release,
}

/// The event does not fit the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongState {
    /// The state that stays.
    pub state: PlexState,
    /// The event that was refused.
    pub event: PlexEvent,
}

/// A step that was taken: the state after it and what goes along with it.
pub type PlexStep = (PlexState, &'static [PlexAction]);

impl PlexState {
    /// All states, in the order of the table tests.
    pub const ALL: [Self; 10] = [
        Self::Empty,
        Self::Clean,
        Self::Active,
        Self::Stale,
        Self::IoFail,
        Self::SnapAtt,
        Self::SnapDone,
        Self::SnapTmp,
        Self::Temp,
        Self::Offline,
    ];

    /// The state after `event`, and what goes along with it.
    ///
    /// # Errors
    /// [`WrongState`] when the event cannot happen to a plex in this state; nothing changes.
    pub const fn step(self, event: PlexEvent) -> Result<PlexStep, WrongState> {
        use PlexAction::{FullMap, JoinRoute, LeaveRoute, NewGeneration, Release, RetireMap, SeedMap};
        use PlexEvent as E;
        use PlexState::{Active, Clean, Empty, IoFail, Offline, SnapAtt, SnapDone, SnapTmp, Stale, Temp};
        let refused = Err(WrongState { state: self, event });
        match event {
            E::Initialise => match self {
                Empty => Ok((Clean, &[])),
                Clean | Active | Stale | IoFail | SnapAtt | SnapDone | SnapTmp | Temp | Offline => refused,
            },
            E::Associate => match self {
                Empty | Temp => Ok((Stale, &[FullMap])),
                SnapTmp => Ok((SnapAtt, &[FullMap])),
                Clean | Active | Stale | IoFail | SnapAtt | SnapDone | Offline => refused,
            },
            E::Attach => match self {
                Stale => Ok((Stale, &[JoinRoute])),
                SnapAtt => Ok((SnapAtt, &[JoinRoute])),
                IoFail => Ok((Stale, &[FullMap, JoinRoute])),
                Empty | Clean | Active | SnapDone | SnapTmp | Temp | Offline => refused,
            },
            E::Complete(Purpose::Mirror) => match self {
                Stale => Ok((Active, &[RetireMap])),
                Empty | Clean | Active | IoFail | SnapAtt | SnapDone | SnapTmp | Temp | Offline => refused,
            },
            E::Complete(Purpose::Snapshot) => match self {
                SnapAtt | Stale => Ok((SnapDone, &[RetireMap])),
                Empty | Clean | Active | IoFail | SnapDone | SnapTmp | Temp | Offline => refused,
            },
            E::Fail => match self {
                Active | Clean => Ok((Stale, &[LeaveRoute, SeedMap, NewGeneration])),
                // A snapshot mirror out of step says nothing about who may start alone: no new id for its sake.
                SnapDone | Stale => Ok((Stale, &[LeaveRoute, SeedMap])),
                SnapAtt | SnapTmp | Temp => Ok((self, &[LeaveRoute, Release])),
                IoFail | Offline => Ok((self, &[])),
                Empty => refused,
            },
            E::FailUntracked => match self {
                Active | Clean => Ok((IoFail, &[LeaveRoute, NewGeneration])),
                SnapDone => Ok((IoFail, &[LeaveRoute])),
                Stale => Ok((IoFail, &[LeaveRoute, RetireMap])),
                SnapAtt | SnapTmp | Temp => Ok((self, &[LeaveRoute, Release])),
                IoFail | Offline => Ok((self, &[])),
                Empty => refused,
            },
            E::Detach => match self {
                Active => Ok((Stale, &[LeaveRoute, SeedMap, NewGeneration])),
                SnapAtt | SnapDone | Stale => Ok((Stale, &[LeaveRoute, SeedMap])),
                Empty | Clean | IoFail | SnapTmp | Temp | Offline => refused,
            },
            E::Distrust => match self {
                Active | Clean => Ok((Stale, &[LeaveRoute, FullMap, NewGeneration])),
                SnapAtt | SnapDone | Stale | IoFail => Ok((Stale, &[LeaveRoute, FullMap])),
                Offline => Ok((Offline, &[])),
                Empty | SnapTmp | Temp => refused,
            },
            E::Start => match self {
                Clean | Active => Ok((Active, &[JoinRoute])),
                SnapDone => Ok((SnapDone, &[JoinRoute])),
                Stale => Ok((Stale, &[LeaveRoute])),
                SnapAtt | SnapTmp | Temp => Ok((self, &[Release])),
                IoFail | Offline => Ok((self, &[])),
                Empty => refused,
            },
            E::Recover => match self {
                Active => Ok((Active, &[JoinRoute])),
                SnapDone => Ok((SnapDone, &[JoinRoute])),
                SnapAtt => Ok((SnapAtt, &[JoinRoute])),
                Stale => Ok((Stale, &[LeaveRoute])),
                SnapTmp | Temp => Ok((self, &[Release])),
                IoFail | Offline => Ok((self, &[])),
                Empty | Clean => refused,
            },
            E::Stop => match self {
                Active => Ok((Clean, &[LeaveRoute])),
                SnapDone | Stale | SnapAtt => Ok((self, &[LeaveRoute])),
                IoFail | Offline | SnapTmp | Temp => Ok((self, &[])),
                Empty | Clean => refused,
            },
            E::Break => match self {
                SnapDone => Ok((Active, &[])),
                Empty | Clean | Active | Stale | IoFail | SnapAtt | SnapTmp | Temp | Offline => refused,
            },
            E::Return => match self {
                Clean => Ok((SnapAtt, &[JoinRoute])),
                Empty | Active | Stale | IoFail | SnapAtt | SnapDone | SnapTmp | Temp | Offline => refused,
            },
            E::Convert => match self {
                Active => Ok((SnapDone, &[])),
                Empty | Clean | Stale | IoFail | SnapAtt | SnapDone | SnapTmp | Temp | Offline => refused,
            },
            E::TakeOffline => match self {
                // What it misses from now on is not collected, so its map ends here.
                Stale => Ok((Offline, &[LeaveRoute, RetireMap])),
                IoFail => Ok((Offline, &[])),
                Empty | Clean | Active | SnapAtt | SnapDone | SnapTmp | Temp | Offline => refused,
            },
            E::BringOnline => match self {
                Offline => Ok((Stale, &[FullMap])),
                Empty | Clean | Active | Stale | IoFail | SnapAtt | SnapDone | SnapTmp | Temp => refused,
            },
            E::Remove => match self {
                Active | Clean => Ok((self, &[LeaveRoute, NewGeneration, Release])),
                Stale | SnapAtt | SnapDone => Ok((self, &[LeaveRoute, Release])),
                Empty | IoFail | SnapTmp | Temp | Offline => Ok((self, &[Release])),
            },
        }
    }

    /// Whether the plex alone holds every acknowledged write of its volume.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        match self {
            Self::Clean | Self::Active => true,
            Self::Empty
            | Self::Stale
            | Self::IoFail
            | Self::SnapAtt
            | Self::SnapDone
            | Self::SnapTmp
            | Self::Temp
            | Self::Offline => false,
        }
    }

    /// Whether a plex in this state has a map of what it lacks.
    #[must_use]
    pub const fn has_map(self) -> bool {
        match self {
            Self::Stale | Self::SnapAtt => true,
            Self::Empty
            | Self::Clean
            | Self::Active
            | Self::IoFail
            | Self::SnapDone
            | Self::SnapTmp
            | Self::Temp
            | Self::Offline => false,
        }
    }

    /// The mode in which a plex in this state takes part in I/O once it is in the route.
    #[must_use]
    pub const fn mode(self) -> PlexMode {
        match self {
            Self::Empty | Self::Clean | Self::Active => PlexMode::RW,
            Self::Stale
            | Self::IoFail
            | Self::SnapAtt
            | Self::SnapDone
            | Self::SnapTmp
            | Self::Temp
            | Self::Offline => PlexMode::WO,
        }
    }

    /// VxVM's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Empty => "EMPTY",
            Self::Clean => "CLEAN",
            Self::Active => "ACTIVE",
            Self::Stale => "STALE",
            Self::IoFail => "IOFAIL",
            Self::SnapAtt => "SNAPATT",
            Self::SnapDone => "SNAPDONE",
            Self::SnapTmp => "SNAPTMP",
            Self::Temp => "TEMP",
            Self::Offline => "OFFLINE",
        }
    }
}

impl fmt::Display for PlexState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The text is none of VxVM's plex states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAPlexState;

impl FromStr for PlexState {
    type Err = NotAPlexState;
    fn from_str(text: &str) -> Result<Self, NotAPlexState> {
        Self::ALL.into_iter().find(|state| state.word() == text).ok_or(NotAPlexState)
    }
}

impl fmt::Display for PlexMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RW => "RW",
            Self::WO => "WO",
            Self::RO => "RO",
        })
    }
}

impl fmt::Display for KernelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Enabled => "ENABLED",
            Self::Detached => "DETACHED",
            Self::Disabled => "DISABLED",
        })
    }
}

impl PlexEvent {
    /// All events, in the order of the table tests.
    pub const ALL: [Self; 18] = [
        Self::Initialise,
        Self::Associate,
        Self::Attach,
        Self::Complete(Purpose::Mirror),
        Self::Complete(Purpose::Snapshot),
        Self::Fail,
        Self::FailUntracked,
        Self::Detach,
        Self::Distrust,
        Self::Start,
        Self::Recover,
        Self::Stop,
        Self::Break,
        Self::Return,
        Self::Convert,
        Self::TakeOffline,
        Self::BringOnline,
        Self::Remove,
    ];

    /// The event as a person is told that it cannot happen: completes "the plex cannot ".
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Initialise => "be initialised",
            Self::Associate => "be associated",
            Self::Attach => "be attached",
            Self::Complete(Purpose::Mirror) => "become ACTIVE",
            Self::Complete(Purpose::Snapshot) => "become SNAPDONE",
            Self::Fail | Self::FailUntracked => "fail",
            Self::Detach => "be detached",
            Self::Distrust => "be distrusted",
            Self::Start => "be started",
            Self::Recover => "be taken over",
            Self::Stop => "be stopped",
            Self::Break => "be broken off",
            Self::Return => "be given back",
            Self::Convert => "be converted",
            Self::TakeOffline => "be taken offline",
            Self::BringOnline => "be brought online",
            Self::Remove => "be removed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns as in [`PlexState::ALL`]; `-` is a refusal, `=` the same state; then J join, L leave, F full map, S seed
    /// map, R retire map, G new generation, X release.
    const TABLE: [[&str; 10]; 18] = [
        // EMPTY     CLEAN        ACTIVE       STALE         IOFAIL      SNAPATT     SNAPDONE    SNAPTMP     TEMP       OFFLINE
        ["CLEAN", "-", "-", "-", "-", "-", "-", "-", "-", "-"],
        ["STALE F", "-", "-", "-", "-", "-", "-", "SNAPATT F", "STALE F", "-"],
        ["-", "-", "-", "= J", "STALE FJ", "= J", "-", "-", "-", "-"],
        ["-", "-", "-", "ACTIVE R", "-", "-", "-", "-", "-", "-"],
        ["-", "-", "-", "SNAPDONE R", "-", "SNAPDONE R", "-", "-", "-", "-"],
        ["-", "STALE LSG", "STALE LSG", "= LS", "=", "= LX", "STALE LS", "= LX", "= LX", "="],
        ["-", "IOFAIL LG", "IOFAIL LG", "IOFAIL LR", "=", "= LX", "IOFAIL L", "= LX", "= LX", "="],
        ["-", "-", "STALE LSG", "= LS", "-", "STALE LS", "STALE LS", "-", "-", "-"],
        ["-", "STALE LFG", "STALE LFG", "= LF", "STALE LF", "STALE LF", "STALE LF", "-", "-", "="],
        ["-", "ACTIVE J", "= J", "= L", "=", "= X", "= J", "= X", "= X", "="],
        ["-", "-", "= J", "= L", "=", "= J", "= J", "= X", "= X", "="],
        ["-", "-", "CLEAN L", "= L", "=", "= L", "= L", "=", "=", "="],
        ["-", "-", "-", "-", "-", "-", "ACTIVE", "-", "-", "-"],
        ["-", "SNAPATT J", "-", "-", "-", "-", "-", "-", "-", "-"],
        ["-", "-", "SNAPDONE", "-", "-", "-", "-", "-", "-", "-"],
        ["-", "-", "-", "OFFLINE LR", "OFFLINE", "-", "-", "-", "-", "-"],
        ["-", "-", "-", "-", "-", "-", "-", "-", "-", "STALE F"],
        ["= X", "= LGX", "= LGX", "= LX", "= X", "= LX", "= LX", "= X", "= X", "= X"],
    ];

    fn letter(action: PlexAction) -> char {
        match action {
            PlexAction::JoinRoute => 'J',
            PlexAction::LeaveRoute => 'L',
            PlexAction::FullMap => 'F',
            PlexAction::SeedMap => 'S',
            PlexAction::RetireMap => 'R',
            PlexAction::NewGeneration => 'G',
            PlexAction::Release => 'X',
        }
    }

    #[test]
    fn every_pair_of_state_and_event_is_as_the_table_says() {
        for (event, row) in PlexEvent::ALL.into_iter().zip(TABLE) {
            for (state, expected) in PlexState::ALL.into_iter().zip(row) {
                let seen = match state.step(event) {
                    Err(refused) => {
                        assert_eq!(refused, WrongState { state, event });
                        "-".to_owned()
                    }
                    Ok((next, actions)) => {
                        let word = if next == state { "=" } else { next.word() };
                        let letters: String = actions.iter().map(|action| letter(*action)).collect();
                        format!("{word} {letters}").trim_end().to_owned()
                    }
                };
                assert_eq!(seen, expected, "{state} on {event:?}");
            }
        }
    }

    #[test]
    fn a_map_is_there_exactly_where_the_state_needs_one() {
        for state in PlexState::ALL {
            for event in PlexEvent::ALL {
                let Ok((next, actions)) = state.step(event) else { continue };
                if actions.contains(&PlexAction::Release) || event == PlexEvent::Return {
                    // A returning plex gets the union of its snapshot's maps from the change that returns it.
                    continue;
                }
                let mut map = state.has_map();
                for action in actions {
                    match action {
                        PlexAction::FullMap | PlexAction::SeedMap => map = true,
                        PlexAction::RetireMap => map = false,
                        PlexAction::JoinRoute
                        | PlexAction::LeaveRoute
                        | PlexAction::NewGeneration
                        | PlexAction::Release => {}
                    }
                }
                assert_eq!(map, next.has_map(), "{state} on {event:?}");
            }
        }
    }

    #[test]
    fn words_print_and_parse_back() {
        for state in PlexState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
        }
        assert_eq!("active".parse::<PlexState>(), Err(NotAPlexState));
    }
}
