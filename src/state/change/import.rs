//! A group is taken in from what the labels on its media carry: its state directory is lost, or it moved to another host.

use super::super::group::Group;
use super::super::medium::{MediumKind, MediumPath, PlexMedium};
use super::super::plex::{PlexEvent, PlexState};
use super::super::recovery;
use super::super::volume::VolumeState;
use super::VolumeEvent;
use crate::base::{Name, Refused, Uuid};

/// A medium that bears the label of a plex.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carrier {
    /// The plex.
    pub plex: Uuid,
    /// Where the medium is now.
    pub path: MediumPath,
    /// Whether it is a block device.
    pub block: bool,
    /// Whether it is the file that has the labels, and the plex lies where its record says.
    pub label_file: bool,
    /// Whether its label carries the configuration that is taken in, and not one before it.
    pub newest: bool,
}

impl Carrier {
    /// Where `medium` is by its record: the place that is another now.
    #[must_use]
    pub fn before<'m>(&self, medium: &'m PlexMedium) -> &'m MediumPath {
        if self.label_file { medium.labels() } else { &medium.path }
    }
}

/// The group as it is taken in, from the configuration of the newest label. Nothing but the labels is left of it: its maps
/// are gone, so every volume has to be made equal throughout, whether it was stopped in good order or not; but for those of a
/// group that was exported whose complete plexes are all among the `carriers`, with the label of that export: nobody ran them
/// since they were stopped. Volumes that were never started are forgotten, and so are device numbers and what was still to be
/// freed: nothing is removed. The group is called `name`, where it is to have another.
///
/// # Errors
/// `group.inconsistent`, when two media would stand at one path.
pub fn import_group(labelled: &Group, carriers: &[Carrier], name: Option<&Name>) -> Result<Group, Refused> {
    // The text of a label tells what stood on the labels before it.
    let mut group = labelled.clone().without_labelled().served();
    if let Some(name) = name {
        group.name = name.clone();
    }
    group.leaving.clear();
    group.volumes.retain(|volume| !recovery::was_never_started(volume));
    for volume in &mut group.volumes {
        volume.device = None;
        volume.scrub.run = None;
        let stands = labelled.is_exported() && volume.state() == VolumeState::Clean && {
            let mut complete = volume.plexes.iter().filter(|plex| plex.state().is_complete());
            complete.all(|plex| carriers.iter().any(|carrier| carrier.plex == plex.uuid && carrier.newest))
        };
        for plex in &mut volume.plexes {
            plex.noted = None;
        }
        if stands {
            continue;
        }
        if volume.state() == VolumeState::Clean {
            volume.step(VolumeEvent::Start)?;
            for plex in volume.plexes.iter_mut().filter(|plex| plex.state() == PlexState::Clean) {
                plex.step(PlexEvent::Start)?;
            }
        }
        volume.step(VolumeEvent::Crash)?;
    }
    carriers.iter().for_each(|carrier| put(&mut group, carrier));
    group.check()?;
    Ok(group)
}

/// The plex of `carrier` is where that is; a disk of the group's own that was at its place is the group's there.
pub(super) fn put(group: &mut Group, carrier: &Carrier) {
    let mut plexes = group.volumes.iter_mut().flat_map(|volume| &mut volume.plexes);
    let Some(plex) = plexes.find(|plex| plex.uuid == carrier.plex) else { return };
    plex.noted = None;
    if carrier.label_file {
        plex.medium.label_file = Some(carrier.path.clone());
        return;
    }
    plex.medium.label_file = None;
    let before = plex.medium.path.clone();
    plex.medium.path = carrier.path.clone();
    plex.medium.kind = match (carrier.block, plex.medium.kind) {
        (true, _) => MediumKind::Block,
        (false, MediumKind::Made) => MediumKind::Made,
        (false, MediumKind::Foreign | MediumKind::Image | MediumKind::Block) => MediumKind::Foreign,
    };
    let mut disks = group.media.iter_mut().filter(|medium| medium.block && carrier.block);
    if let Some(disk) = disks.find(|disk| disk.path == before) {
        disk.path = carrier.path.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::group::Plex;
    use super::super::tests::{all_present, cut, ids, pair, path, ready_to_cut};
    use super::super::{Effect, StartArgs, remove_plex, snapstart, start, stop};
    use super::*;

    #[test]
    fn what_is_taken_in_is_made_equal_throughout_wherever_its_media_are_now() {
        let running = cut(&ready_to_cut(10), "v", Some("tmp"), 30);
        let running =
            snapstart(&running, "v", &[super::super::tests::below("/a")], &mut ids(40)).unwrap().group;
        let stopped = stop(&running, "v", &[], &mut ids(41)).unwrap().group;
        for group in [running, stopped] {
            let plex = group.volume("v").unwrap().plexes()[0].uuid();
            let carriers =
                [Carrier { plex, path: path("/dev/new"), block: true, label_file: false, newest: true }];
            let taken = import_group(&group, &carriers, None).unwrap();
            let volume = taken.volume("v").unwrap();
            assert_eq!((volume.state(), volume.device()), (VolumeState::NeedSync, None));
            assert_eq!(volume.plexes()[0].medium().path, path("/dev/new"));
            assert_eq!(volume.plexes()[0].medium().kind, MediumKind::Block);
            assert_eq!(taken.volume("tmp").unwrap().state(), VolumeState::NeedSync);
            assert_eq!(taken.volume("v").unwrap().snapshots().len(), 1, "the relation stays");
            let media = all_present(&taken, "v");
            let args = StartArgs { volume: "v", media: &media, source: None, unix_s: 1 };
            start(&taken, &args, &mut ids(42)).unwrap();
        }
        let two = import_group(&stop(&pair(), "v", &[], &mut ids(5)).unwrap().group, &[], None).unwrap();
        let media = all_present(&two, "v");
        let args = StartArgs { volume: "v", media: &media, source: Some("v-02"), unix_s: 1 };
        let started = start(&two, &args, &mut ids(6)).unwrap();
        assert!(started.after_commit.iter().any(|effect| matches!(effect, Effect::Resync { .. })));
    }

    #[test]
    fn nothing_is_removed_by_taking_in() {
        let group = remove_plex(&pair(), "v", "v-02", &mut ids(9)).unwrap().group;
        assert_eq!(group.leaving().len(), 1);
        assert_eq!(import_group(&group, &[], None).unwrap().leaving(), []);
        let plexes = pair().volume("v").unwrap().plexes().iter().map(Plex::uuid).collect::<Vec<_>>();
        let twice = plexes.iter().map(|plex| Carrier {
            plex: *plex,
            path: path("/x"),
            block: false,
            label_file: false,
            newest: true,
        });
        let refused = import_group(&pair(), &twice.collect::<Vec<_>>(), None).unwrap_err();
        assert_eq!(refused.id, "group.inconsistent");
    }
}
