//! A group is taken in from the labels on its media, when its state directory is lost or on another host.

use std::rc::Rc;

use crate::base::{Kind, Name, Refusal, Refused};
use crate::catalog::labels::Found;
use crate::control::reply::Changed;
use crate::control::{Reply, request};
use crate::format::config;
use crate::format::label::{LABEL_FILE_BYTES, Label};
use crate::ring::{MediaKind, Opening};
use crate::state::change::{self, Carrier};
use crate::state::{Group, MediumPath};

use super::bringup::NAMED_LIMIT;
use super::machine::{Machine, OpenMedium};
use super::media::medium_path;
use super::owner::Owner;
use super::server::Answer;

/// A medium that bears a label.
#[derive(Debug)]
pub(super) struct Labelled {
    pub(super) path: MediumPath,
    pub(super) block: bool,
    /// Whether it is a file for labels alone.
    pub(super) label_file: bool,
    pub(super) label: Box<Label>,
}

impl<M: Machine> Owner<M> {
    pub(super) async fn group_import(
        self: &Rc<Self>,
        request: request::GroupImport,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let mut media = request.media;
        if let Some(group) = request.group.filter(|_| media.is_empty()) {
            media = self.labelled_disks(|label| is_of(label, &group)).await;
            if media.is_empty() {
                return Err(Refusal::new(
                    Kind::NoGroup,
                    "import.not-found",
                    &group,
                    "no disk of this host bears a label of a group of this name",
                    "name its files and disks: cleave group import MEDIUM...",
                ));
            }
        }
        let mut found = Vec::new();
        for path in &media {
            found.push(self.labelled(medium_path(path)?).await?);
        }
        let (newest, labelled) = newest(&found)?;
        let name = request.name.as_ref().unwrap_or(labelled.name());
        self.refuse_here(&labelled, name)?;
        for one in &found {
            if labelled.plex_by_id(one.label.plex).is_none() {
                return Err(Refusal::new(
                    Kind::Medium,
                    "import.no-member",
                    &one.path,
                    format!("it carries a plex that group {} has given up since", labelled.name()),
                    "leave it out",
                ));
            }
        }
        for one in found.iter().filter(|one| one.label_file) {
            // Where its plex lies nobody has typed.
            if let Some((_, plex)) = labelled.plex_by_id(one.label.plex) {
                self.refuse_volume_below(&plex.medium().path).await?;
            }
        }
        let carriers: Vec<_> = found
            .iter()
            .map(|one| Carrier {
                plex: one.label.plex,
                path: one.path.clone(),
                block: one.block,
                label_file: one.label_file,
                newest: one.label.config_generation == newest.label.config_generation,
            })
            .collect();
        let record = change::import_group(&labelled, &carriers, request.name.as_ref())?;
        let (group, committed) = self.take_in(record, newest.label.config_generation).await?;
        tracing::warn!(group = %group.name, generation = %committed.generation, from = %newest.path, "group taken in from labels");
        for volume in group.record().volumes() {
            self.answer_volume(&group, volume.uuid(), answer).await;
        }
        Ok(Reply::Changed(Changed { changed: true }))
    }

    /// The label on the medium at `path`.
    ///
    /// # Errors
    /// `medium.on-volume`; those of the opening; `import.unlabelled`.
    pub(super) async fn labelled(self: &Rc<Self>, path: MediumPath) -> Result<Labelled, Refused> {
        self.refuse_volume_below(&path).await?;
        // It may have been this daemon's until just now.
        let opened = self.machine.open(path.as_path(), Opening::WRITE.waiting(NAMED_LIMIT)).await?;
        let (block, label_file) = (opened.kind() == MediaKind::Disk, opened.length() == LABEL_FILE_BYTES);
        let unfit = |reason: String| {
            Err(Refusal::new(
                Kind::Medium,
                "import.unlabelled",
                &path,
                reason,
                "name media that carry plexes",
            ))
        };
        match self.label_on(opened, None).await {
            Ok(Found::Label(label)) => Ok(Labelled { path, block, label_file, label }),
            Ok(Found::None) => unfit("it bears no label of Cleave".to_owned()),
            Ok(Found::Damaged(_)) => unfit("its label cannot be believed".to_owned()),
            Err(errno) => unfit(format!("its label cannot be read: {errno}")),
        }
    }
}

/// Whether `label` is of a group called `name`.
fn is_of(label: &Label, name: &Name) -> bool {
    config::decode::<Group>(&label.configuration).is_ok_and(|(_, group)| group.name() == name)
}

/// The newest of the labels and the group that it carries.
fn newest(found: &[Labelled]) -> Result<(&Labelled, Group), Refused> {
    let newest = found.iter().max_by_key(|one| one.label.config_generation).ok_or_else(|| {
        Refusal::new(
            Kind::Usage,
            "import.nothing",
            "group import",
            "names no medium",
            "name the media of the group",
        )
    })?;
    let text = &newest.label.configuration;
    let damaged = |what: String| {
        Refusal::new(Kind::Damaged, "group.damaged", &newest.path, what, "leave the medium out")
    };
    let (_, group) = config::decode::<Group>(text)
        .map_err(|error| damaged(format!("the configuration on its label {error}")))?;
    group.check().map_err(|refused| damaged(refused.to_string()))?;
    for one in found {
        if one.label.group != newest.label.group {
            return Err(Refusal::new(
                Kind::Medium,
                "import.unrelated",
                &one.path,
                format!(
                    "it belongs to group {}, {} belongs to {} ({})",
                    one.label.group,
                    newest.path,
                    newest.label.group,
                    group.name()
                ),
                "take in one group at a time",
            ));
        }
        if let Some(other) = found.iter().find(|other| other.label.plex == one.label.plex)
            && !std::ptr::eq(other, one)
        {
            let (reason, way_out) = match other.path == one.path {
                true => ("it is named twice".to_owned(), "name it once"),
                false => (
                    format!(
                        "it and {} both carry plex {}, with generations {} and {}: one is a copy of the other",
                        other.path,
                        one.label.plex,
                        one.label.config_generation,
                        other.label.config_generation
                    ),
                    "leave the older one out",
                ),
            };
            return Err(Refusal::new(Kind::Medium, "import.twice", &one.path, reason, way_out));
        }
        let twin = one.label.config_generation == newest.label.config_generation;
        if twin && one.label.configuration != *text {
            return Err(Refusal::new(
                Kind::Damaged,
                "group.two-heads",
                &one.path,
                format!(
                    "its label and that of {} both carry generation {}, with different content",
                    newest.path, newest.label.config_generation
                ),
                "leave the wrong one out",
            ));
        }
    }
    Ok((newest, group))
}

#[cfg(test)]
mod tests {
    use crate::control::Request;
    use crate::daemon::testing;

    #[test]
    fn a_plex_that_the_group_has_given_up_is_no_member_and_a_file_without_a_label_none_either() {
        use testing::{ask, make, name, refused};
        let kept = tempfile::tempdir().unwrap();
        let [first, second, plain] = ["first", "second", "plain"].map(|name| kept.path().join(name));
        testing::with_daemon(async |owner, _| {
            let group = make(&owner, "v", 2).await;
            let record = group.record();
            let [one, two] = record.volume("v").unwrap().plexes() else { panic!("two plexes") };
            std::fs::copy(two.medium().path.as_path(), &second).unwrap();
            let remove = crate::control::request::RemoveMirror {
                group: crate::control::request::default_group(),
                volume: Some(name("v")),
                plex: Some(two.name().clone()),
            };
            ask(&owner, Request::RemoveMirror(remove)).await.unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
            std::fs::copy(one.medium().path.as_path(), &first).unwrap();
        });
        std::fs::write(&plain, vec![0; 8 << 20]).unwrap();
        testing::with_daemon(async |owner, _| {
            let import = |media: &[&std::path::PathBuf]| {
                let media = media.iter().map(|path| (*path).clone()).collect();
                Request::GroupImport(crate::control::request::GroupImport { media, group: None, name: None })
            };
            refused(ask(&owner, import(&[&first, &second])).await, "import.no-member", Kind::Medium);
            refused(ask(&owner, import(&[&first, &plain])).await, "import.unlabelled", Kind::Medium);
            ask(&owner, import(&[&first])).await.unwrap();
        });
    }
    use super::*;
    use crate::base::Generation;
    use crate::catalog::Committed;
    use crate::catalog::labels::label_of;
    use crate::state::Ids;
    use crate::state::change::{Made, MakeArgs, Site};

    fn path(text: &str) -> MediumPath {
        MediumPath::new(text).unwrap()
    }

    fn group(seed: u8) -> Group {
        let mut ids = Ids::from_seed([seed; 32]);
        let group = change::create_group("dg", &[], &mut ids).unwrap();
        let sites = ["/m/a", "/m/b"].map(|at| Site::NewFile { path: path(at), sparse: false });
        let args = MakeArgs { name: "v", length: 16 << 20, region_size: None, sites: &sites };
        let group = change::make_volume(&group, &args, &mut ids).unwrap().group;
        let volume = group.volume("v").unwrap();
        let made = |plex: &crate::state::Plex| Made {
            plex: plex.uuid(),
            bytes: 18 << 20,
            block_size: 512,
            memory_alignment: 4,
        };
        let made: Vec<_> = volume.plexes().iter().map(made).collect();
        change::finish_make(&group, volume.uuid(), &made, false, &mut ids).unwrap().group
    }

    fn labelled(group: &Group, at: usize, generation: u64) -> Labelled {
        let generation = Generation(generation);
        let text = config::encode(generation, group).unwrap();
        let volume = group.volume("v").unwrap();
        let label = label_of(group, &Committed { generation, text }, volume, &volume.plexes()[at]);
        Labelled { path: path(&format!("/dev/{at}")), block: true, label_file: false, label: Box::new(label) }
    }

    #[test]
    fn the_newest_label_counts_and_strangers_are_refused() {
        let first = group(1);
        let volume = first.volume("v").unwrap().uuid();
        let second = change::assign_device(&first, volume, Some(7)).unwrap().group;
        let found = [labelled(&first, 0, 5), labelled(&second, 1, 6)];
        let (newest_of, taken) = newest(&found).unwrap();
        assert_eq!((newest_of.path.as_str(), &taken), ("/dev/1", &second));
        assert_eq!(newest(&[]).unwrap_err().id, "import.nothing");
        let strange = [labelled(&first, 0, 5), labelled(&group(2), 1, 3)];
        let refused = newest(&strange).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.object.as_str()), ("import.unrelated", "/dev/1"));
        let heads = [labelled(&first, 0, 5), labelled(&second, 1, 5)];
        assert_eq!(newest(&heads).unwrap_err().id, "group.two-heads");
        let mut copies = [labelled(&second, 0, 6), labelled(&first, 0, 5)];
        copies[1].path = path("/dev/copy");
        let refused = newest(&copies).unwrap_err();
        assert_eq!(refused.id, "import.twice");
        assert!(refused.reason.contains("generations 5 and 6: one is a copy"), "{refused}");
        let mut twice = [labelled(&first, 0, 5), labelled(&first, 0, 5)];
        assert_eq!(newest(&twice).unwrap_err().reason, "it is named twice");
        twice[1].path = path("/dev/link");
        assert_eq!(newest(&twice).unwrap_err().way_out, "leave the older one out");
        let mut torn = [labelled(&first, 0, 5)];
        torn[0].label.configuration[200] ^= 1;
        assert_eq!(newest(&torn).unwrap_err().id, "group.damaged");
    }
}
