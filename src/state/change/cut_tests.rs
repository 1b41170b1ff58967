//! Scenarios of the snapshot procedure, step by step: snapstart, cut, snapback, snapabort, removal.

use super::tests::*;
use super::*;
use crate::base::Kind;
use crate::state::{Grade, Purpose};

#[test]
fn snapstart_copies_then_is_in_step_then_is_cut() {
    let group = started(&make(&empty_group(), "v", &[below("/a")]), "v");
    let volume = group.volume("v").unwrap().uuid();
    refused(
        prepare_cut(&group, &[CutTarget { volume: "v", name: None, mirrors: 1 }], &mut ids(5)),
        Kind::InvalidState,
        "snapshot.no-snapdone",
        "v: insufficient number of active snapshot mirrors in v: 1 wanted, 0 SNAPDONE; \
         make one with: vxassist snapstart v",
    );
    let begun = snapstart(&group, "v", &[below("/b")], &mut ids(5)).unwrap();
    assert_eq!(states(&begun.group, "v"), "ACTIVE v-01=ACTIVE v-02=SNAPTMP");
    let plex = begun.group.volume("v").unwrap().plexes()[1].uuid();
    assert_eq!(synced_plex(&begun.group, plex, &mut ids(6)).unwrap_err().id, "plex.state");

    let copying = plex_ready(&begun.group, &made_of(&begun.group, plex), &mut ids(6)).unwrap();
    assert_eq!(states(&copying.group, "v"), "ACTIVE v-01=ACTIVE v-02=SNAPATT");
    let map = copying.group.plex_by_id(plex).unwrap().1.map().unwrap();
    assert_eq!(copying.before_commit, [Effect::CreateMap { map, volume, fill: MapFill::Full }]);
    assert_eq!(copying.after_commit, [Effect::Attach { volume, plex }, Effect::Copy { volume, plex }]);
    refused(
        prepare_cut(&copying.group, &[CutTarget { volume: "v", name: None, mirrors: 1 }], &mut ids(7)),
        Kind::InvalidState,
        "snapshot.no-snapdone",
        "v: insufficient number of active snapshot mirrors in v: 1 wanted, 0 SNAPDONE; \
         v-02 is SNAPATT, wait for it with: vxassist snapwait v",
    );
    // An error of its medium removes it and frees the space; being slow makes it stale.
    let failed = lose_plex(&copying.group, plex, Loss::Failed, None, &mut ids(7)).unwrap();
    assert_eq!(states(&failed.group, "v"), "ACTIVE v-01=ACTIVE");
    assert_eq!(failed.after_commit[0], Effect::RemoveMap { map });
    assert!(matches!(failed.after_commit[1], Effect::Release { .. }));
    let slow = lose_plex(&copying.group, plex, Loss::Slow, None, &mut ids(7)).unwrap().group;
    assert_eq!(states(&slow, "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
    let again = attach_plex(&slow, "v", "v-02", &mut ids(8)).unwrap().group;
    assert_eq!(
        states(&synced_plex(&again, plex, &mut ids(9)).unwrap().group, "v"),
        "ACTIVE v-01=ACTIVE v-02=SNAPDONE"
    );

    let ready = synced_plex(&copying.group, plex, &mut ids(8)).unwrap().group;
    assert_eq!(ready.volume("v").unwrap().snapdone_count(), 1);
    let (set, prepared) =
        prepare_cut(&ready, &[CutTarget { volume: "v", name: Some("tmp"), mirrors: 1 }], &mut ids(9))
            .unwrap();
    let cut = prepared.group.volume("v").unwrap().prepared().unwrap().clone();
    assert_eq!(cut.plexes, [plex]);
    let empty = |map| Effect::CreateMap { map, volume, fill: MapFill::Empty };
    assert_eq!(
        prepared.before_commit,
        [
            empty(cut.origin_map),
            empty(cut.snapshot_map),
            Effect::CreateIntent { volume: cut.volume, length: 100 * MIB }
        ]
    );
    refused(
        stop(&prepared.group, "v", &[], &mut ids(10)),
        Kind::Busy,
        "volume.busy",
        "v: a cut of the volume is under way; try again when it is done",
    );
    let facts = CutFacts { volume, grade: Grade::Fs, cut_unix_s: 77, hold_ns: 5, frozen_ns: 6 };
    let done = commit_cut(&prepared.group, set, &[facts], &mut ids(11)).unwrap();
    assert_eq!(states(&done.group, "v"), "ACTIVE v-01=ACTIVE");
    assert_eq!(states(&done.group, "tmp"), "ACTIVE v-02=ACTIVE");
    assert_eq!(done.after_commit, [Effect::StartDevice { volume: cut.volume, number: None }]);
    let (origin, link) = done.group.link_of(cut.volume).unwrap();
    assert_eq!((origin.uuid(), link.grade, link.cut_unix_s, link.hold_ns), (volume, Grade::Fs, 77, 5));
    let (snapshot, moved) = done.group.plex_by_id(plex).unwrap();
    assert_eq!((snapshot.origin(), moved.purpose()), (Some(volume), Purpose::Mirror));
    assert_ne!(moved.generation(), origin.plexes()[0].generation(), "the lineages part");
    assert_eq!(origin.link_maps(&done.group), [link.origin_map]);
    assert_eq!(snapshot.link_maps(&done.group), [link.snapshot_map]);
    refused(
        commit_cut(&done.group, set, &[facts], &mut ids(12)),
        Kind::Changed,
        "snapshot.no-cut",
        &format!("{set}: no cut of this identity is prepared"),
    );
}

#[test]
fn several_volumes_are_cut_as_one_set_with_default_names() {
    let group = ready_to_cut(10);
    let group = started(&make(&group, "w", &[below("/a")]), "w");
    let group = add_snapdone(&group, "w", 20);
    let target = |volume| CutTarget { volume, name: None, mirrors: 1 };
    let (set, prepared) = prepare_cut(&group, &[target("v"), target("w")], &mut ids(30)).unwrap();
    let done = commit_cut(&prepared.group, set, &[], &mut ids(31)).unwrap().group;
    assert_eq!(states(&done, "SNAP-v"), "ACTIVE v-02=ACTIVE");
    assert_eq!(states(&done, "SNAP-w"), "ACTIVE w-02=ACTIVE");
    let again = cut(&add_snapdone(&done, "v", 40), "v", None, 50);
    assert_eq!(states(&again, "SNAP1-v"), "ACTIVE v-03=ACTIVE");
    assert_eq!(again.volume("v").unwrap().snapshots().len(), 2);

    refused(
        prepare_cut(&group, &[target("v"), target("v")], &mut ids(30)),
        Kind::Usage,
        "snapshot.twice",
        "v: named twice in one cut; name each volume once",
    );
    refused(
        prepare_cut(&group, &[CutTarget { volume: "v", name: Some("w"), mirrors: 1 }], &mut ids(30)),
        Kind::Exists,
        "volume.exists",
        "w: a volume or plex of this name exists in group dg; choose another name",
    );
    // One volume without a mirror: none is cut.
    let bare = started(&make(&group, "x", &[below("/a")]), "x");
    assert_eq!(
        prepare_cut(&bare, &[target("v"), target("x")], &mut ids(30)).unwrap_err().id,
        "snapshot.no-snapdone"
    );
}

#[test]
fn a_cut_that_was_not_committed_is_rolled_back() {
    let target = CutTarget { volume: "v", name: Some("tmp"), mirrors: 1 };
    let (set, prepared) = prepare_cut(&ready_to_cut(10), &[target], &mut ids(20)).unwrap();
    let group = prepared.group;
    let early = roll_back_cut(&group, set, false, &mut ids(21)).unwrap();
    assert_eq!(states(&early.group, "v"), "ACTIVE v-01=ACTIVE v-02=SNAPDONE");
    assert_eq!(early.after_commit.len(), 3, "both maps and the intent map go");
    let late = roll_back_cut(&group, set, true, &mut ids(21)).unwrap();
    assert_eq!(states(&late.group, "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
    assert!(matches!(late.before_commit[..], [Effect::CreateMap { fill: MapFill::Intent, .. }]));

    let crashed = after_restart(&group, &[], &mut ids(22)).unwrap().group;
    let change = start_with(&crashed, "v", &all_present(&crashed, "v"), None).unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
    assert_eq!(change.group.volume("v").unwrap().prepared(), None);
    let uuid = group.volume("v").unwrap().uuid();
    let living = recover(&group, uuid, &all_present(&group, "v"), 9, &mut ids(23)).unwrap();
    assert_eq!(states(&living.group, "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
}

#[test]
fn a_start_removes_unfinished_mirrors_and_a_takeover_goes_on_with_them() {
    let group = started(&make(&empty_group(), "v", &[below("/a")]), "v");
    let group = snapstart(&group, "v", &[below("/b"), below("/b")], &mut ids(5)).unwrap().group;
    let plex = group.volume("v").unwrap().plexes()[1].uuid();
    let group = plex_ready(&group, &made_of(&group, plex), &mut ids(6)).unwrap().group;
    let group = add_plexes(&group, "v", &[below("/b")], &mut ids(7)).unwrap().group;
    assert_eq!(states(&group, "v"), "ACTIVE v-01=ACTIVE v-02=SNAPATT v-03=SNAPTMP v-04=TEMP");

    let volume = group.volume("v").unwrap().uuid();
    let taken = recover(&group, volume, &all_present(&group, "v"), 9, &mut ids(8)).unwrap();
    assert_eq!(states(&taken.group, "v"), "ACTIVE v-01=ACTIVE v-02=SNAPATT");
    assert!(taken.after_commit.contains(&Effect::Copy { volume, plex }));

    // One that was put back has lost what its map takes for copied.
    let mut media = all_present(&group, "v");
    media[1].1 = Presence::Behind("old".to_owned());
    let taken = recover(&group, volume, &media, 9, &mut ids(8)).unwrap();
    assert_eq!(states(&taken.group, "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
    let map = group.volume("v").unwrap().plexes()[1].map().unwrap();
    assert!(taken.before_commit.contains(&Effect::AddToMap { map, volume, fill: MapFill::Full }));

    let released = |change: &Change| {
        change.after_commit.iter().filter(|effect| matches!(effect, Effect::Release { .. })).count()
    };
    let crashed = after_restart(&group, &[], &mut ids(9)).unwrap();
    assert_eq!(states(&crashed.group, "v"), "NEEDSYNC v-01=ACTIVE v-02=SNAPATT");
    assert_eq!(released(&crashed), 2);
    let crashed = crashed.group;
    let change = start_with(&crashed, "v", &all_present(&crashed, "v"), None).unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE");
    assert_eq!(released(&change), 1);
}

#[test]
fn a_finished_mirror_survives_a_restart() {
    let group = stop(&ready_to_cut(10), "v", &[], &mut ids(20)).unwrap().group;
    assert_eq!(states(&group, "v"), "CLEAN v-01=CLEAN v-02=SNAPDONE");
    let group = started(&group, "v");
    assert_eq!(states(&cut(&group, "v", Some("tmp"), 30), "tmp"), "ACTIVE v-02=ACTIVE");
}

#[test]
fn after_a_crash_a_finished_mirror_is_made_equal_before_it_may_be_cut() {
    let group = after_restart(&ready_to_cut(10), &[], &mut ids(20)).unwrap().group;
    let group = started(&group, "v");
    assert_eq!(states(&group, "v"), "SYNC v-01=ACTIVE v-02=SNAPDONE");
    let target = [CutTarget { volume: "v", name: None, mirrors: 1 }];
    refused(
        prepare_cut(&group, &target, &mut ids(21)),
        Kind::Busy,
        "volume.resyncing",
        "v: its plexes are being made equal after a crash; wait for the task that cleave task list shows",
    );
    let done = resync_done(&group, group.volume("v").unwrap().uuid()).unwrap().group;
    assert!(prepare_cut(&done, &target, &mut ids(21)).is_ok());
}

#[test]
fn rule_21_snapback_returns_the_plex_with_the_union_of_both_maps() {
    let group = cut(&ready_to_cut(10), "v", Some("tmp"), 20);
    let back = |group: &Group, holders: &[String]| {
        snapback(group, &SnapbackArgs { snapshot: "tmp", plexes: Some(1), holders }, &mut ids(30))
    };
    refused(
        back(&group, &["mounted on /mnt".to_owned()]),
        Kind::Open,
        "volume.open",
        "tmp: the volume is in use: mounted on /mnt; unmount or close it first",
    );
    refused(
        back(&group, &[]),
        Kind::Started,
        "volume.started",
        "tmp: the volume is started; stop it with: cleave stop tmp",
    );
    let crashed = {
        let living = [group.volume("v").unwrap().uuid()];
        after_restart(&group, &living, &mut ids(31)).unwrap().group
    };
    refused(
        back(&crashed, &[]),
        Kind::InvalidState,
        "snapshot.unclean",
        "tmp: the snapshot volume was not stopped in good order, so its map may miss changes; \
         start it once with: cleave start tmp",
    );
    let stopped = stop(&group, "tmp", &[], &mut ids(32)).unwrap().group;
    let origin_stopped = stop(&stopped, "v", &[], &mut ids(33)).unwrap().group;
    assert_eq!(back(&origin_stopped, &[]).unwrap_err().id, "volume.not-started");
    refused(
        snapback(&stopped, &SnapbackArgs { snapshot: "v", plexes: None, holders: &[] }, &mut ids(34)),
        Kind::InvalidState,
        "snapshot.not-a-snapshot",
        "v: the volume is not a snapshot of another; name a volume made by: vxassist snapshot",
    );
    refused(
        snapback(&stopped, &SnapbackArgs { snapshot: "tmp", plexes: Some(2), holders: &[] }, &mut ids(34)),
        Kind::InvalidState,
        "snapshot.too-few-plexes",
        "tmp: 2 complete plexes wanted, the snapshot volume has 1; ask for fewer, or for all of them",
    );

    let (origin, link) = stopped.link_of(stopped.volume("tmp").unwrap().uuid()).unwrap();
    let change = back(&stopped, &[]).unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE v-02=SNAPATT");
    assert_eq!(change.group.volume("tmp").unwrap_err().id, "volume.unknown");
    let plex = &change.group.volume("v").unwrap().plexes()[1];
    assert_eq!(
        change.before_commit,
        [Effect::CreateMap {
            map: plex.map().unwrap(),
            volume: origin.uuid(),
            fill: MapFill::Union(vec![link.origin_map, link.snapshot_map])
        }]
    );
    assert_eq!(
        change.after_commit,
        [
            Effect::Attach { volume: origin.uuid(), plex: plex.uuid() },
            Effect::Copy { volume: origin.uuid(), plex: plex.uuid() },
            Effect::RemoveMap { map: link.origin_map },
            Effect::RemoveMap { map: link.snapshot_map },
            Effect::RemoveIntent { volume: link.volume }
        ],
        "the relation's maps go only after the union is durable"
    );
    let ready = synced_plex(&change.group, plex.uuid(), &mut ids(35)).unwrap().group;
    assert_eq!(states(&cut(&ready, "v", Some("tmp"), 40), "tmp"), "ACTIVE v-02=ACTIVE");
}

#[test]
fn one_of_two_plexes_goes_back_and_the_snapshot_stays() {
    let group = add_snapdone(&ready_to_cut(10), "v", 20);
    let target = CutTarget { volume: "v", name: Some("tmp"), mirrors: 2 };
    let (set, prepared) = prepare_cut(&group, &[target], &mut ids(30)).unwrap();
    let group = commit_cut(&prepared.group, set, &[], &mut ids(31)).unwrap().group;
    assert_eq!(states(&group, "tmp"), "ACTIVE v-02=ACTIVE v-03=ACTIVE");
    let group = stop(&group, "tmp", &[], &mut ids(32)).unwrap().group;
    let args = SnapbackArgs { snapshot: "tmp", plexes: Some(1), holders: &[] };
    let change = snapback(&group, &args, &mut ids(33)).unwrap();
    assert_eq!(states(&change.group, "tmp"), "CLEAN v-02=CLEAN");
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE v-03=SNAPATT");
    assert_eq!(change.group.volume("v").unwrap().snapshots().len(), 1);
    assert!(!change.after_commit.iter().any(|effect| matches!(effect, Effect::RemoveMap { .. })));
}

#[test]
fn a_plex_and_its_replacement_go_back_as_two_mirrors() {
    let group = cut(&ready_to_cut(10), "v", Some("tmp"), 20);
    let group = replace_plex(&group, "tmp", "v-02", below("/b"), &mut ids(30)).unwrap().group;
    let new = group.volume("tmp").unwrap().plexes()[1].uuid();
    let group = plex_ready(&group, &made_of(&group, new), &mut ids(31)).unwrap().group;
    let group = synced_plex(&group, new, &mut ids(32)).unwrap().group;
    let group = stop(&group, "tmp", &[], &mut ids(33)).unwrap().group;
    assert_eq!(states(&group, "tmp"), "CLEAN v-02=CLEAN tmp-01=CLEAN");
    let args = SnapbackArgs { snapshot: "tmp", plexes: None, holders: &[] };
    let back = snapback(&group, &args, &mut ids(34)).unwrap().group;
    assert_eq!(states(&back, "v"), "ACTIVE v-01=ACTIVE tmp-01=SNAPATT v-02=SNAPATT");
    assert_eq!(back.plex("tmp-01").unwrap().1.replaces(), None);
}

#[test]
fn snapabort_takes_the_least_finished_mirror() {
    let group = ready_to_cut(10);
    let group = snapstart(&group, "v", &[below("/b")], &mut ids(20)).unwrap().group;
    let change = snapabort(&group, "v", Some(1), &mut ids(21)).unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE v-02=SNAPDONE");
    let change = snapabort(&change.group, "v", None, &mut ids(22)).unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE");
    assert!(matches!(change.before_commit[..], [Effect::Detach { .. }]));
    refused(
        snapabort(&change.group, "v", Some(1), &mut ids(23)),
        Kind::NotFound,
        "snapshot.no-mirror",
        "v: the volume has no snapshot mirror; make one with: vxassist snapstart v",
    );
}

#[test]
fn removing_asks_for_the_flags_that_it_needs() {
    let group = cut(&ready_to_cut(10), "v", Some("tmp"), 20);
    let rm = |volume, recursive, force, holders: &[String]| {
        remove_volume(&group, &RemoveArgs { volume, recursive, force, holders }, &mut ids(30))
    };
    refused(
        rm("nope", true, true, &[]),
        Kind::NotFound,
        "volume.unknown",
        "nope: no such volume in group dg; list the volumes with: cleave list",
    );
    refused(
        rm("tmp", true, true, &["dd (pid 9)".to_owned()]),
        Kind::Open,
        "volume.open",
        "tmp: the volume is in use: dd (pid 9); unmount or close it first",
    );
    refused(
        rm("tmp", false, false, &[]),
        Kind::InvalidState,
        "volume.has-plexes",
        "tmp: the volume has 1 plex; add -r to remove them with it",
    );
    refused(
        rm("tmp", true, false, &[]),
        Kind::Started,
        "volume.started",
        "tmp: the volume is started; stop it with: cleave stop tmp, or add -f",
    );
    let stopped = stop(&group, "v", &[], &mut ids(29)).unwrap().group;
    refused(
        remove_volume(
            &stopped,
            &RemoveArgs { volume: "v", recursive: true, force: false, holders: &[] },
            &mut ids(30),
        ),
        Kind::InvalidState,
        "volume.has-snapshots",
        "v: the volume is the origin of tmp; give them back with snapback, remove them, or add -f to make them \
         independent",
    );
    let change = rm("tmp", true, true, &[]).unwrap();
    let snapshot = group.volume("tmp").unwrap();
    assert_eq!(change.before_commit, [Effect::StopDevice { volume: snapshot.uuid(), number: None }]);
    let link = &group.volume("v").unwrap().snapshots()[0];
    assert_eq!(
        change.after_commit,
        [
            Effect::RemoveMap { map: link.origin_map },
            Effect::RemoveMap { map: link.snapshot_map },
            Effect::Release {
                plex: snapshot.plexes()[0].uuid(),
                medium: snapshot.plexes()[0].medium().clone(),
                length: 100 * MIB
            },
            Effect::RemoveIntent { volume: snapshot.uuid() }
        ]
    );
    assert!(change.group.volume("v").unwrap().snapshots().is_empty());
    let orphaned = rm("v", true, true, &[]).unwrap().group;
    assert_eq!(orphaned.volume("tmp").unwrap().origin(), None);
    refused(
        destroy_group(&orphaned),
        Kind::Busy,
        "group.not-empty",
        "dg: the group still has 1 volume; remove them first with: cleave rm",
    );
    let cleared = snapclear(&group, "tmp", &mut ids(31)).unwrap();
    assert_eq!(cleared.after_commit.len(), 2);
    assert_eq!(snapclear(&cleared.group, "tmp", &mut ids(31)).unwrap_err().id, "snapshot.not-a-snapshot");
}
