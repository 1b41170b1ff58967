//! Plexes that are detached, attached, taken offline and replaced by hand; settings.

use super::tests::{
    all_present, below, empty_group, ids, made_of, make, pair, refused, start_with, started, states,
};
use super::*;
use crate::base::Kind;
use crate::state::{Plex, PlexState, ReadPolicy, Settings, SettingsChange};

fn plex_id(group: &Group, name: &str) -> Uuid {
    group.plex(name).unwrap().1.uuid()
}

#[test]
fn a_detached_plex_collects_what_it_misses_and_is_attached_again() {
    let group = pair();
    let old_generation = group.plex("v-01").unwrap().1.generation();
    let change = detach_plex(&group, "v", "v-02", &mut ids(20)).unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
    let (volume, plex) = change.group.plex("v-02").unwrap();
    let map = plex.map().unwrap();
    let (volume, plex) = (volume.uuid(), plex.uuid());
    // What it has not flushed counts as missing too.
    assert_eq!(
        change.before_commit,
        [Effect::Detach { volume, plex }, Effect::CreateMap { map, volume, fill: MapFill::Intent }]
    );
    let generation = change.group.plex("v-01").unwrap().1.generation();
    assert_ne!(generation, old_generation, "the one that stays parts from it");
    refused(
        detach_plex(&change.group, "v", "v-02", &mut ids(21)),
        Kind::InvalidState,
        "plex.state",
        "v-02: the plex cannot be detached while it is STALE; see its state with: vxprint -ht",
    );
    let attached = attach_plex(&change.group, "v", "v-02", &mut ids(22)).unwrap();
    assert_eq!(attached.after_commit, [Effect::Attach { volume, plex }, Effect::Copy { volume, plex }]);
    let done = synced_plex(&attached.group, plex, &mut ids(23)).unwrap();
    assert_eq!(states(&done.group, "v"), "ACTIVE v-01=ACTIVE v-02=ACTIVE");
    assert_eq!(done.group.plex("v-02").unwrap().1.generation(), generation);
}

#[test]
fn the_last_complete_plex_is_not_detached() {
    let group = detach_plex(&pair(), "v", "v-02", &mut ids(20)).unwrap().group;
    refused(
        detach_plex(&group, "v", "v-01", &mut ids(21)),
        Kind::Last,
        "plex.last-active",
        "v-01: it is the last complete plex of volume v; add another first with: cleave mirror v, or remove the volume with: cleave rm v",
    );
    let stopped = make(&empty_group(), "v", &[below("/a"), below("/b")]);
    let refusal = detach_plex(&stopped, "v", "v-02", &mut ids(22)).unwrap_err();
    assert_eq!(refusal.id, "volume.not-started");
}

#[test]
fn an_offline_plex_misses_everything_when_it_comes_back() {
    let group = detach_plex(&pair(), "v", "v-02", &mut ids(20)).unwrap().group;
    let map = group.plex("v-02").unwrap().1.map().unwrap();
    let off = take_offline(&group, "v", "v-02", &mut ids(21)).unwrap();
    assert_eq!(off.after_commit, [Effect::RemoveMap { map }]);
    let on = bring_online(&off.group, "v", "v-02", &mut ids(22)).unwrap();
    let (volume, plex) = on.group.plex("v-02").unwrap();
    let map = plex.map().unwrap();
    assert_eq!(on.before_commit, [Effect::CreateMap { map, volume: volume.uuid(), fill: MapFill::Full }]);
    assert_eq!(states(&on.group, "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
}

/// A replacement up to the point at which the new plex is ACTIVE.
fn replaced(group: &Group, old: &str) -> Group {
    let change = replace_plex(group, "v", old, below("/b"), &mut ids(30)).unwrap();
    assert!(
        change.before_commit.is_empty() && change.after_commit.len() == 1,
        "the old one stays what it is"
    );
    let new = change.group.volume("v").unwrap().plexes().last().unwrap().uuid();
    let group = plex_ready(&change.group, &made_of(&change.group, new), &mut ids(31)).unwrap().group;
    assert_eq!(
        group.plex(old).unwrap().1.state(),
        pair_state(&group, old),
        "and serves on while it is copied"
    );
    synced_plex(&group, new, &mut ids(32)).unwrap().group
}

fn pair_state(group: &Group, old: &str) -> PlexState {
    group.plex(old).unwrap().1.state()
}

#[test]
fn rule_21_a_plex_is_removed_when_the_one_that_replaces_it_is_complete() {
    for lost in [false, true] {
        let group = pair();
        let old = plex_id(&group, "v-01");
        let volume = group.volume("v").unwrap().uuid();
        let group = match lost {
            true => lose_plex(&group, old, Loss::Failed, None, &mut ids(29)).unwrap().group,
            false => group,
        };
        let change = replace_plex(&group, "v", "v-01", below("/b"), &mut ids(30)).unwrap();
        let new = plex_id(&change.group, "v-03");
        let first = if lost { "STALE" } else { "ACTIVE" };
        assert_eq!(states(&change.group, "v"), format!("ACTIVE v-01={first} v-02=ACTIVE v-03=TEMP"));
        // Before it is complete nothing of the old one goes.
        for group in [
            &change.group,
            &plex_ready(&change.group, &made_of(&change.group, new), &mut ids(31)).unwrap().group,
        ] {
            assert_eq!(replaced_plexes(group.volume("v").unwrap()), []);
            let refusal = finish_replace(group, volume, old, &mut ids(33)).unwrap_err();
            assert_eq!(refusal.id, "plex.replace-unfit");
        }
        let group = replaced(&group, "v-01");
        assert_eq!(replaced_plexes(group.volume("v").unwrap()), [old]);
        let done = finish_replace(&group, volume, old, &mut ids(34)).unwrap();
        assert_eq!(states(&done.group, "v"), "ACTIVE v-02=ACTIVE v-03=ACTIVE");
        assert!(matches!(done.after_commit.last(), Some(Effect::Release { plex, .. }) if *plex == old));
        assert_eq!(done.group.plex("v-03").unwrap().1.replaces(), None);
        assert_eq!(replaced_plexes(done.group.volume("v").unwrap()), []);
    }
}

#[test]
fn a_replacement_survives_a_crash_at_any_point() {
    let group = pair();
    let old = plex_id(&group, "v-01");
    let change = replace_plex(&group, "v", "v-01", below("/b"), &mut ids(30)).unwrap();
    let restart = |group: &Group| {
        let crashed = after_restart(group, &[], &mut ids(40)).unwrap().group;
        start_with(&crashed, "v", &all_present(&crashed, "v"), None).unwrap().group
    };
    // Before its medium was there: rolled back.
    let after = restart(&change.group);
    assert_eq!(states(&after, "v"), "SYNC v-01=ACTIVE v-02=ACTIVE");
    // While it is copied: the copy goes on, and the removal follows it.
    let new = plex_id(&change.group, "v-03");
    let copying = plex_ready(&change.group, &made_of(&change.group, new), &mut ids(31)).unwrap().group;
    let after = restart(&copying);
    assert_eq!(states(&after, "v"), "SYNC v-01=ACTIVE v-02=ACTIVE v-03=STALE");
    assert_eq!(after.plex("v-03").unwrap().1.replaces(), Some(old));
    // Between the two transactions: not while the plexes are made equal, whose source may be the old one, then at once.
    let complete = replaced(&group, "v-01");
    let after = restart(&complete);
    assert_eq!(states(&after, "v"), "SYNC v-01=ACTIVE v-02=ACTIVE v-03=ACTIVE");
    assert_eq!(replaced_plexes(after.volume("v").unwrap()), []);
    let equal = resync_done(&after, after.volume("v").unwrap().uuid()).unwrap().group;
    assert_eq!(replaced_plexes(equal.volume("v").unwrap()), [old]);
}

#[test]
fn a_replacement_gives_way_when_either_of_the_two_goes() {
    let group = pair();
    let change = replace_plex(&group, "v", "v-01", below("/b"), &mut ids(30)).unwrap();
    refused(
        replace_plex(&change.group, "v", "v-01", below("/b"), &mut ids(31)),
        Kind::Busy,
        "plex.replaced",
        "v-01: it is being replaced by v-03; wait for the task that cleave task list shows, or remove v-03 first",
    );
    let new = plex_id(&change.group, "v-03");
    let copying = plex_ready(&change.group, &made_of(&change.group, new), &mut ids(32)).unwrap().group;
    let without_old = remove_plex(&copying, "v", "v-01", &mut ids(33)).unwrap().group;
    assert_eq!(without_old.plex("v-03").unwrap().1.replaces(), None);
    let without_new = remove_plex(&copying, "v", "v-03", &mut ids(34)).unwrap().group;
    assert_eq!(states(&without_new, "v"), "ACTIVE v-01=ACTIVE v-02=ACTIVE");
    replace_plex(&without_new, "v", "v-01", below("/b"), &mut ids(35)).unwrap();
}

#[test]
fn what_is_no_mirror_is_not_replaced() {
    let group = super::tests::ready_to_cut(5);
    refused(
        replace_plex(&group, "v", "v-02", below("/b"), &mut ids(30)),
        Kind::InvalidState,
        "plex.replace-unfit",
        "v-02: the plex is SNAPDONE and cannot be replaced; see its state with: cleave show",
    );
    // The only plex of a volume can be.
    let alone = started(&make(&empty_group(), "v", &[below("/a")]), "v");
    let group = replaced(&alone, "v-01");
    let volume = group.volume("v").unwrap();
    let old: Vec<_> = volume.plexes().iter().map(Plex::uuid).take(1).collect();
    assert_eq!(replaced_plexes(volume), old);
}

#[test]
fn a_mirror_in_step_becomes_a_snapshot_mirror_and_is_broken_off() {
    let group = pair();
    let preferred = ReadPolicy::Prefer(group.plex("v-02").unwrap().1.name().clone());
    let group = set_read_policy(&group, "v", preferred.clone()).unwrap().group;
    let done = convert_plex(&group, "v", "v-02", &mut ids(20)).unwrap();
    assert_eq!(states(&done.group, "v"), "ACTIVE v-01=ACTIVE v-02=SNAPDONE");
    assert_eq!((done.before_commit.len(), done.after_commit.len()), (0, 0), "it stays where it is");
    assert_eq!(
        done.group.plex("v-02").unwrap().1.generation(),
        done.group.plex("v-01").unwrap().1.generation(),
        "nobody parts from anybody"
    );
    refused(
        convert_plex(&done.group, "v", "v-01", &mut ids(21)),
        Kind::Last,
        "plex.last-active",
        "v-01: it is the last complete plex of volume v; add another first with: cleave mirror v, or remove the volume with: cleave rm v",
    );
    refused(
        convert_plex(&done.group, "v", "v-02", &mut ids(21)),
        Kind::InvalidState,
        "plex.state",
        "v-02: the plex cannot be converted while it is SNAPDONE; see its state with: vxprint -ht",
    );
    assert_eq!(*done.group.volume("v").unwrap().read_policy(), preferred);
    let broken = super::tests::cut(&done.group, "v", Some("tmp"), 30);
    assert_eq!(states(&broken, "v"), "ACTIVE v-01=ACTIVE");
    assert_eq!(states(&broken, "tmp"), "ACTIVE v-02=ACTIVE");
    assert_eq!(*broken.volume("v").unwrap().read_policy(), ReadPolicy::Select, "whom it preferred has gone");
}

#[test]
fn what_is_not_in_step_or_is_on_its_way_out_is_not_converted() {
    let group = pair();
    let crashed = after_restart(&group, &[], &mut ids(20)).unwrap().group;
    let resyncing = start_with(&crashed, "v", &all_present(&crashed, "v"), None).unwrap().group;
    assert_eq!(convert_plex(&resyncing, "v", "v-02", &mut ids(21)).unwrap_err().id, "volume.resyncing");
    let stale = detach_plex(&group, "v", "v-02", &mut ids(21)).unwrap().group;
    assert_eq!(convert_plex(&stale, "v", "v-02", &mut ids(22)).unwrap_err().id, "plex.state");
    let replacing = replace_plex(&group, "v", "v-01", below("/b"), &mut ids(30)).unwrap().group;
    assert_eq!(convert_plex(&replacing, "v", "v-01", &mut ids(31)).unwrap_err().id, "plex.replaced");
    // One that took another's place already is wanted as a snapshot mirror: the other stays.
    let complete = replaced(&group, "v-01");
    let converted = convert_plex(&complete, "v", "v-03", &mut ids(32)).unwrap().group;
    assert_eq!(states(&converted, "v"), "ACTIVE v-01=ACTIVE v-02=ACTIVE v-03=SNAPDONE");
    assert_eq!(replaced_plexes(converted.volume("v").unwrap()), []);
    let stopped = make(&empty_group(), "v", &[below("/a"), below("/b")]);
    assert_eq!(convert_plex(&stopped, "v", "v-02", &mut ids(33)).unwrap_err().id, "volume.not-started");
}

#[test]
fn settings_are_changed_one_by_one_and_kept() {
    let group = pair();
    let change = |plex_timeout_s, dirty_extents| SettingsChange {
        plex_timeout_s,
        dirty_extents,
        ..SettingsChange::default()
    };
    let next = set(&group, "v", change(Some(0), None)).unwrap().group;
    let next = set(&next, "v", change(None, Some(100))).unwrap().group;
    assert_eq!(
        *next.volume("v").unwrap().settings(),
        Settings { plex_timeout_s: 0, dirty_extents: 100, ..Settings::default() }
    );
    let text = serde_json::to_string(&next).unwrap();
    assert_eq!(serde_json::from_str::<Group>(&text).unwrap(), next);
    assert!(!serde_json::to_string(&group).unwrap().contains("settings"), "defaults are not written down");
    let refusal = set(&group, "v", change(None, Some(1))).unwrap_err();
    assert_eq!(refusal.id, "setting.range");
}
