//! Data that are there already: an image or a disk becomes a volume without a copy, and a volume becomes plain images again.
//!
//! A plex has the volume's bytes from its first on, so both come down to the labels behind them. A file gets room for these by
//! becoming longer, and loses it again; a disk has it or has not.

use std::path::Path;
use std::rc::Rc;

use crate::base::limits::MIB;
use crate::base::units::exact_bytes;
use crate::base::zero::is_zero;
use crate::base::{ByteRange, Errno, Kind, Refusal, Refused};
use crate::catalog::filesystem::{Content, content};
use crate::control::reply::Released;
use crate::control::row::ForeseenRow;
use crate::control::words::{DataPath, Init};
use crate::control::{Reply, request};
use crate::device::{BlockDevice, Host, OwnedBuffer, Request};
use crate::format::label::LABEL_FILE_BYTES;
use crate::ring::{Allocation, Fault, MediaKind, MediumError, Opening};
use crate::state::change::{self, MakeArgs, Site};
use crate::state::place::Room;
use crate::state::{MediumKind, MediumPath, PlexMedium, PoolMedium, medium_bytes, refuse};

use super::bringup::NAMED_LIMIT;
use super::foreseen::{self, Adoption};
use super::machine::{Machine, OpenMedium, Ring};
use super::media::medium_path;
use super::owner::{Owner, system};
use super::server::Answer;

/// What is to become a volume.
pub(super) struct Adopted<D> {
    path: MediumPath,
    medium: D,
    /// Bytes of the volume.
    length: u64,
    content: Content,
    label_file: Option<MediumPath>,
}

impl<D: OpenMedium> Adopted<D> {
    /// Bytes that it will have.
    fn needed(&self) -> u64 {
        match (&self.label_file, self.medium.kind()) {
            (None, MediaKind::File) => medium_bytes(self.length).max(self.medium.length()),
            (Some(_), _) | (None, MediaKind::Disk) => self.medium.length(),
        }
    }
}

impl<M: Machine> Owner<M> {
    /// Make a volume whose only plex is what stands at a path, as it is.
    pub(super) async fn adopt_existing(
        self: &Rc<Self>,
        request: request::Adopt,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let adopted = self.may_adopt(&request).await?;
        let (before, needed) = (adopted.medium.length(), adopted.needed());
        let Adopted { path, medium, length, label_file, .. } = adopted;
        if needed > before {
            // What is there already was allocated by whoever made it, or was not.
            self.machine.enlarge(&medium, needed, Allocation::Full).await?;
        }
        // The making opens it anew, and would meet this lock.
        drop(medium);
        let make = request::Make {
            group: request.group,
            volume: request.volume,
            length_bytes: length,
            nmirror: 1,
            media: Vec::new(),
            plexes: vec![request.path],
            sparse: false,
            region: None,
            init: Init::Active,
            data: DataPath::Auto,
            // What it holds is wanted.
            force: true,
        };
        let made = self.make_labelled(make, label_file.as_ref(), answer).await;
        if made.is_err() && needed > before {
            self.cut_back(&path, before).await;
        }
        made
    }

    /// What is to be adopted, after all that could be refused of it as it stands.
    pub(super) async fn may_adopt(
        self: &Rc<Self>,
        request: &request::Adopt,
    ) -> Result<Adopted<M::Medium>, Refused> {
        let path = medium_path(&request.path)?;
        if let Some(plex) = self.carried_by(path.as_path()).await
            && let Some(group) = self.group_of_plex(plex)
            && let Some((_, plex)) = group.record().plex_by_id(plex)
        {
            return Err(refuse::medium_in_use(&path, plex.name()));
        }
        self.refuse_volume_below(&path).await?;
        self.refuse_looped(&path).await?;
        // Before a file is made longer for a name that another has.
        if let Ok(group) = self.group(&request.group)
            && group.record().is_taken(request.volume.as_str())
        {
            return Err(refuse::name_taken(&request.volume, &group.name));
        }
        let medium = self.machine.open(path.as_path(), Opening::WRITE.waiting(NAMED_LIMIT)).await?;
        let label_file = match &request.label_file {
            Some(file) => Some(self.may_label_in(&path, &medium, file).await?),
            None => None,
        };
        let room = label_file.is_none();
        let (length, content) = self.adopted_length(&path, &medium, request.length_bytes, room).await?;
        refuse::check_length(length)?;
        Ok(Adopted { path, medium, length, content, label_file })
    }

    /// The file that is to have the labels of what lies at `path`.
    async fn may_label_in(
        self: &Rc<Self>,
        path: &MediumPath,
        medium: &M::Medium,
        file: &Path,
    ) -> Result<MediumPath, Refused> {
        let label_file = medium_path(file)?;
        // Without a label of its own nothing tells that another disk has come to be called so.
        if medium.kind() == MediaKind::Disk && path.as_path().parent() == Some(Path::new("/dev")) {
            return Err(Refusal::new(
                Kind::Usage,
                "adopt.fleeting",
                path,
                "the kernel may give another disk this name at the next boot, and this one bears no label of its own",
                "name it by a link that lasts: see ls -l /dev/disk/by-id",
            ));
        }
        self.refuse_volume_below(&label_file).await?;
        match self.machine.standing(label_file.as_path()).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(label_file),
            _ => Err(MediumError::new(label_file.as_path(), Fault::Exists, None).into()),
        }
    }

    /// How many bytes of `medium` a volume is to have, with `room` for labels behind them, and what it holds.
    async fn adopted_length(
        self: &Rc<Self>,
        path: &MediumPath,
        medium: &M::Medium,
        asked: Option<u64>,
        room: bool,
    ) -> Result<(u64, Content), Refused> {
        let (has, unit) = (medium.length(), u64::from(medium.block_size()));
        let (kind, read) = (medium.kind(), medium.clone());
        let holds = self.keepers.run(move |host| async move { content(&host.open(&read)).await });
        let holds =
            holds.await.unwrap_or(Err(Errno::IO)).map_err(|errno| system(path, "cannot be read", errno))?;
        let reaches = holds.bytes();
        let length = match (asked, kind) {
            (Some(length), _) => length,
            (None, MediaKind::File) => has,
            (None, MediaKind::Disk) if !room => has,
            // As much as leaves room for the labels.
            (None, MediaKind::Disk) => has.saturating_sub(medium_bytes(0)) / MIB * MIB,
        };
        if length % unit != 0 {
            let more = length.next_multiple_of(unit) - length;
            return Err(Refusal::new(
                Kind::Usage,
                "adopt.uneven",
                path,
                format!("{} are not a whole number of blocks of {unit} bytes", exact_bytes(length)),
                format!("make it longer by {} first: truncate -s +{more}", exact_bytes(more)),
            ));
        }
        if room && kind == MediaKind::Disk && asked.is_none() && reaches.is_none() {
            return Err(Refusal::new(
                Kind::Medium,
                "adopt.unknown",
                path,
                "it is not known how far what it holds reaches, and labels are written behind that",
                format!("say how much of it is in use, at most {}: --length SIZE", exact_bytes(length)),
            ));
        }
        if asked.is_some_and(|asked| asked > has) {
            return Err(Refusal::new(
                Kind::Usage,
                "adopt.length",
                path,
                format!("it has {}, fewer than {}", exact_bytes(has), exact_bytes(length)),
                "name a length that it has",
            ));
        }
        match reaches {
            Some(reaches) if reaches > length => {
                let way_out = match holds {
                    Content::Ext { .. } => {
                        format!("make it smaller by {} first, with resize2fs", exact_bytes(reaches - length))
                    }
                    _ => "an XFS does not become smaller: copy it to a larger disk".to_owned(),
                };
                Err(Refusal::new(
                    Kind::NoSpace,
                    "adopt.no-room",
                    path,
                    format!(
                        "its file system has {}, and {} can be the volume's",
                        exact_bytes(reaches),
                        exact_bytes(length)
                    ),
                    way_out,
                ))
            }
            _ => Ok((length, holds)),
        }
    }

    /// What the adoption of a file or disk would come to.
    pub(super) async fn foresee_adopt(
        self: &Rc<Self>,
        request: &request::Adopt,
    ) -> Result<Vec<ForeseenRow>, Refused> {
        let adopted = self.may_adopt(request).await?;
        let needed = adopted.needed();
        let Adopted { path, medium, length, content, label_file } = adopted;
        let (has, block) = (medium.length(), medium.kind() == MediaKind::Disk);
        let mut told = Vec::new();
        let record = match self.group(&request.group) {
            Ok(group) => group.record(),
            // It is made on first use.
            Err(_) if request.group == request::default_group() => {
                let directory = self.root.join(request.group.as_str());
                told.push(foreseen::row(
                    &request.group,
                    format!("is made, with its state in {}", directory.display()),
                ));
                let media = MediumPath::new(&directory.join("media").to_string_lossy())?;
                let media = [PoolMedium { path: media, block: false, name: None }];
                Rc::new(change::create_group(request.group.as_str(), &media, &mut self.dice()?)?)
            }
            Err(refused) => return Err(refused),
        };
        let site = match (label_file.clone(), block) {
            (Some(label_file), block) => Site::Apart { path: path.clone(), block, bytes: has, label_file },
            (None, false) => Site::File { path: path.clone(), bytes: needed },
            (None, true) => Site::Block { path: path.clone(), bytes: has },
        };
        let (name, sites) = (request.volume.as_str(), [site]);
        let args = MakeArgs { name, length, region_size: None, sites: &sites };
        change::make_volume(&record, &args, &mut self.dice()?)?;
        match &label_file {
            Some(file) => self.refuse_no_room(file, LABEL_FILE_BYTES).await?,
            None if block => {}
            None => self.refuse_no_room(&path, needed - has).await?,
        }
        let adoption = Adoption { has, needed, length, content, label_file };
        told.extend(foreseen::adopted(&request.volume, &path, &adoption));
        Ok(told)
    }

    /// Refuse a file that cannot become `more` bytes longer where it stands.
    async fn refuse_no_room(self: &Rc<Self>, path: &MediumPath, more: u64) -> Result<(), Refused> {
        let Some(directory) = path.as_path().parent().and_then(|directory| directory.to_str()) else {
            return Ok(());
        };
        let place = PoolMedium { path: MediumPath::new(directory)?, block: false, name: None };
        match self.machine.room(&place).await {
            // One in memory may have no end of its own, and says that it has nothing.
            Room::Directory { free } if 0 < free && free < more => {
                Err(MediumError::new(path.as_path(), Fault::NoSpace { needed: more }, None).into())
            }
            // What else is wrong with it the opening has told.
            Room::Directory { .. }
            | Room::Block { .. }
            | Room::Used { .. }
            | Room::ReadOnly
            | Room::Missing(_) => Ok(()),
        }
    }

    /// Have the file at `path` be `bytes` long again. What fails leaves zeroes behind the data, which hurt nobody.
    async fn cut_back(self: &Rc<Self>, path: &MediumPath, bytes: u64) {
        let opened = self.machine.open(path.as_path(), Opening::WRITE.waiting(NAMED_LIMIT)).await;
        let cut = match opened {
            Ok(medium) => self.machine.shorten(&medium, bytes).await,
            Err(error) => Err(error),
        };
        if let Err(error) = cut {
            tracing::warn!("{error}: zeroes stay behind its data");
        }
    }

    /// Have the file of a released volume of `length` bytes end behind these, where nothing but room for labels stands there, and
    /// that is empty: somebody's own file may have had more, and another may stand at its path by now.
    pub(super) async fn cut_image(self: &Rc<Self>, medium: &PlexMedium, length: u64) {
        let size = self.machine.look(medium.path.as_path()).await.map(|found| found.size);
        if medium.kind != MediumKind::Image || size != Some(medium_bytes(length)) {
            return;
        }
        if let Err(refused) = self.cut_room(medium, length).await {
            tracing::warn!("{refused}: it stays longer than the volume was");
        }
    }

    /// Have the file end behind `length` bytes, if nothing stands there.
    async fn cut_room(self: &Rc<Self>, medium: &PlexMedium, length: u64) -> Result<(), Refused> {
        let open = self.machine.open(medium.path.as_path(), Opening::WRITE.waiting(NAMED_LIMIT)).await?;
        let room = ByteRange::new(length, medium_bytes(length) - length);
        let read = open.clone();
        let empty = self.movers.run(move |host| async move { is_empty(&host.open(&read), room).await });
        let empty = empty.await.unwrap_or(Err(Errno::IO));
        if !empty.map_err(|errno| system(&medium.path, "cannot be read", errno))? {
            let reason = "what lies behind the volume is not its labels' empty room";
            return Err(Refusal::new(Kind::Medium, "release.not-empty", &medium.path, reason, "look at it"));
        }
        self.machine.shorten(&open, length).await?;
        Ok(())
    }

    /// Give a volume up, whose plexes stay as plain images of it.
    pub(super) async fn release_images(self: &Rc<Self>, request: request::Release) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let _alone = self.alone_with(&group, &request.volume).await?;
        let record = group.record();
        let volume = record.volume(request.volume.as_str())?;
        let (length, name) = (volume.length(), volume.name().clone());
        let images = volume.plexes().iter().map(|plex| plex.medium().path.as_path().to_owned()).collect();
        // What is freed with that, labels and the room for them, is freed at the next start where the daemon dies here.
        self.transact(&group, |group, ids| change::release_volume(group, &name, ids)).await?;
        tracing::info!(volume = %name, "released: its plexes are plain images");
        Ok(Reply::Released(Released { volume: name, images, length_bytes: length }))
    }
}

impl<M: Machine> Owner<M> {
    /// Whether all of a short file reads as zero.
    pub(super) async fn is_blank(self: &Rc<Self>, medium: &M::Medium) -> bool {
        let (whole, medium) = (ByteRange::new(0, medium.length()), medium.clone());
        let empty = self.movers.run(move |host| async move { is_empty(&host.open(&medium), whole).await });
        matches!(empty.await, Ok(Ok(true)))
    }
}

/// Whether `range` of `device` reads as zero.
async fn is_empty<D: BlockDevice>(device: &D, range: ByteRange) -> Result<bool, Errno> {
    for piece in range.pieces(MIB) {
        let buffer = OwnedBuffer::zeroed(piece.length as usize);
        device.submit(Request::Read { offset: piece.offset, buffer: buffer.clone().into() }).await?;
        if !buffer.with_bytes(is_zero) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Request;
    use crate::daemon::testing::{ask, foretold, name, refused, with_daemon};
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_file_is_taken_by_whole_blocks_and_not_for_more_than_it_has() {
        with_daemon(async |owner, root| {
            let path = root.join("image");
            let adopt = |length_bytes| {
                Request::Adopt(request::Adopt {
                    group: request::default_group(),
                    volume: name("v"),
                    path: path.clone(),
                    length_bytes,
                    label_file: None,
                })
            };
            std::fs::write(&path, vec![7; 5_000_001]).unwrap();
            let told = refused(ask(&owner, adopt(None)).await, "adopt.uneven", Kind::Usage);
            assert!(told.way_out.contains("truncate -s +"), "{told}");
            refused(ask(&owner, adopt(Some(6 * MIB))).await, "adopt.length", Kind::Usage);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 5_000_001);
            ask(&owner, adopt(Some(4 * MIB))).await.unwrap();
        });
    }

    #[test]
    fn an_adoption_is_foretold_by_all_its_checks_and_nothing_is_changed() {
        with_daemon(async |owner, root| {
            let path = root.join("image");
            let mut bytes = vec![7; 4 << 20];
            bytes[4086..4096].copy_from_slice(b"SWAPSPACE2");
            std::fs::write(&path, &bytes).unwrap();
            let adopt = |volume: &str, length_bytes| {
                Request::Adopt(request::Adopt {
                    group: request::default_group(),
                    volume: name(volume),
                    path: path.clone(),
                    length_bytes,
                    label_file: None,
                })
            };
            let told = foretold(&owner, adopt("v", None)).await.unwrap();
            for part in [
                "default: is made, with its state in ",
                "v: is made of the first 4 MiB (4194304 bytes) of ",
                "image: holds swap",
                "image: becomes longer by 2 MiB (2097152 bytes), and has 6 MiB (6291456 bytes) then",
                "from byte 4194304 on and from byte 5242880 on",
            ] {
                assert!(told.iter().any(|line| line.contains(part)), "{part} is not foretold: {told:?}");
            }
            assert!(owner.all_groups().is_empty());
            assert!(std::fs::read(&path).unwrap() == bytes);
            let longer = foretold(&owner, adopt("v", Some(5 * MIB))).await;
            refused(longer, "adopt.length", Kind::Usage);

            ask(&owner, adopt("v", None)).await.unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 6 << 20, "as it was foretold");
            refused(foretold(&owner, adopt("w", None)).await, "medium.in-use", Kind::Medium);
        });
    }

    #[test]
    fn a_file_that_cannot_become_longer_where_it_stands_is_foretold_to_be_refused() {
        with_daemon(async |owner, root| {
            let path = MediumPath::new(root.join("image").to_str().unwrap()).unwrap();
            let told = owner.refuse_no_room(&path, u64::MAX).await;
            refused(told, "medium.no-space", Kind::NoSpace);
            owner.refuse_no_room(&path, MIB).await.unwrap();
        });
    }

    #[test]
    fn what_stands_behind_a_released_volume_is_not_cut_off() {
        with_daemon(async |owner, root| {
            let path = root.join("image");
            std::fs::write(&path, vec![7; 4 << 20]).unwrap();
            let adopt = request::Adopt {
                group: request::default_group(),
                volume: name("v"),
                path: path.clone(),
                length_bytes: None,
                label_file: None,
            };
            ask(&owner, Request::Adopt(adopt)).await.unwrap();
            let group = owner.group(&request::default_group()).unwrap();
            let medium = group.record().volume("v").unwrap().plexes()[0].medium().clone();
            owner.stop_volume(&group, &name("v")).await.unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let room = medium_bytes(4 * MIB);
            file.write_all_at(b"!", room - 1).unwrap();
            let cut = owner.cut_room(&medium, 4 * MIB).await;
            refused(cut, "release.not-empty", Kind::Medium);
            assert_eq!(file.metadata().unwrap().len(), room);
        });
    }

    fn apart(path: &Path, volume: &str, label_file: &Path) -> Request {
        Request::Adopt(request::Adopt {
            group: request::default_group(),
            volume: name(volume),
            path: path.to_owned(),
            length_bytes: None,
            label_file: Some(label_file.to_owned()),
        })
    }

    #[test]
    fn with_a_label_file_nothing_is_written_where_the_data_are_from_adoption_to_release() {
        with_daemon(async |owner, root| {
            let (path, file) = (root.join("image"), root.join("image.labels"));
            let bytes = vec![7; 4 << 20];
            std::fs::write(&path, &bytes).unwrap();
            let told = foretold(&owner, apart(&path, "v", &file)).await.unwrap();
            let made = "image.labels: is made for the labels, 2 MiB: nothing is written to ";
            assert!(told.iter().any(|line| line.contains(made)), "{told:?}");
            assert!(!file.exists() && !told.iter().any(|line| line.contains("longer")), "{told:?}");

            ask(&owner, apart(&path, "v", &file)).await.unwrap();
            let group = owner.group(&request::default_group()).unwrap();
            assert_eq!(std::fs::metadata(&file).unwrap().len(), LABEL_FILE_BYTES);
            let resize = request::Resize {
                group: group.name.clone(),
                volume: name("v"),
                length: request::Length::To(8 << 20),
                force: false,
            };
            owner.stop_volume(&group, &name("v")).await.unwrap();
            refused(ask(&owner, Request::Resize(resize)).await, "resize.label-file", Kind::InvalidState);
            owner.start_volume(&group, &name("v"), None).await.unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
            // Without its labels nothing says what lies there.
            let away = root.join("away");
            std::fs::rename(&file, &away).unwrap();
            refused(
                owner.start_volume(&group, &name("v"), None).await.map(drop),
                "volume.no-complete-plex",
                Kind::CannotStart,
            );
            std::fs::rename(&away, &file).unwrap();
            owner.start_volume(&group, &name("v"), None).await.unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();

            let release = request::Release { group: group.name.clone(), volume: name("v") };
            ask(&owner, Request::Release(release)).await.unwrap();
            assert!(!file.exists());
            assert!(std::fs::read(&path).unwrap() == bytes);
        });
    }

    #[test]
    fn rule_21_a_label_file_that_is_not_ours_is_neither_taken_nor_removed() {
        with_daemon(async |owner, root| {
            let (path, file) = (root.join("image"), root.join("image.labels"));
            std::fs::write(&path, vec![7; 4 << 20]).unwrap();
            std::fs::write(&file, vec![1; LABEL_FILE_BYTES as usize]).unwrap();
            refused(ask(&owner, apart(&path, "v", &file)).await, "medium.exists", Kind::Exists);
            std::fs::remove_file(&file).unwrap();
            ask(&owner, apart(&path, "v", &file)).await.unwrap();
            let group = owner.group(&request::default_group()).unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
            std::fs::write(&file, vec![1; LABEL_FILE_BYTES as usize]).unwrap();
            let remove = request::Remove {
                group: group.name.clone(),
                object: name("v"),
                recursive: true,
                force: false,
            };
            ask(&owner, Request::Remove(remove)).await.unwrap();
            assert!(std::fs::read(&file).unwrap() == vec![1; LABEL_FILE_BYTES as usize]);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 4 << 20);
        });
    }

    #[test]
    fn a_group_is_taken_in_from_a_label_file_and_may_have_it_moved() {
        let kept = tempfile::tempdir().unwrap();
        let [path, file, other] = ["image", "labels", "other"].map(|name| kept.path().join(name));
        std::fs::write(&path, vec![7; 4 << 20]).unwrap();
        with_daemon(async |owner, _| {
            ask(&owner, apart(&path, "v", &file)).await.unwrap();
            let group = owner.group(&request::default_group()).unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
            std::fs::rename(&file, &other).unwrap();
            let moved = request::GroupMoved { group: group.name.clone(), media: vec![other.clone()] };
            let Reply::Moved(moved) = ask(&owner, Request::GroupMoved(moved)).await.unwrap() else {
                panic!("it moved")
            };
            assert_eq!((&moved.plexes[0].before, &moved.plexes[0].now), (&file, &other));
            owner.start_volume(&group, &name("v"), None).await.unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
        });
        with_daemon(async |owner, _| {
            let import = request::GroupImport { media: vec![other.clone()], group: None, name: None };
            ask(&owner, Request::GroupImport(import)).await.unwrap();
            let group = owner.group(&request::default_group()).unwrap();
            let record = group.record();
            let medium = record.volume("v").unwrap().plexes()[0].medium();
            assert_eq!((medium.path.as_path(), medium.labels().as_path()), (path.as_path(), other.as_path()));
            owner.start_volume(&group, &name("v"), None).await.unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
        });
        assert!(std::fs::read(&path).unwrap() == vec![7; 4 << 20]);
    }
}
