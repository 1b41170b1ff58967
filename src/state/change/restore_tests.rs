//! Scenarios of a restore, step by step, and of the way back from it.

use super::tests::*;
use super::*;
use crate::base::Kind;
use crate::state::{Archive, RestorePhase};

/// Volume `v` with its snapshot `tmp`, which is stopped.
fn ready() -> Group {
    let group = cut(&ready_to_cut(10), "v", Some("tmp"), 20);
    stop(&group, "tmp", &[], &mut ids(21)).unwrap().group
}

fn archive(number: u8) -> Archive {
    Archive::new(&Name::new("v").unwrap(), ids(number).uuid(), 1_700_000_000, 1 << 20)
}

fn args(archive: Option<&Archive>) -> RestoreArgs<'_> {
    let snapshot = SnapbackArgs { snapshot: "tmp", plexes: Some(1), holders: &[] };
    RestoreArgs { snapshot, holders: &[], archive }
}

fn phase(group: &Group) -> Option<RestorePhase> {
    group.volume("v").unwrap().restore().map(|restore| restore.phase)
}

fn volume(group: &Group) -> Uuid {
    group.volume("v").unwrap().uuid()
}

/// Volume `v`, restored from its snapshot and with a way back.
pub(super) fn restored() -> Group {
    let saving = begin_restore(&ready(), &args(Some(&archive(30)))).unwrap().group;
    let writing = restore_saved(&saving, volume(&saving)).unwrap().group;
    let done = finish_restore(&writing, volume(&writing), &mut ids(35)).unwrap().group;
    let returned = done.volume("v").unwrap().plexes()[1].uuid();
    synced_plex(&done, returned, &mut ids(36)).unwrap().group
}

#[test]
fn a_restore_is_recorded_before_a_byte_is_overwritten_and_keeps_everybody_else_off() {
    let group = ready();
    let way_back = archive(30);
    let holder = ["mounted on /mnt".to_owned()];
    refused(
        begin_restore(&group, &RestoreArgs { holders: &holder, ..args(None) }),
        Kind::Open,
        "volume.open",
        "v: the volume is in use: mounted on /mnt; unmount or close it first",
    );
    let held = SnapbackArgs { holders: &holder, ..args(None).snapshot };
    assert_eq!(
        begin_restore(&group, &RestoreArgs { snapshot: held, ..args(None) }).unwrap_err().object,
        "tmp"
    );
    let running = start(
        &group,
        &StartArgs { volume: "tmp", media: &all_present(&group, "tmp"), source: None, unix_s: 5 },
        &mut ids(31),
    );
    assert_eq!(begin_restore(&running.unwrap().group, &args(None)).unwrap_err().id, "volume.started");
    let origin = stop(&group, "v", &[], &mut ids(32)).unwrap().group;
    assert_eq!(begin_restore(&origin, &args(None)).unwrap_err().id, "volume.not-started");

    let saving = begin_restore(&group, &args(Some(&way_back))).unwrap();
    assert!(saving.before_commit.is_empty() && saving.after_commit.is_empty());
    let saving = saving.group;
    assert_eq!(phase(&saving), Some(RestorePhase::Saving));
    assert_eq!(phase(&begin_restore(&group, &args(None)).unwrap().group), Some(RestorePhase::Writing));
    for refused in [
        stop(&saving, "v", &[], &mut ids(33)).unwrap_err(),
        begin_restore(&saving, &args(None)).unwrap_err(),
        snapback(&saving, &args(None).snapshot, &mut ids(33)).unwrap_err(),
        snapclear(&saving, "tmp", &mut ids(33)).unwrap_err(),
        remove_volume(
            &saving,
            &RemoveArgs { volume: "tmp", recursive: true, force: true, holders: &[] },
            &mut ids(33),
        )
        .unwrap_err(),
        start(
            &saving,
            &StartArgs { volume: "tmp", media: &all_present(&saving, "tmp"), source: None, unix_s: 5 },
            &mut ids(33),
        )
        .unwrap_err(),
        begin_undo(&saving, "v", None, &[], false).unwrap_err(),
    ] {
        assert_eq!((refused.kind, refused.id.as_str()), (Kind::Busy, "volume.restoring"), "{refused}");
    }
    // Only from phase to phase.
    assert_eq!(
        finish_restore(&saving, volume(&saving), &mut ids(34)).unwrap_err().id,
        "volume.not-restoring"
    );
    let writing = restore_saved(&saving, volume(&saving)).unwrap().group;
    assert_eq!(phase(&writing), Some(RestorePhase::Writing));
    assert_eq!(restore_saved(&writing, volume(&writing)).unwrap_err().id, "volume.not-restoring");
    // Half overwritten it is never let go.
    assert_eq!(
        drop_restore(&writing, volume(&writing), &mut ids(34)).unwrap_err().id,
        "volume.not-restoring"
    );
}

#[test]
fn rule_21_a_finished_restore_gives_the_plex_back_equal_and_keeps_the_way_back() {
    let group = ready();
    let way_back = archive(30);
    let saving = begin_restore(&group, &args(Some(&way_back))).unwrap().group;
    let writing = restore_saved(&saving, volume(&saving)).unwrap().group;
    let done = finish_restore(&writing, volume(&writing), &mut ids(35)).unwrap();
    assert_eq!(states(&done.group, "v"), "ACTIVE v-01=ACTIVE v-02=SNAPATT");
    assert_eq!(done.group.volume("tmp").unwrap_err().id, "volume.unknown");
    let record = done.group.volume("v").unwrap();
    let (undo, plex) = (&record.undos()[0], &record.plexes()[1]);
    assert_eq!((record.restore(), &undo.archive), (None, &way_back));
    // What it lacks is nothing, and what is written from now on is marked for whoever wants to go back.
    let empty = |map| Effect::CreateMap { map, volume: record.uuid(), fill: MapFill::Union(Vec::new()) };
    assert_eq!(done.before_commit, [empty(undo.map), empty(plex.map().unwrap())]);
    assert!(record.link_maps(&done.group).contains(&undo.map));

    let done = synced_plex(&done.group, record.plexes()[1].uuid(), &mut ids(36)).unwrap().group;
    // A way back fits the length that the volume has.
    assert_eq!(resize_begin(&writing, "v", 1 << 30).unwrap_err().id, "volume.restoring");
    assert_eq!(resize_begin(&done, "v", 1 << 30).unwrap_err().id, "resize.undo");
    assert_eq!(begin_undo(&done, "v", Some("nosuch"), &[], false).unwrap_err().id, "undo.unknown");
    let undoing = begin_undo(&done, "v", None, &[], false).unwrap().group;
    assert_eq!(phase(&undoing), Some(RestorePhase::Undoing));
    let undone = drop_restore(&undoing, volume(&undoing), &mut ids(37)).unwrap();
    assert!(undone.group.volume("v").unwrap().undos().is_empty());
    let file = way_back.file.clone();
    let map = done.volume("v").unwrap().undos()[0].map;
    assert_eq!(undone.after_commit, [Effect::RemoveMap { map }, Effect::RemoveArchive { file }]);
    // Kept if that is wished, and deleted, or gone with its volume, later.
    let kept = begin_undo(&done, "v", Some(&way_back.short_id()), &[], true).unwrap().group;
    let kept = drop_restore(&kept, volume(&kept), &mut ids(37)).unwrap();
    assert!(kept.after_commit.is_empty() && kept.group.volume("v").unwrap().undos().len() == 1);
    let deleted = delete_undo(&kept.group, "v", &way_back.short_id(), &mut ids(38)).unwrap();
    assert_eq!(deleted.after_commit, undone.after_commit);
    let remove = RemoveArgs { volume: "v", recursive: true, force: true, holders: &[] };
    let removed = remove_volume(&kept.group, &remove, &mut ids(39)).unwrap();
    assert!(undone.after_commit.iter().all(|effect| removed.after_commit.contains(effect)));
}

#[test]
fn a_restore_that_is_told_to_end_goes_back_and_its_snapshot_stays() {
    let group = ready();
    let way_back = archive(30);
    let saving = begin_restore(&group, &args(Some(&way_back))).unwrap().group;
    let remove = Effect::RemoveArchive { file: way_back.file.clone() };
    let dropped = drop_restore(&saving, volume(&saving), &mut ids(31)).unwrap();
    assert_eq!((&dropped.group, &dropped.after_commit[..]), (&group, &[remove.clone()][..]));
    let writing = restore_saved(&saving, volume(&saving)).unwrap().group;
    let back = restore_turns_back(&writing, volume(&writing)).unwrap().group;
    assert_eq!(phase(&back), Some(RestorePhase::Undoing));
    let dropped = drop_restore(&back, volume(&back), &mut ids(31)).unwrap();
    assert_eq!((&dropped.group, &dropped.after_commit[..]), (&group, &[remove][..]));
    let unsafe_one = begin_restore(&group, &args(None)).unwrap().group;
    assert_eq!(restore_turns_back(&unsafe_one, volume(&unsafe_one)).unwrap_err().id, "undo.none");
}

#[test]
fn after_a_restart_what_overwrote_nothing_is_dropped_and_the_rest_goes_on() {
    let group = ready();
    let way_back = archive(30);
    let saving = begin_restore(&group, &args(Some(&way_back))).unwrap().group;
    let restarted = after_restart(&saving, &[], &mut ids(31)).unwrap();
    assert_eq!(restarted.group.volume("v").unwrap().restore(), None);
    assert!(restarted.after_commit.contains(&Effect::RemoveArchive { file: way_back.file.clone() }));
    let writing = restore_saved(&saving, volume(&saving)).unwrap().group;
    let back = restore_turns_back(&writing, volume(&writing)).unwrap().group;
    for half in [writing, back] {
        let restarted = after_restart(&half, &[], &mut ids(31)).unwrap().group;
        assert_eq!(phase(&restarted), phase(&half));
        // It can be started, to go on; its snapshot cannot.
        let media = all_present(&restarted, "v");
        let start_v = StartArgs { volume: "v", media: &media, source: None, unix_s: 5 };
        assert_eq!(phase(&start(&restarted, &start_v, &mut ids(32)).unwrap().group), phase(&half));
        let start_tmp = StartArgs { volume: "tmp", ..start_v };
        assert_eq!(start(&restarted, &start_tmp, &mut ids(32)).unwrap_err().id, "volume.restoring");
    }
}

#[test]
fn ways_back_are_bounded_and_what_makes_no_sense_is_refused() {
    let mut group = ready();
    let uuid = volume(&group);
    for number in 0..crate::state::restore::MAX_UNDOS as u8 {
        let way_back = archive(40 + number);
        let mut one = args(Some(&way_back));
        one.snapshot.plexes = Some(0);
        let saving = begin_restore(&group, &one).unwrap().group;
        let writing = restore_saved(&saving, uuid).unwrap().group;
        group = finish_restore(&writing, uuid, &mut ids(60 + number)).unwrap().group;
        assert_eq!(states(&group, "tmp"), "CLEAN v-02=CLEAN", "it is kept");
    }
    assert_eq!(begin_restore(&group, &args(Some(&archive(80)))).unwrap_err().id, "undo.too-many");
    let mut named = group.clone();
    named.volume_mut(uuid).unwrap().undos[0].archive.file = "configuration".to_owned();
    assert_eq!(named.check().unwrap_err().id, "group.inconsistent");
    let mut stray = begin_restore(&group, &args(None)).unwrap().group;
    stray.volume_mut(uuid).unwrap().restore.as_mut().unwrap().snapshot = Some(uuid);
    assert_eq!(stray.check().unwrap_err().id, "group.inconsistent");
}
