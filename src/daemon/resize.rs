//! A volume becomes longer, while it runs where the kernel can, or shorter, while it is stopped.
//!
//! The order, for a volume that becomes longer: BEGUN is recorded; every medium gets its room, a label of the new length at its
//! new place, and zeroes where the volume will reach; RECORDED is committed with the new length; the label's old place, which
//! belongs to the data now, is zeroed; SETTLED is recorded; the device gets the new length; done. For one that becomes
//! shorter: BEGUN, RECORDED, labels at their new places, the old ones gone, files cut off, done. Nothing that the length in
//! force reaches is touched before RECORDED. Whoever finds a volume between two of these steps goes on from there, or back to
//! the old length where it is still BEGUN.

use std::rc::Rc;

use crate::base::limits::{LABEL_AREA_BYTES, MIB};
use crate::base::units::{exact_bytes, human_bytes};
use crate::base::{ByteRange, Errno, FaultPoint, Generation, Kind, Name, Refusal, Refused, Uuid};
use crate::bitmap::ExtentMap;
use crate::catalog::Committed;
use crate::catalog::filesystem::{Content, content};
use crate::catalog::labels::label_of;
use crate::control::reply::Resized;
use crate::control::request::{self, Length};
use crate::control::words::TaskKind;
use crate::control::{Reply, What};
use crate::device::Host;
use crate::mover::{self, Control, Ended};
use crate::ring::{Allocation, Fault};
use crate::state::change::{self, Presence, StartArgs};
use crate::state::{Group, MediumKind, Plex, ResizeStage, Volume, medium_bytes, refuse};
use crate::volume::HANGS_AFTER;
use crate::volume::map_file::MapIdentity;

use super::events::News;
use super::labels::LabelWork;
use super::larger::{self, Standing};
use super::live::Live;
use super::machine::{Machine, OpenMedium, Ring};
use super::owner::{GroupHandle, Owner, system};
use super::server::Answer;

impl<M: Machine> Owner<M> {
    pub(super) async fn resize(
        self: &Rc<Self>,
        request: request::Resize,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        let _alone = self.alone_with(&group, &request.volume).await?;
        group.is_settled()?;
        let record = group.record();
        let volume = record.volume(request.volume.as_str())?;
        let (uuid, before) = (volume.uuid(), volume.length());
        let length = wanted(volume, request.length)?;
        refuse::check_length(length)?;
        let live = self.live(uuid);
        let (mut held, mut mounts) = (None, Vec::new());
        match &live {
            Some(live) if length == before => self.end_resize(&group, live).await?,
            Some(live) => self.grow_started(&group, live, length).await?,
            None if volume.state().is_started() => {
                return Err(not_served(volume));
            }
            None if length == before && volume.resizing().is_none() => {}
            None => held = self.resize_stopped(&group, uuid, length, request.force).await?,
        }
        if let Some(live) = live.as_ref().filter(|_| length > before) {
            held = self.held_by(&record, uuid).await;
            mounts = match live.number.get() {
                // Where that cannot be told its device is named.
                Some(number) => self.machine.mounts(number).await.unwrap_or_default(),
                None => Vec::new(),
            };
        }
        let next = held.filter(|_| length > before).map(|holds| {
            let place = match (&live, mounts.first()) {
                (None, _) => Standing::Stopped,
                (Some(_), None) => Standing::Started,
                (Some(_), Some(point)) => Standing::Mounted(point),
            };
            (holds, larger::command(holds, &group.name, &request.volume, place))
        });
        if length != before {
            let text = format!("has {} now, and had {}", human_bytes(length), human_bytes(before));
            let news = News::new(What::VolumeResized, text);
            self.events.raise(self.news_about(news, uuid, None));
        }
        self.answer_volume(&group, uuid, answer).await;
        Ok(Reply::Resized(Resized {
            volume: request.volume,
            before_bytes: before,
            length_bytes: length,
            lost_bytes: before.saturating_sub(length),
            online: live.is_some(),
            holds: next.as_ref().and_then(|(holds, _)| holds.name()).map(str::to_owned),
            next_command: next.and_then(|(_, command)| command),
            elapsed_ms: self.millis_since(began),
        }))
    }

    /// The length that `request` asks for, where it can be had.
    pub(super) async fn may_resize(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        request: &request::Resize,
    ) -> Result<u64, Refused> {
        group.is_settled()?;
        let record = group.record();
        let volume = record.volume(request.volume.as_str())?;
        let length = wanted(volume, request.length)?;
        refuse::check_length(length)?;
        if length == volume.length() {
            return Ok(length);
        }
        match self.live(volume.uuid()) {
            Some(live) => self.may_grow_started(group, &live, length).await?,
            None if volume.state().is_started() => return Err(not_served(volume)),
            None => {
                let found = self.look_at_media(group, volume.uuid(), false).await;
                let may = match &found {
                    Ok(media) => self.may_resize_at_rest(&record, volume, length, request.force, media).await,
                    Err(refused) => Err(refused.clone()),
                };
                self.close_media(volume);
                may?;
            }
        }
        Ok(length)
    }

    async fn may_grow_started(
        &self,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        length: u64,
    ) -> Result<(), Refused> {
        let name = &live.name;
        change::resize_begin(&group.record(), name.as_str(), length)?;
        let offline = || {
            format!(
                "unmount it, then: cleave stop {name}; cleave resize {name} {}s; cleave start {name}",
                length / 512
            )
        };
        if !self.machine.can_resize().await {
            let reason = "this kernel cannot change the length of a device in use (ublk's UPDATE_SIZE, from Linux 6.16 on)";
            return Err(Refusal::new(Kind::System, "resize.kernel", name, reason, offline()));
        }
        if !live.volume.has_room_for(length) {
            let reason = "its maps in memory cannot become that much longer while it runs";
            return Err(Refusal::new(Kind::System, "resize.maps", name, reason, offline()));
        }
        live.check_stays()?;
        if !live.jobs.borrow().is_empty() {
            let reason = "a task works on it";
            let way_out = "wait for it, or end it: cleave task list";
            return Err(Refusal::new(Kind::Busy, "resize.task", name, reason, way_out));
        }
        Ok(())
    }

    /// A volume that runs becomes longer under whoever uses it.
    async fn grow_started(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        length: u64,
    ) -> Result<(), Refused> {
        let (name, uuid) = (&live.name, live.volume.shape().uuid);
        self.may_grow_started(group, live, length).await?;
        self.transact(group, |group, _| change::resize_begin(group, name.as_str(), length)).await?;
        FaultPoint::ResizeBegun.reached();
        if let Err(refused) = self.get_ready(group, uuid, length).await {
            // What cannot be taken back now is when it starts next.
            if let Err(later) = self.settle_resize(group, uuid).await {
                tracing::warn!(
                    "a change of length that did not come is taken back at the next start: {later}"
                );
            }
            return Err(refused);
        }
        FaultPoint::ResizeRecorded.reached();
        let in_memory = async {
            let bits = MapIdentity::intent(uuid, &ExtentMap::new(length)).file_bytes();
            if live.intent_medium.length() < bits {
                self.machine.enlarge(&live.intent_medium, bits, Allocation::Full).await?;
            }
            let grown = live.grow(&self.keepers, length).await;
            grown.map_err(|errno| system(name, "its maps cannot be made longer", errno))
        };
        in_memory.await.map_err(|refused| half_way(name, &refused))?;
        self.settle_resize(group, uuid).await.map_err(|refused| half_way(name, &refused))?;
        FaultPoint::ResizeSettled.reached();
        self.end_resize(group, live).await.map_err(|refused| half_way(name, &refused))
    }

    /// Have the device of a volume that runs show the length that counts, where it is not known to; then nothing is left of a
    /// change of it.
    pub(super) async fn end_resize(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
    ) -> Result<(), Refused> {
        let record = group.record();
        let uuid = live.volume.shape().uuid;
        let Some(volume) = record.volume_by_id(uuid).filter(|volume| volume.resizing().is_some()) else {
            return Ok(());
        };
        if volume.resizing().is_some_and(|resizing| resizing.stage != ResizeStage::Settled)
            || live.volume.shape().geometry.length != volume.length()
        {
            return change::resize_begin(&record, volume.name().as_str(), volume.length()).map(drop);
        }
        if let Some(number) = live.number.get() {
            self.machine.resize(number, volume.length()).await?;
        }
        FaultPoint::ResizeShown.reached();
        self.transact(group, |group, _| change::resize_done(group, uuid)).await.map(drop)
    }

    /// A stopped volume becomes longer or shorter; what it holds, where that can be told.
    async fn resize_stopped(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        uuid: Uuid,
        length: u64,
        force: bool,
    ) -> Result<Option<Content>, Refused> {
        let found = self.look_at_media(group, uuid, false).await;
        let outcome = async {
            let media = found?;
            if group.record().volume_by_id(uuid).is_some_and(|volume| volume.resizing().is_some()) {
                self.settle_resize(group, uuid).await?;
                self.transact(group, |group, _| change::resize_done(group, uuid)).await?;
            }
            self.resize_at_rest(group, uuid, length, force, &media).await
        };
        let outcome = outcome.await;
        let record = group.record();
        let held = self.held_by(&record, uuid).await;
        if let Some(volume) = record.volume_by_id(uuid) {
            // Only what was written to by this: a file that somebody has changed is not to pass for one that was not.
            if volume.plexes().iter().all(|plex| plex.noted().is_none()) {
                self.note_media(group, volume).await;
            }
            self.close_media(volume);
        }
        outcome.map(|()| held)
    }

    async fn may_resize_at_rest(
        self: &Rc<Self>,
        record: &Group,
        volume: &Volume,
        length: u64,
        force: bool,
        media: &[(Uuid, Presence)],
    ) -> Result<(), Refused> {
        let name = volume.name().as_str();
        change::resize_begin(record, name, length)?;
        // What keeps it from being started keeps it from this too.
        let args = StartArgs { volume: name, media, source: None, unix_s: self.unix_seconds() };
        change::start(record, &args, &mut self.dice()?)?;
        for (plex, presence) in media {
            let why = match presence {
                Presence::Present(_) | Presence::Doubted(_) => continue,
                Presence::Missing(why) | Presence::Behind(why) => why,
            };
            let name =
                volume.plex_by_id(*plex).map_or_else(|| plex.to_string(), |plex| plex.name().to_string());
            let reason = format!("{why}: the length changes only while all plexes are there");
            let way_out = "see to its medium, or remove it: cleave remove-mirror";
            return Err(Refusal::new(Kind::Medium, "resize.medium", name, reason, way_out));
        }
        if length < volume.length() {
            self.refuse_loss(volume, length, force).await?;
        }
        Ok(())
    }

    async fn resize_at_rest(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        uuid: Uuid,
        length: u64,
        force: bool,
        media: &[(Uuid, Presence)],
    ) -> Result<(), Refused> {
        let record = group.record();
        let volume = record.volume_by_id(uuid).ok_or_else(|| system(uuid, "is gone", Errno::GONE))?;
        let name = volume.name().as_str();
        if length == volume.length() {
            return Ok(());
        }
        self.may_resize_at_rest(&record, volume, length, force, media).await?;
        let shorter = length < volume.length();
        self.transact(group, |group, _| change::resize_begin(group, name, length)).await?;
        FaultPoint::ResizeBegun.reached();
        let recorded = match shorter {
            // Its new labels stand where data are until it is recorded.
            true => self.transact(group, |group, _| change::resize_record(group, uuid)).await.map(drop),
            false => self.get_ready(group, uuid, length).await,
        };
        if recorded.is_ok() {
            FaultPoint::ResizeRecorded.reached();
        }
        // Also where it was not recorded: then back.
        let settled = self.settle_resize(group, uuid).await;
        recorded?;
        settled.map_err(|refused| half_way(volume.name(), &refused))?;
        FaultPoint::ResizeSettled.reached();
        // Its file may be too short; after a clean stop nothing in it counts.
        self.create_intent(group, uuid, length).await?;
        self.transact(group, |group, _| change::resize_done(group, uuid)).await.map(drop)
    }

    /// Make the media of a volume ready to be longer, and record that it is: [`change::resize_record`] says what that takes.
    async fn get_ready(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        uuid: Uuid,
        length: u64,
    ) -> Result<(), Refused> {
        let record = group.record();
        let volume = record.volume_by_id(uuid).ok_or_else(|| system(uuid, "is gone", Errno::GONE))?;
        let mut plexes = Vec::new();
        for plex in volume.plexes() {
            let medium = self.media.borrow().get(&plex.uuid()).cloned();
            let medium = medium.ok_or_else(|| system(plex.name(), "is not open", Errno::GONE))?;
            let (had, needed) = (medium.length(), medium_bytes(length));
            let sparse = plex.medium().sparse;
            let allocation = if sparse { Allocation::Sparse } else { Allocation::Full };
            self.machine.enlarge(&medium, needed, allocation).await.map_err(|error| match error.fault {
                Fault::TooSmall { length, needed } => {
                    refuse::plex_too_small(&plex.medium().path, length, needed, volume.name())
                }
                _ => error.into(),
            })?;
            plexes.push((plex, medium, had));
        }
        FaultPoint::ResizeRoomMade.reached();
        for (plex, medium, _) in &plexes {
            // What an earlier use has left at its new place may be another plex's.
            let blank = LabelWork::EraseStale {
                stale: length,
                length: volume.length(),
                medium_length: medium.length(),
            };
            let blanked = self.label(plex.uuid(), medium.clone(), blank).await;
            blanked.map_err(|errno| system(&plex.medium().path, "its label cannot be written", errno))?;
            let next = |record: &Group| Ok(change::resize_record(record, uuid)?.group);
            self.put_label(group, next, plex, medium, medium.length()).await?;
        }
        FaultPoint::ResizeLabelled.reached();
        for (plex, medium, had) in plexes {
            // What is new of a file reads as zero.
            let is_file = plex.medium().kind != MediumKind::Block;
            let reach = if is_file { had.min(length) } else { length };
            let old_label = ByteRange::new(volume.length().next_multiple_of(MIB), LABEL_AREA_BYTES);
            let part = |from: u64, to: u64| (from < to).then(|| ByteRange::new(from, to - from));
            let ranges = [part(volume.length(), old_label.offset.min(reach)), part(old_label.end(), reach)];
            self.blank(&group.name, volume, plex, medium, ranges.into_iter().flatten().collect()).await?;
        }
        FaultPoint::ResizeBlanked.reached();
        self.transact(group, |group, _| change::resize_record(group, uuid)).await.map(drop)
    }

    /// Write zeroes over `ranges` of the medium of `plex`, as a task.
    async fn blank(
        self: &Rc<Self>,
        group: &Name,
        volume: &Volume,
        plex: &Plex,
        medium: M::Medium,
        ranges: Vec<ByteRange>,
    ) -> Result<(), Refused> {
        let total = ranges.iter().map(|range| range.length).sum();
        if total == 0 {
            return Ok(());
        }
        let control = Control::default();
        let shown = Box::new(control.clone());
        let (uuid, name) = (volume.uuid(), volume.name());
        let task = self.tasks.start(TaskKind::Zero, group, uuid, name, Some(plex.name()), total, shown);
        let ended = self.movers.run(move |host| async move {
            mover::blank(&host.open(&medium), &ranges, &control, host.clock()).await
        });
        let outcome = match ended.await {
            Ok(Ended::Complete) => Ok(()),
            Ok(Ended::Aborted) => {
                let reason = "the zeroing of what it would get was aborted";
                Err(Refusal::new(Kind::Aborted, "task.aborted", name, reason, "it is as long as it was"))
            }
            Ok(Ended::Failed(error)) => {
                Err(system(&plex.medium().path, &format!("cannot be zeroed: {error}"), Errno::IO))
            }
            Err(_) => Err(system(&plex.medium().path, "cannot be zeroed", Errno::IO)),
        };
        self.tasks.ended(task, outcome.clone());
        outcome
    }

    /// Bring the open media of a volume into the shape that the length in force wants, after a change of it was recorded, or
    /// begun and given up. Plexes whose media are not open, or cannot be brought there, are not believed any more.
    pub(super) async fn settle_resize(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        uuid: Uuid,
    ) -> Result<(), Refused> {
        let record = group.record();
        let volume = record.volume_by_id(uuid).ok_or_else(|| system(uuid, "is gone", Errno::GONE))?;
        let Some(resizing) = volume.resizing() else { return Ok(()) };
        if resizing.stage == ResizeStage::Settled {
            return Ok(());
        }
        let mut absent = Vec::new();
        for plex in volume.plexes() {
            let medium = self.media.borrow().get(&plex.uuid()).cloned();
            let Some(medium) = medium else {
                absent.push(plex.uuid());
                continue;
            };
            if let Err(refused) = self.settle_medium(group, volume, plex, medium).await {
                if self.live(uuid).is_some() {
                    return Err(refused);
                }
                tracing::warn!("{refused}");
                absent.push(plex.uuid());
            }
        }
        FaultPoint::ResizeFitted.reached();
        self.transact(group, |group, ids| change::resize_settle(group, uuid, &absent, ids)).await.map(drop)
    }

    async fn settle_medium(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: &Volume,
        plex: &Plex,
        medium: M::Medium,
    ) -> Result<(), Refused> {
        let Some(resizing) = volume.resizing() else { return Ok(()) };
        let failed = |what: &'static str| move |errno| system(&plex.medium().path, what, errno);
        let (length, stale) = (volume.length(), resizing.other());
        // A file of ours is as long as it must be; others may be longer.
        let fitting = match plex.medium().kind {
            MediumKind::Made => medium.length().min(medium_bytes(length)),
            MediumKind::Foreign | MediumKind::Image | MediumKind::Block => medium.length(),
        };
        if resizing.stage == ResizeStage::Recorded && length < stale {
            // Data until now, perhaps with another plex's label among them.
            let work = LabelWork::EraseStale { stale: length, length: stale, medium_length: medium.length() };
            let erased = self.label(plex.uuid(), medium.clone(), work).await;
            erased.map_err(failed("the place of its label cannot be erased"))?;
        }
        self.put_label(group, |record| Ok(record.clone()), plex, &medium, fitting).await?;
        FaultPoint::ResizeRelabelled.reached();
        // Where one that was to become shorter and did not would have had it, its data are.
        if resizing.stage == ResizeStage::Recorded || stale > length {
            let work = LabelWork::EraseStale { stale, length, medium_length: fitting };
            let erased = self.label(plex.uuid(), medium.clone(), work).await;
            erased.map_err(failed("its old label cannot be erased"))?;
        }
        self.machine.shorten(&medium, fitting).await?;
        Ok(())
    }

    /// Write the label of a plex, as `wish` has the group that the record has now, where it belongs on a medium of
    /// `medium_length` bytes.
    async fn put_label(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        wish: impl FnOnce(&Group) -> Result<Group, Refused>,
        plex: &Plex,
        medium: &M::Medium,
        medium_length: u64,
    ) -> Result<(), Refused> {
        let gone = || system(plex.name(), "is gone", Errno::GONE);
        let written = {
            // With the turn, so that number and text are of one commit, and those of the next come after it; without it while
            // the medium takes its time.
            let _turn = group.turn.lock().await;
            let (record, generation) = (group.record(), Generation(group.generation()));
            let all = wish(&record)?;
            let (volume, plex) = all.plex_by_id(plex.uuid()).ok_or_else(gone)?;
            let text = crate::format::config::encode(generation, &*record).map_err(|error| {
                system(&group.name, &format!("the configuration {error}"), Errno::NO_SPACE)
            })?;
            let label = label_of(&all, &Committed { generation, text }, volume, plex);
            let other = volume.resizing().map_or(volume.length(), |resizing| resizing.other());
            self.label(plex.uuid(), medium.clone(), LabelWork::Fitting { label, other, medium_length })
        };
        written.await.map_err(|errno| system(&plex.medium().path, "its label cannot be written", errno))
    }

    /// What one of the open complete plexes of `volume` holds.
    async fn look_into(self: &Rc<Self>, volume: &Volume) -> Result<Content, Errno> {
        let medium = volume.complete_plexes().find_map(|plex| self.media.borrow().get(&plex.uuid()).cloned());
        let medium = medium.ok_or(Errno::GONE)?;
        let found = self.keepers.run(move |host| async move { content(&host.open(&medium)).await });
        found.await.unwrap_or(Err(Errno::IO))
    }

    /// [`Self::look_into`] for who only tells of it; none where it cannot be told, or not soon.
    async fn held_by(self: &Rc<Self>, record: &Group, volume: Uuid) -> Option<Content> {
        let volume = record.volume_by_id(volume)?;
        self.within(HANGS_AFTER, self.look_into(volume)).await?.ok()
    }

    /// Refuse to cut off what a file system reaches to, or, unless it is asked for by force, what nobody knows.
    async fn refuse_loss(self: &Rc<Self>, volume: &Volume, length: u64, force: bool) -> Result<(), Refused> {
        let name = volume.name();
        let found = self.look_into(volume).await;
        let found = found.map_err(|errno| system(name, "it cannot be seen what it holds", errno))?;
        let lost = volume.length() - length;
        let reaches = |what: &str, bytes: u64, way_out: String| {
            if bytes <= length {
                return Ok(());
            }
            let (has, lost) = (exact_bytes(bytes), exact_bytes(bytes - length));
            let reason = format!("its {what} has {has}: {lost} of them would be cut off");
            Err(Refusal::new(Kind::InvalidState, "resize.content", name, reason, way_out))
        };
        match found {
            Content::Ext { bytes } => {
                let way_out = format!(
                    "start it and make the file system smaller first: resize2fs /dev/cleave/GROUP/{name} {}s",
                    length / 512
                );
                reaches("file system (ext2, ext3 or ext4)", bytes, way_out)
            }
            Content::Xfs { bytes } => {
                let way_out = "XFS cannot become smaller: copy the files to a new, smaller volume".to_owned();
                reaches("XFS", bytes, way_out)
            }
            Content::Other(_) | Content::Unknown if force => Ok(()),
            Content::Other(_) | Content::Unknown => {
                let what = match found {
                    Content::Other(what) => format!("it holds {what}, and how far that reaches is not known"),
                    _ => "it is not known what it holds".to_owned(),
                };
                let reason = format!("{what}: the last {} would be cut off", exact_bytes(lost));
                let way_out = "look whether anything is there, then add -f";
                Err(Refusal::new(Kind::InvalidState, "resize.unknown-content", name, reason, way_out))
            }
        }
    }
}

/// The length that is wanted of `volume`, in bytes.
fn wanted(volume: &Volume, length: Length) -> Result<u64, Refused> {
    let (name, now) = (volume.name(), volume.length());
    let wrong = |bytes: u64, than: &str| {
        let reason = format!("it has {}, and {} are not {than}", exact_bytes(now), exact_bytes(bytes));
        Err(Refusal::new(Kind::Usage, "resize.direction", name, reason, "name another length"))
    };
    match length {
        Length::To(bytes) => Ok(bytes),
        Length::GrowTo(bytes) if bytes < now => wrong(bytes, "more"),
        Length::ShrinkTo(bytes) if bytes > now => wrong(bytes, "less"),
        Length::GrowTo(bytes) | Length::ShrinkTo(bytes) => Ok(bytes),
        Length::GrowBy(bytes) => Ok(now.saturating_add(bytes)),
        Length::ShrinkBy(bytes) => match now.checked_sub(bytes) {
            Some(left) => Ok(left),
            None => {
                let (has, taken) = (exact_bytes(now), exact_bytes(bytes));
                let reason = format!("it has {has}, and {taken} cannot be taken from it");
                Err(Refusal::new(Kind::Usage, "resize.direction", name, reason, "name another length"))
            }
        },
    }
}

fn not_served(volume: &Volume) -> Refused {
    system(volume.name(), "its device is not served", Errno::GONE)
}

/// A refusal after the new length was recorded.
fn half_way(name: &Name, refused: &Refused) -> Refused {
    let reason = format!(
        "its new length is recorded, and not all of it is done: {}: {}",
        refused.object, refused.reason
    );
    let way_out = format!("the rest is done when it starts next: cleave stop {name}; cleave start {name}");
    Refusal::new(refused.kind, "resize.half-way", name, reason, way_out)
}

#[cfg(test)]
mod tests;
