//! Which plexes may read as they will not stay, because the process that ran their volume before died with a flush under way
//! or failed ([`crate::device::flushes`]): they are not believed where another is, and after the crash they are written, not
//! compared.
//!
//! | the volume | counts from before | the plex is |
//! | --- | --- | --- |
//! | was stopped in good order | any | as good as its label says |
//! | lives: its device waits | none open | as good: what was in flight is asked for once more |
//! | lives | some open, or none to be found | in doubt |
//! | crashed without its device | found: the host has run on | in doubt: what was in flight is not asked for again |
//! | crashed without its device | none: the power was cut | as good: no cache is left that could mislead |

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::base::{Errno, Uuid};
use crate::control::words::TaskKind;
use crate::device::flushes::Open;
use crate::device::{Flushes, SharedFlushes};
use crate::mover::Limits;
use crate::state::change;
use crate::state::{Volume as Record, VolumeState};
use crate::volume::{Role, Volume};

use super::jobs::{Job, Purpose};
use super::live::Live;
use super::machine::Machine;
use super::owner::{GroupHandle, Owner};

/// Where the flushes of a plex are counted.
pub(super) struct Counted {
    counts: SharedFlushes,
    /// What was open when a process before this one died, if that puts the plex in doubt.
    doubt: Option<Open>,
}

/// Whether a plex is in doubt, by the table above. `known` is whether counts were found; none when that cannot be told.
const fn is_doubted(living: bool, known: Option<bool>, open: Open) -> bool {
    match (living, known) {
        (true, Some(true)) => open.all > 0,
        (false, Some(known)) => known,
        (true, Some(false)) | (true | false, None) => true,
    }
}

/// How much a plex is in doubt, for the choice among several.
const fn rank(doubt: Option<Open>) -> u8 {
    match doubt {
        None => 0,
        Some(Open { failed: 0, .. }) => 1,
        Some(_) => 2,
    }
}

impl<M: Machine> Owner<M> {
    /// Counts of `plex`, and whether they were there before; none when that cannot be told.
    async fn open_counts(self: &Rc<Self>, plex: Uuid) -> (SharedFlushes, Option<bool>) {
        match self.machine.flushes(plex).await {
            Ok(counts) => {
                let known = counts.claim();
                (counts, Some(known))
            }
            Err(error) => {
                tracing::warn!(%plex, %error, "its flushes cannot be counted where a later daemon finds them");
                (SharedFlushes::new(Flushes::default()), None)
            }
        }
    }

    /// Look which plexes of `record`, which does not run yet, are in doubt; those of them that are not to be believed because
    /// another one is in less. `living` is whether its device waits.
    pub(super) async fn find_doubts(self: &Rc<Self>, record: &Record, living: bool) -> BTreeSet<Uuid> {
        for plex in record.plexes() {
            let uuid = plex.uuid();
            if self.flushes.borrow().contains_key(&uuid) {
                continue;
            }
            let (counts, known) = self.open_counts(uuid).await;
            let open = counts.open();
            let doubt = match record.state() {
                VolumeState::Clean | VolumeState::Empty => {
                    counts.settle_all();
                    None
                }
                VolumeState::Active | VolumeState::Sync | VolumeState::NeedSync => {
                    is_doubted(living, known, open).then_some(open)
                }
            };
            if let Some(Open { all, failed }) = doubt {
                let name = plex.name();
                tracing::info!(plex = %name, all, failed, "its last flushes are in doubt: it is written, not compared");
            }
            self.flushes.borrow_mut().insert(uuid, Counted { counts, doubt });
        }
        let flushes = self.flushes.borrow();
        let ranks: Vec<(Uuid, u8)> = record
            .complete_plexes()
            .map(|plex| (plex.uuid(), rank(flushes.get(&plex.uuid()).and_then(|counted| counted.doubt))))
            .collect();
        let least = ranks.iter().map(|(_, rank)| *rank).min().unwrap_or_default();
        ranks.into_iter().filter(|(_, rank)| *rank > least).map(|(plex, _)| plex).collect()
    }

    /// Have the flushes of `volume`, which comes up with `record`, counted; what is in doubt of its plexes until they are made
    /// equal. Where nothing can be made equal, what every readable plex has failed is told by the next flush.
    pub(super) async fn count_flushes(
        self: &Rc<Self>,
        volume: &Volume<M::Medium>,
        record: &Record,
        living: bool,
    ) -> BTreeMap<Uuid, Open> {
        let mut doubts = BTreeMap::new();
        for plex in record.plexes().iter().filter(|plex| plex.is_attached()) {
            let (counts, doubt) = self.counts_of(plex.uuid()).await;
            volume.count_flushes(plex.uuid(), counts);
            doubts.extend(doubt.map(|open| (plex.uuid(), open)));
        }
        let route = volume.route();
        let failed = |plex: Uuid| doubts.get(&plex).is_some_and(|open| open.failed > 0);
        if living && route.readable().next().is_some() && route.readable().all(|plex| failed(plex.uuid)) {
            volume.lose_unheard_flush();
        } else if record.resync().is_none() {
            self.settle_doubts(std::mem::take(&mut doubts));
        }
        doubts
    }

    async fn counts_of(self: &Rc<Self>, plex: Uuid) -> (SharedFlushes, Option<Open>) {
        if let Some(counted) = self.flushes.borrow_mut().get_mut(&plex) {
            return (counted.counts.clone(), counted.doubt.take());
        }
        let (counts, _) = self.open_counts(plex).await;
        self.flushes.borrow_mut().insert(plex, Counted { counts: counts.clone(), doubt: None });
        (counts, None)
    }

    /// Count the flushes of `plex`, which is about to be attached, anew: its map says all that it may lack.
    pub(super) async fn count_anew(self: &Rc<Self>, live: &Live<M>, plex: Uuid) {
        let (counts, _) = self.counts_of(plex).await;
        counts.settle_all();
        live.doubts.borrow_mut().remove(&plex);
        live.volume.count_flushes(plex, counts);
    }

    /// What was in doubt was written and flushed.
    pub(super) fn settle_doubts(&self, doubts: BTreeMap<Uuid, Open>) {
        let flushes = self.flushes.borrow();
        for (plex, open) in doubts {
            if let Some(counted) = flushes.get(&plex) {
                counted.counts.settle(open);
            }
        }
    }

    /// A label of `plex` is about to be written and flushed, and with it all that the plex has.
    pub(super) fn label_flush_begins(&self, plex: Uuid) {
        if let Some(counted) = self.flushes.borrow().get(&plex) {
            counted.counts.begin();
        }
    }

    /// Such a flush has ended. After one that failed no other flush of the plex succeeds ([`crate::device::FinalFlush`]), so
    /// it leaves its volume now, and not when an application asks for a flush.
    pub(super) fn label_flush_ended(self: &Rc<Self>, plex: Uuid, outcome: Result<(), Errno>) {
        if let Some(counted) = self.flushes.borrow().get(&plex) {
            match outcome {
                Ok(()) => counted.counts.went_well(),
                Err(_) => counted.counts.has_failed(),
            }
        }
        let Err(errno) = outcome else { return };
        let on = |live: &Rc<Live<M>>| live.volume.route().plex(plex).is_some();
        if let Some(live) = self.all_live().into_iter().find(on) {
            // Whoever writes labels has the turn of the group, which the record of the loss waits for. The last one that can
            // be read stays, and fails what is asked of it.
            self.machine.spawn(async move {
                let _ = live.keeper.lose(plex, errno).await;
            });
        }
    }

    /// Nobody asks for the counts of a plex any more that is gone.
    pub(super) async fn forget_counts(self: &Rc<Self>, plex: Uuid) {
        self.flushes.borrow_mut().remove(&plex);
        self.machine.forget_flushes(plex).await;
    }

    /// The plex that the others were just made equal to is in doubt itself: it is written from one of them, which is believed
    /// in its place from now on (ordering rule 14).
    pub(super) async fn resync_source(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
    ) -> Option<Job> {
        let uuid = live.volume.shape().uuid;
        let source = group.record().volume_by_id(uuid)?.resync()?.source;
        if !live.doubts.borrow().contains_key(&source) || live.stopping.get() {
            return None;
        }
        let route = live.volume.route();
        let plex = route.plex(source).filter(|plex| plex.role == Role::ReadWrite)?;
        let heir = route.readable().find(|other| other.uuid != source && other.behind.is_clean())?.uuid;
        if let Err(refused) = self.transact(group, |group, _| change::move_authority(group, uuid, heir)).await
        {
            tracing::warn!(volume = %live.name, "the source of its resync stays in doubt: {refused}");
            return None;
        }
        // While it is made equal every bit of the crash is kept.
        live.volume.intent().mark_unflushed(&plex.behind);
        let purpose = Purpose { kind: TaskKind::Recover, fresh: false, limits: Limits::default() };
        self.copy_to(group, live, source, purpose).map_err(|refused| tracing::warn!("{refused}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plex_is_in_doubt_by_what_was_open_and_by_what_is_asked_again() {
        let (none, way, failed) = (Open::default(), Open { all: 1, failed: 0 }, Open { all: 1, failed: 1 });
        for (living, known, open, expected) in [
            (true, Some(true), none, false),
            (true, Some(true), way, true),
            (true, Some(true), failed, true),
            (true, Some(false), none, true),
            (true, None, none, true),
            (false, Some(true), none, true),
            (false, Some(false), none, false),
            (false, None, none, true),
        ] {
            assert_eq!(is_doubted(living, known, open), expected, "{living} {known:?} {open:?}");
        }
        assert!(rank(None) < rank(Some(way)) && rank(Some(way)) < rank(Some(failed)));
    }
}
