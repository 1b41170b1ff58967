//! Where plexes come from: sites are found, files made, disks opened, foreign ones refused.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::base::limits::MAX_DISCARD_BYTES;
use crate::base::{ByteRange, Errno, Name, Refused, Uuid};
use crate::control::request;
use crate::device::{BlockDevice, Durability, Host, Request, Space};
use crate::format::label::LABEL_FILE_BYTES;
use crate::ring::{Allocation, MediaKind, MediumError, Opening};
use crate::state::change::{Effect, Made, Site};
use crate::state::place::{self, Room};
use crate::state::{Group, MediumKind, MediumPath, PlexMedium, refuse};

use super::bringup::NAMED_LIMIT;
use super::machine::{Machine, OpenMedium, Ring};
use super::owner::{GroupHandle, Owner, system};
use super::rows;

/// Where plexes shall come from: pool media by name, or paths.
pub(super) struct Wanted<'a> {
    pub(super) volume: &'a Name,
    pub(super) length: u64,
    pub(super) count: u32,
    pub(super) media: &'a [Name],
    pub(super) plexes: &'a [PathBuf],
    pub(super) sparse: bool,
    pub(super) force: bool,
    /// The file for the labels of a plex at a path.
    pub(super) label_file: Option<&'a MediumPath>,
}

impl<'a> Wanted<'a> {
    /// The plexes of a volume to be made.
    pub(super) fn to_make(request: &'a request::Make) -> Self {
        Self {
            volume: &request.volume,
            length: request.length_bytes,
            count: request.nmirror,
            media: &request.media,
            plexes: &request.plexes,
            sparse: request.sparse,
            force: request.force,
            label_file: None,
        }
    }

    /// Mirrors of a volume of `length` bytes.
    pub(super) fn to_mirror(request: &'a request::Mirror, length: u64) -> Self {
        Self {
            volume: &request.volume,
            length,
            count: request.nmirror,
            media: &request.media,
            plexes: &request.plexes,
            sparse: request.sparse,
            force: request.force,
            label_file: None,
        }
    }

    /// Snapshot mirrors of a volume of `length` bytes.
    pub(super) fn to_snapstart(request: &'a request::SnapStart, length: u64) -> Self {
        Self {
            volume: &request.volume,
            length,
            count: request.nmirror,
            media: &request.media,
            plexes: &request.plexes,
            sparse: request.sparse,
            force: request.force,
            label_file: None,
        }
    }

    /// A plex in the place of another of `volume`, which has `length` bytes.
    pub(super) fn to_replace(request: &'a request::PlexReplace, volume: &'a Name, length: u64) -> Self {
        Self {
            volume,
            length,
            count: 1,
            media: &request.media,
            plexes: request.path.as_slice(),
            sparse: request.sparse,
            force: request.force,
            label_file: None,
        }
    }
}

impl<M: Machine> Owner<M> {
    /// Sites for the plexes that are wanted.
    pub(super) async fn sites(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Site>, Refused> {
        let record = group.record();
        let mut sites = Vec::new();
        for path in wanted.plexes {
            let path = medium_path(path)?;
            sites.push(self.site_of(&path, wanted).await?);
        }
        let missing = (wanted.count as usize).saturating_sub(sites.len());
        if missing > 0 {
            let rooms = self.rooms(&record).await;
            let named = wanted
                .media
                .iter()
                .map(|name| rows::medium_named(&record, name))
                .collect::<Result<Vec<_>, _>>()?;
            let request = place::Request {
                volume: wanted.volume,
                length: wanted.length,
                count: missing,
                sparse: wanted.sparse,
                named: &named,
            };
            sites.extend(place::place(&record, &request, &rooms)?);
        }
        Ok(sites)
    }

    /// The plex that an open medium of ours at `file` carries, whatever that is called there.
    pub(super) async fn carried_by(self: &Rc<Self>, file: &Path) -> Option<Uuid> {
        let identity = self.machine.identity_at(file).await?;
        Some(*self.media.borrow().iter().find(|(_, medium)| medium.identity() == identity)?.0)
    }

    async fn site_of(self: &Rc<Self>, path: &MediumPath, wanted: &Wanted<'_>) -> Result<Site, Refused> {
        let file = path.as_path();
        // Our own lock on it would only name this daemon.
        if let Some(plex) = self.carried_by(file).await
            && let Some(group) = self.group_of_plex(plex)
            && let Some((_, plex)) = group.record().plex_by_id(plex)
        {
            return Err(refuse::medium_in_use(path, plex.name()));
        }
        let found = match self.machine.standing(file).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            // What stands in the way is told by the opening.
            Ok(_) | Err(_) => Some(self.machine.open(file, Opening::WRITE.waiting(NAMED_LIMIT)).await?),
        };
        Ok(match (found, wanted.label_file) {
            (None, _) => Site::NewFile { path: path.clone(), sparse: wanted.sparse },
            (Some(medium), Some(label_file)) => Site::Apart {
                path: path.clone(),
                block: medium.kind() == MediaKind::Disk,
                bytes: medium.length(),
                label_file: label_file.clone(),
            },
            (Some(medium), None) => match medium.kind() {
                MediaKind::File => Site::File { path: path.clone(), bytes: medium.length() },
                MediaKind::Disk => Site::Block { path: path.clone(), bytes: medium.length() },
            },
        })
    }

    /// Open the medium of a plex, and the file that has its labels where it is another one.
    pub(super) async fn open_medium(
        self: &Rc<Self>,
        medium: &PlexMedium,
        opening: Opening,
    ) -> Result<M::Medium, MediumError> {
        let open = self.machine.open(medium.path.as_path(), opening).await?;
        self.with_labels(open, medium, opening.patience).await
    }

    /// The `open` medium of a plex with the file that has its labels, where it is another one.
    pub(super) async fn with_labels(
        self: &Rc<Self>,
        open: M::Medium,
        medium: &PlexMedium,
        patience: Duration,
    ) -> Result<M::Medium, MediumError> {
        let Some(label_file) = &medium.label_file else { return Ok(open) };
        let opening = Opening::WRITE.at_least(LABEL_FILE_BYTES).waiting(patience);
        let labels = self.machine.open(label_file.as_path(), opening).await?;
        Ok(open.with_labels(labels))
    }

    /// What there is room for on the media of a group.
    pub(super) async fn rooms(self: &Rc<Self>, group: &Group) -> Vec<(MediumPath, Room)> {
        let mut rooms = Vec::new();
        for medium in group.media() {
            rooms.push((medium.path.clone(), self.machine.room(medium).await));
        }
        rooms
    }

    /// Make the media ready that `effects` name. After an error those that were made are removed by the record's next
    /// change.
    pub(super) async fn allocate(
        self: &Rc<Self>,
        effects: &[Effect],
        force: bool,
    ) -> Result<Vec<Made>, Refused> {
        let due = || {
            effects.iter().filter_map(|effect| match effect {
                Effect::Allocate { plex, medium, bytes, .. } => Some((*plex, medium, *bytes)),
                _ => None,
            })
        };
        // Until its file is made nothing at a plex's path is ours to remove.
        self.never_made.borrow_mut().extend(due().map(|(plex, ..)| plex));
        let mut made = Vec::new();
        for (plex, medium, bytes) in due() {
            let open = self.allocate_one(medium.clone(), bytes, force).await?;
            self.never_made.borrow_mut().remove(&plex);
            made.push(Made {
                plex,
                bytes: open.length(),
                block_size: open.block_size(),
                memory_alignment: open.memory_alignment(),
            });
            self.proven.borrow_mut().insert(plex, open.identity());
            self.media.borrow_mut().insert(plex, open);
            self.unlabelled.borrow_mut().insert(plex);
        }
        Ok(made)
    }

    /// Write zeroes over the media of a new volume that Cleave did not make.
    pub(super) async fn zero_media(self: &Rc<Self>, group: &Group, volume: Uuid) -> Result<(), Refused> {
        let Some(record) = group.volume_by_id(volume) else { return Ok(()) };
        let whole = ByteRange::new(0, record.length());
        for plex in record.plexes().iter().filter(|plex| plex.medium().kind != MediumKind::Made) {
            let Some(medium) = self.media.borrow().get(&plex.uuid()).cloned() else { continue };
            let zeroed = self.movers.run(move |host| async move {
                let device = host.open(&medium);
                for range in whole.pieces(MAX_DISCARD_BYTES.into()) {
                    let (space, durability) = (Space::Keep, Durability::Volatile);
                    device.submit(Request::WriteZeroes { range, space, durability }).await?;
                }
                device.submit(Request::Flush).await
            });
            zeroed
                .await
                .unwrap_or(Err(Errno::IO))
                .map_err(|errno| system(&plex.medium().path, "cannot be zeroed", errno))?;
        }
        Ok(())
    }

    /// Refuse a medium that lies on a volume: requests of the one would wait for the other's, and for ever once the daemon
    /// has died below both.
    pub(super) async fn refuse_volume_below(self: &Rc<Self>, path: &MediumPath) -> Result<(), Refused> {
        let Some(passed) = self.machine.ublk_below(path.as_path()).await else { return Ok(()) };
        let number = passed.last().and_then(|name| name.strip_prefix("ublkb")?.parse::<u32>().ok());
        // Another program's device ends with that program.
        match self.live.borrow().values().find(|live| number.is_some() && live.number.get() == number) {
            None => Ok(()),
            Some(live) => Err(refuse::medium_on_volume(path, &live.name, &passed.join(", "))),
        }
    }

    /// Refuse a file that a loop device lies over: what is written there goes past the volume, and no lock keeps it away.
    pub(super) async fn refuse_looped(self: &Rc<Self>, path: &MediumPath) -> Result<(), Refused> {
        match self.machine.loops_over(path.as_path()).await.first() {
            None => Ok(()),
            Some(name) => Err(refuse::medium_looped(path, name)),
        }
    }

    async fn allocate_one(
        self: &Rc<Self>,
        medium: PlexMedium,
        bytes: u64,
        force: bool,
    ) -> Result<M::Medium, Refused> {
        let path = medium.path.clone();
        self.refuse_volume_below(&path).await?;
        if medium.kind == MediumKind::Made {
            let how = if medium.sparse { Allocation::Sparse } else { Allocation::Full };
            return Ok(self.machine.create_file(path.as_path(), bytes, how).await?);
        }
        let open = self.open_existing(&medium, bytes, force).await?;
        let Some(label_file) = &medium.label_file else { return Ok(open) };
        self.refuse_volume_below(label_file).await?;
        // Labels must not meet a full file system.
        let labels = self.machine.create_file(label_file.as_path(), LABEL_FILE_BYTES, Allocation::Full);
        Ok(open.with_labels(labels.await?))
    }

    /// Open what is there for a plex of `bytes`.
    pub(super) async fn open_existing(
        self: &Rc<Self>,
        medium: &PlexMedium,
        bytes: u64,
        force: bool,
    ) -> Result<M::Medium, Refused> {
        let path = &medium.path;
        self.refuse_looped(path).await?;
        let taken: Vec<_> = self.media.borrow().values().map(OpenMedium::identity).collect();
        let opening = Opening::WRITE.at_least(bytes).waiting(NAMED_LIMIT);
        let open = self.machine.open(path.as_path(), opening).await?;
        if taken.contains(&open.identity()) {
            return Err(refuse::medium_twice(path));
        }
        if !force {
            self.refuse_foreign(&open).await?;
        }
        Ok(open)
    }
}

/// A path from a request.
pub(super) fn medium_path(path: &Path) -> Result<MediumPath, Refused> {
    match path.to_str() {
        Some(text) => MediumPath::new(text),
        None => Err(refuse::medium_path(&path.to_string_lossy(), "is not UTF-8")),
    }
}
