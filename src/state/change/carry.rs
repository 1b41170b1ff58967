//! A group goes to another host, and media to other places.

use super::super::group::{Group, Volume};
use super::super::medium::MediumPath;
use super::super::refuse;
use super::import::{Carrier, put};
use super::{Change, idle_volume, nothing};
use crate::base::Refused;

/// The group is to be given up here, to be taken in elsewhere from the labels of its media. What its state directory alone has would be
/// lost with that: undo archives, and what is still to be freed. Its change maps are lost; they count as all ones elsewhere.
///
/// # Errors
/// `volume.busy`; `group.started`, `group.undo`, `group.leaving`.
pub fn export_group(group: &Group) -> Result<Change, Refused> {
    for volume in &group.volumes {
        idle_volume(group, volume.name.as_str())?;
        if volume.state().is_started() {
            return Err(refuse::group_started(&group.name, &volume.name));
        }
        if let Some(undo) = volume.undos.first() {
            return Err(refuse::group_undo(&group.name, &volume.name, &undo.archive.short_id()));
        }
    }
    if let Some(left) = group.leaving.first() {
        return Err(refuse::group_leaving(&group.name, &left.medium.path));
    }
    let mut change = nothing(group);
    change.group.exported = true;
    // Its files get other labels, which is a change that a start would take for somebody else's.
    for plex in change.group.volumes.iter_mut().flat_map(|volume| &mut volume.plexes) {
        plex.noted = None;
    }
    Ok(change)
}

/// The media of these plexes are at other places now, as their labels tell. A plex that the group does not have is left out.
///
/// # Errors
/// `medium.serving` for a plex that its volume uses; `group.inconsistent`, when two media would stand at one path.
pub fn move_media(group: &Group, carriers: &[Carrier]) -> Result<Change, Refused> {
    let mut change = nothing(group);
    for carrier in carriers {
        let Some((volume, plex)) = group.plex_by_id(carrier.plex) else { continue };
        let from = carrier.before(&plex.medium);
        if *from == carrier.path {
            continue;
        }
        if volume.state().is_started() && plex.is_attached() {
            return Err(refuse::medium_serving(from, &plex.name));
        }
        put(&mut change.group, carrier);
    }
    change.group.check()?;
    Ok(change)
}

/// The group puts no more plexes on the medium at `path`.
///
/// # Errors
/// `medium.carries` while a plex lies there.
pub fn remove_medium(group: &Group, path: &MediumPath) -> Result<Change, Refused> {
    let plexes = group.volumes.iter().flat_map(Volume::plexes);
    if let Some(plex) = plexes.into_iter().find(|plex| plex.medium.path.as_path().starts_with(path.as_path()))
    {
        return Err(refuse::medium_carries(path, &plex.name));
    }
    if let Some(left) =
        group.leaving.iter().find(|left| left.medium.path.as_path().starts_with(path.as_path()))
    {
        return Err(refuse::group_leaving(&group.name, &left.medium.path));
    }
    let mut change = nothing(group);
    change.group.media.retain(|medium| medium.path != *path);
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cut, ids, pair, path, ready_to_cut};
    use super::super::{add_medium, import_group, remove_plex, stop};
    use super::*;
    use crate::base::{Kind, Name};
    use crate::state::group::Plex;
    use crate::state::medium::PoolMedium;
    use crate::state::volume::VolumeState;

    fn stopped() -> Group {
        stop(&pair(), "v", &[], &mut ids(5)).unwrap().group
    }

    fn carriers(group: &Group, newest: bool) -> Vec<Carrier> {
        let plexes = group.volumes().iter().flat_map(Volume::plexes).map(Plex::uuid);
        let at = |(n, plex)| Carrier {
            plex,
            path: path(&format!("/new/{n}")),
            block: false,
            label_file: false,
            newest,
        };
        plexes.enumerate().map(at).collect()
    }

    #[test]
    fn what_was_exported_whole_need_not_be_made_equal_elsewhere() {
        let exported = export_group(&stopped()).unwrap().group;
        assert!(exported.is_exported() && exported.volume("v").unwrap().plexes()[0].noted().is_none());
        let state = |carriers: &[Carrier]| {
            let taken = import_group(&exported, carriers, None).unwrap();
            assert!(!taken.is_exported());
            taken.volume("v").unwrap().state()
        };
        let all = carriers(&exported, true);
        assert_eq!(state(&all), VolumeState::Clean);
        // One that is not there, or has an older label, may have been run elsewhere.
        assert_eq!(state(&all[..1]), VolumeState::NeedSync);
        assert_eq!(state(&[all[0].clone(), carriers(&exported, false)[1].clone()]), VolumeState::NeedSync);
        // So may any that were not exported.
        let taken = import_group(&stopped(), &all, None).unwrap();
        assert_eq!(taken.volume("v").unwrap().state(), VolumeState::NeedSync);
        let name = Name::new("other").unwrap();
        assert_eq!(import_group(&exported, &all, Some(&name)).unwrap().name(), &name);
    }

    #[test]
    fn a_group_with_something_that_would_be_lost_is_not_exported() {
        assert_eq!(export_group(&pair()).unwrap_err().id, "group.started");
        let mut leaves = remove_plex(&pair(), "v", "v-02", &mut ids(9)).unwrap().group;
        leaves = stop(&leaves, "v", &[], &mut ids(10)).unwrap().group;
        assert_eq!(export_group(&leaves).unwrap_err().id, "group.leaving");
        let mut kept = super::super::restore_tests::restored();
        while let Some(volume) = kept.volumes().iter().find(|volume| volume.state().is_started()) {
            kept = stop(&kept, volume.name().as_str(), &[], &mut ids(11)).unwrap().group;
        }
        let refused = export_group(&kept).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.kind), ("group.undo", Kind::InvalidState));
    }

    #[test]
    fn a_medium_is_elsewhere_once_its_volume_does_not_use_it() {
        let group = pair();
        let all = carriers(&group, true);
        assert_eq!(move_media(&group, &all).unwrap_err().id, "medium.serving");
        let group = stopped();
        let disk = |path| PoolMedium { path, block: true, name: None };
        let from = group.volume("v").unwrap().plexes()[0].medium().path.clone();
        let group = add_medium(&group, disk(from)).unwrap().group;
        let mut moved = carriers(&group, true)[..1].to_vec();
        moved[0].block = true;
        let change = move_media(&group, &moved).unwrap();
        let volume = change.group.volume("v").unwrap();
        assert_eq!(volume.plexes()[0].medium().path, path("/new/0"));
        assert_eq!(change.group.media().last().unwrap().path, path("/new/0"));
        assert_eq!(change.touched(&group), [volume.uuid()]);
        // Two at one place, and one of a group that is not there.
        let mut both = carriers(&group, true);
        both[1].path = both[0].path.clone();
        assert_eq!(move_media(&group, &both).unwrap_err().id, "group.inconsistent");
        let other = cut(&ready_to_cut(10), "v", Some("tmp"), 30);
        assert_eq!(move_media(&stopped(), &carriers(&other, true)[2..]).unwrap().group, stopped());
    }

    #[test]
    fn a_medium_goes_when_nothing_lies_on_it() {
        let group = stopped();
        let place = group.volume("v").unwrap().plexes()[0].medium().path.clone();
        let directory = place.as_str().rsplit_once('/').unwrap().0;
        let pool = |at: &str| PoolMedium { path: path(at), block: false, name: None };
        let group = add_medium(&group, pool("/empty")).unwrap().group;
        assert_eq!(remove_medium(&group, &path(directory)).unwrap_err().id, "medium.carries");
        let left = remove_medium(&group, &path("/empty")).unwrap().group;
        assert_eq!(left.media(), stopped().media());
    }
}
