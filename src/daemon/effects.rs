//! The effects of a configuration change, carried out: the quick ones inside the transaction, before and after its commit.
//! Those that take their time are given back to the caller.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::{Errno, FaultPoint, Generation, Refused, Uuid};
use crate::bitmap::{ChangeMap, ExtentMap};
use crate::catalog::files::{intent_file_name, map_file_name};
use crate::device::Host;
use crate::ring::Allocation;
use crate::state::Group;
use crate::state::change::{Change, Effect, MapFill};
use crate::volume::MapFile;
use crate::volume::map_file::MapIdentity;

use super::machine::{Machine, Ring};
use super::owner::{GroupHandle, Owner, system};

/// The plexes of `volume` that `effects` take out of the write path.
fn detached(effects: &[Effect], volume: Uuid) -> Vec<Uuid> {
    let leaves = |effect: &Effect| match effect {
        Effect::Detach { volume: of, plex } if *of == volume => Some(*plex),
        _ => None,
    };
    effects.iter().filter_map(leaves).collect()
}

impl<M: Machine> Owner<M> {
    /// Carry out `effect`, which follows those that are `done`, before the commit of `change`.
    pub(super) async fn before_commit(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        change: &Change,
        done: &[Effect],
        effect: &Effect,
    ) -> Result<(), Refused> {
        let next = &change.group;
        match effect {
            Effect::CreateMap { map, volume, fill } => {
                self.create_map(group, next, *map, *volume, fill).await
            }
            Effect::AddToMap { map, volume, fill } => self.add_to_map(group, *map, *volume, fill).await,
            Effect::CreateIntent { volume, length } => self.create_intent(group, *volume, *length).await,
            // The first one takes out all that leave the volume in this transaction.
            Effect::Detach { volume, .. } => match self.live(*volume) {
                Some(live) if detached(done, *volume).is_empty() => {
                    live.detach(&detached(&change.before_commit, *volume));
                    Ok(())
                }
                Some(_) | None => Ok(()),
            },
            // A volume is stopped before the transaction that says so: its keeper may need one itself meanwhile.
            Effect::StopDevice { volume, .. } => {
                assert!(self.live(*volume).is_none(), "a volume is stopped before its record is");
                Ok(())
            }
            Effect::RemoveMap { .. }
            | Effect::RemoveIntent { .. }
            | Effect::RemoveArchive { .. }
            | Effect::Allocate { .. }
            | Effect::Release { .. }
            | Effect::Attach { .. }
            | Effect::Copy { .. }
            | Effect::Resync { .. }
            | Effect::StartDevice { .. } => unreachable!("{effect:?} is never due before a commit"),
        }
    }

    /// Take back what was done before a commit that did not come. A plex that was taken out of the write path stays out:
    /// its keeper has the loss recorded as any other.
    pub(super) async fn undo(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, done: &[Effect]) {
        for effect in done.iter().rev() {
            match effect {
                Effect::CreateMap { map, .. } => self.remove_map(group, *map).await,
                Effect::CreateIntent { volume, .. } => {
                    self.remove_state_file(group, intent_file_name(*volume)).await
                }
                // More bits than needed cost a longer copy.
                Effect::AddToMap { .. } | Effect::Detach { .. } | Effect::StopDevice { .. } => {}
                Effect::RemoveMap { .. }
                | Effect::RemoveIntent { .. }
                | Effect::RemoveArchive { .. }
                | Effect::Allocate { .. }
                | Effect::Release { .. }
                | Effect::Attach { .. }
                | Effect::Copy { .. }
                | Effect::Resync { .. }
                | Effect::StartDevice { .. } => unreachable!("{effect:?} is never due before a commit"),
            }
        }
    }

    /// Carry out `effect` after the commit if it is a quick one, else give it back. What fails here is found and repeated at
    /// the next start. Plexes whose media are freed are added to `released`.
    pub(super) async fn after_commit(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        effect: Effect,
        released: &mut Vec<Uuid>,
    ) -> Option<Effect> {
        match effect {
            Effect::RemoveMap { map } => self.remove_map(group, map).await,
            Effect::RemoveArchive { file } => self.remove_state_file(group, file).await,
            Effect::RemoveIntent { volume } => {
                self.machine.forget_unflushed(volume).await;
                self.remove_state_file(group, intent_file_name(volume)).await;
            }
            Effect::Release { plex, medium, length } => {
                if self.release(plex, &medium, length).await {
                    released.push(plex);
                    FaultPoint::MediumFreed.reached();
                }
            }
            Effect::CreateMap { .. }
            | Effect::AddToMap { .. }
            | Effect::CreateIntent { .. }
            | Effect::Allocate { .. }
            | Effect::Attach { .. }
            | Effect::Detach { .. }
            | Effect::Copy { .. }
            | Effect::Resync { .. }
            | Effect::StartDevice { .. }
            | Effect::StopDevice { .. } => return Some(effect),
        }
        None
    }

    /// Plexes that were taken out in the transaction and have no map are not tracked any more; the others are recorded.
    pub(super) fn settle_absent(self: &Rc<Self>, before: &Group, after: &Group) {
        // The keeper learns that what was taken out is in the record, also where no write makes it ask.
        for live in self.live.borrow().values().filter(|live| live.volume.route().has_unrecorded()) {
            live.volume.settle();
        }
        // Nor are those that are OFFLINE or IOFAIL. One that its keeper has just taken out is in the record as it was.
        for volume in after.volumes() {
            let is_out = |plex: Uuid| {
                volume.plex_by_id(plex).is_some_and(|plex| plex.map().is_none() && !plex.is_attached())
            };
            if let Some(live) = self.live(volume.uuid())
                && live.volume.route().absent.iter().any(|plex| is_out(plex.uuid))
            {
                live.volume.forget_absent(is_out);
            }
        }
        let gone: BTreeSet<Uuid> = before
            .volumes()
            .iter()
            .flat_map(|volume| volume.plexes().iter().map(move |plex| (volume.uuid(), plex.uuid())))
            .filter(|(volume, plex)| {
                after.volume_by_id(*volume).and_then(|volume| volume.plex_by_id(*plex)).is_none()
            })
            .map(|(_, plex)| plex)
            .collect();
        if gone.is_empty() {
            return;
        }
        for live in self.live.borrow().values() {
            live.volume.forget_absent(|plex| gone.contains(&plex));
            live.abort_jobs(|plex| gone.contains(&plex));
        }
        self.media.borrow_mut().retain(|plex, _| !gone.contains(plex) || after.plex_by_id(*plex).is_some());
    }

    async fn create_map(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        next: &Group,
        map: Uuid,
        volume: Uuid,
        fill: &MapFill,
    ) -> Result<(), Refused> {
        let record = next.volume_by_id(volume).ok_or_else(|| system(volume, "is gone", Errno::GONE))?;
        let live = self.live(volume);
        // A plex that left the write path collects in a map already: it is this one.
        let owner = record.plexes().iter().find(|plex| plex.map() == Some(map)).map(|plex| plex.uuid());
        let collecting = live.as_ref().and_then(|live| {
            let route = live.volume.route();
            let absent = route.absent.iter().find(|absent| Some(absent.uuid) == owner)?;
            Some(Arc::clone(&absent.behind))
        });
        let in_memory =
            collecting.unwrap_or_else(|| Arc::new(ChangeMap::new(record.length(), record.region_size())));
        if let (Some(live), MapFill::Union(_)) = (&live, fill) {
            live.track(&self.keepers, Arc::clone(&in_memory))
                .await
                .map_err(|errno| system(record.name(), "a change map cannot be put in force", errno))?;
        }
        self.maps.borrow_mut().insert(map, Arc::clone(&in_memory));
        let made = async {
            self.fill(&in_memory, volume, fill).await?;
            let identity = MapIdentity::change(map, volume, &in_memory);
            // The map of a snapshot volume to be is kept by that volume's keeper, and of no run yet.
            let theirs = record.prepared().is_some_and(|cut| cut.snapshot_map == map);
            let run = if theirs { Generation(0) } else { record.run() };
            let file = self.make_state_file(group, map_file_name(map), identity, run).await?;
            match live.filter(|_| !theirs) {
                Some(live) => live.keeper.add_map(Arc::clone(&in_memory), file).await,
                None => self.write_all(Arc::clone(&in_memory), file).await,
            }
            .map_err(|errno| system(record.name(), "a change map cannot be written", errno))
        }
        .await;
        if made.is_err() {
            self.remove_map(group, map).await;
        }
        made
    }

    async fn add_to_map(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        map: Uuid,
        volume: Uuid,
        fill: &MapFill,
    ) -> Result<(), Refused> {
        let (live, in_memory) = (self.live(volume), self.maps.borrow().get(&map).cloned());
        match (live, in_memory, fill) {
            (Some(live), Some(in_memory), _) => {
                self.fill(&in_memory, volume, fill).await?;
                let persisted = live.keeper.persist().await;
                persisted.map_err(|errno| system(&live.name, "a change map cannot be written", errno))
            }
            // Nobody keeps its file, and once this is committed nothing else tells that all of it is needed.
            (_, _, MapFill::Full) => self.fill_stopped_map(group, volume, map).await,
            (_, Some(in_memory), _) => self.fill(&in_memory, volume, fill).await,
            // It is loaded when its volume comes up, with the intent (ordering rule 5).
            (_, None, MapFill::Empty | MapFill::Intent | MapFill::Union(_)) => Ok(()),
        }
    }

    async fn fill(
        self: &Rc<Self>,
        map: &Arc<ChangeMap>,
        volume: Uuid,
        fill: &MapFill,
    ) -> Result<(), Refused> {
        match fill {
            MapFill::Empty => {}
            MapFill::Full => map.mark_all(),
            MapFill::Intent => match self.live(volume) {
                Some(live) => map.or_extents(live.volume.intent().durable()),
                // Not running: nothing is known of what is unflushed.
                None => map.mark_all(),
            },
            MapFill::Union(others) => {
                for other in others {
                    match self.maps.borrow().get(other) {
                        Some(other) => map.or_from(other),
                        None => map.mark_all(),
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) async fn create_intent(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        length: u64,
    ) -> Result<(), Refused> {
        let identity = MapIdentity::intent(volume, &ExtentMap::new(length));
        self.make_state_file(group, intent_file_name(volume), identity, Generation(0)).await.map(drop)
    }

    /// Make the preallocated file of a map with its header; what stands there from an interrupted attempt is replaced.
    async fn make_state_file(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        name: String,
        identity: MapIdentity,
        run: Generation,
    ) -> Result<MapFile<M::Medium>, Refused> {
        let path = group.file(&name);
        let bytes = identity.file_bytes();
        // A file of that name belongs to no record, whose identity was just made, or holds nothing that counts.
        let _ = self.machine.remove_durably(&path).await;
        let medium = self.machine.create_file(&path, bytes, Allocation::Full).await?;
        let created = medium.clone();
        let header = self
            .keepers
            .run(move |host| async move { MapFile::new(host.open(&created), identity, run).create().await });
        let written = header.await.unwrap_or(Err(Errno::IO));
        written.map_err(|errno| system(group.file(&name).display(), "cannot be written", errno))?;
        let file = MapFile::new(medium, identity, run);
        file.was_created();
        Ok(file)
    }

    /// Write all of a map whose volume does not run.
    async fn write_all(self: &Rc<Self>, map: Arc<ChangeMap>, file: MapFile<M::Medium>) -> Result<(), Errno> {
        let written = self.keepers.run(move |host| async move {
            let file = file.on(|medium| host.open(medium));
            let due = map.bits().take_dirty_pages();
            file.write_pages(map.bits(), &due).await
        });
        written.await.unwrap_or(Err(Errno::IO))
    }

    async fn remove_map(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, map: Uuid) {
        if let Some(in_memory) = self.maps.borrow_mut().remove(&map) {
            for live in self.live.borrow().values() {
                live.volume.forget_mark(&in_memory);
                live.keeper.remove_map(Arc::clone(&in_memory));
            }
        }
        self.remove_state_file(group, map_file_name(map)).await;
    }

    async fn remove_state_file(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, name: String) {
        let path = group.file(&name);
        if let Err(error) = self.machine.remove_durably(&path).await {
            tracing::warn!(path = %path.display(), %error, "a state file cannot be removed");
        }
    }
}
