//! The route: where the requests of a volume go. Immutable; a change makes a new one and swaps it in.

use std::sync::Arc;

use crate::base::museum::{self, Exhibit};
use crate::base::{ByteRange, Errno, Uuid};
use crate::bitmap::ChangeMap;

/// What a plex in the write path is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Gets every write and serves reads where it is not behind.
    ReadWrite,
    /// Gets every write and serves no read (ordering rule 6).
    WriteOnly,
    /// As `WriteOnly`, and flushes wait for it: it is in step and about to be relied on (ordering rules 4 and 13).
    Joining,
}

/// How the plex of a read is chosen, as `vxvol rdpol` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadPolicy {
    /// One after the other.
    #[default]
    Round,
    /// This plex while it can serve, else round.
    Prefer(Uuid),
}

/// A plex in the write path.
#[derive(Clone)]
pub struct RoutePlex<M> {
    /// Identity of the plex.
    pub uuid: Uuid,
    /// Its medium.
    pub medium: M,
    /// What it is good for.
    pub role: Role,
    /// Regions where it may differ from the others: the copy map of a plex that is being filled, empty for one in step.
    pub behind: Arc<ChangeMap>,
}

/// A plex outside the write path that goes on collecting what it misses.
#[derive(Clone)]
pub struct AbsentPlex {
    /// Identity of the plex.
    pub uuid: Uuid,
    /// What it misses.
    pub behind: Arc<ChangeMap>,
    /// Why it left.
    pub errno: Errno,
    /// Whether its absence is durable on the survivors' labels and in the catalogue. Until it is, nothing is
    /// acknowledged (ordering rule 3).
    pub recorded: bool,
}

/// Where the requests of a volume go.
#[derive(Clone)]
pub struct Route<M> {
    /// Rises with every swap.
    pub version: u64,
    /// Plexes in the write path.
    pub plexes: Vec<RoutePlex<M>>,
    /// Plexes outside it that are tracked.
    pub absent: Vec<AbsentPlex>,
    /// Further change maps that every write is marked in: snapshots, backups, replicas (ordering rule 5).
    pub marks: Vec<Arc<ChangeMap>>,
    /// How the plex of a read is chosen.
    pub policy: ReadPolicy,
}

impl<M: Clone> Route<M> {
    /// A route of these plexes, nothing absent, nothing marked.
    #[must_use]
    pub const fn new(plexes: Vec<RoutePlex<M>>, policy: ReadPolicy) -> Self {
        Self { version: 0, plexes, absent: Vec::new(), marks: Vec::new(), policy }
    }

    /// The plex `uuid`, if it is in the write path.
    #[must_use]
    pub fn plex(&self, uuid: Uuid) -> Option<&RoutePlex<M>> {
        self.plexes.iter().find(|plex| plex.uuid == uuid)
    }

    /// Whether nothing may be acknowledged before a lost plex is recorded.
    #[must_use]
    pub fn has_unrecorded(&self) -> bool {
        self.absent.iter().any(|plex| !plex.recorded)
    }

    /// Whether no plex that serves reads differs from the others anywhere.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.readable().all(|plex| plex.behind.is_clean())
    }

    /// What no plex can serve, because each is behind there; none when there is nothing.
    #[must_use]
    pub fn behind_everywhere(&self) -> Option<ChangeMap> {
        let mut readable = self.readable();
        let common = readable.next()?.behind.copy();
        for plex in readable {
            let only = common.copy();
            only.and_not_from(&plex.behind);
            common.and_not_from(&only);
        }
        (!common.is_clean()).then_some(common)
    }

    /// Plexes that serve reads.
    pub fn readable(&self) -> impl Iterator<Item = &RoutePlex<M>> {
        self.plexes.iter().filter(|plex| plex.role == Role::ReadWrite)
    }

    /// Mark `range` in every change map that a write touches, before it is submitted (ordering rule 5).
    pub fn mark(&self, range: ByteRange) {
        for map in &self.marks {
            map.mark(range);
        }
        if museum::shows(Exhibit::DegradedWriteNotMarked) {
            return;
        }
        for plex in &self.absent {
            plex.behind.mark(range);
        }
    }

    /// This route with `uuid` taken out of the write path and tracked, not yet recorded; unchanged when it is not in.
    #[must_use]
    pub fn without(&self, uuid: Uuid, errno: Errno) -> Self {
        let mut route = self.clone();
        if let Some(at) = route.plexes.iter().position(|plex| plex.uuid == uuid) {
            let plex = route.plexes.remove(at);
            if museum::shows(Exhibit::MapForgottenAtLoss) {
                plex.behind.clear_all();
            }
            route.absent.push(AbsentPlex { uuid, behind: plex.behind, errno, recorded: false });
        }
        route
    }

    /// Every map that must be durable before an intent bit over it is cleared (ordering rule 2).
    #[must_use]
    pub fn maps(&self) -> Vec<Arc<ChangeMap>> {
        let behind = self.plexes.iter().map(|plex| &plex.behind);
        let absent = self.absent.iter().map(|plex| &plex.behind);
        self.marks.iter().chain(behind).chain(absent).map(Arc::clone).collect()
    }
}
