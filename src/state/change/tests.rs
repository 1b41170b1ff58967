//! Scenarios of volumes and their plexes: each rule at its place, each refusal in full.

use super::*;
use crate::base::{Kind, Refusal};
use crate::state::{
    Grade, MediumKind, MediumPath, Noted, Plex, PlexState, PoolMedium, ReadPolicy, VolumeState,
};

pub(in crate::state) const MIB: u64 = 1 << 20;

pub(in crate::state) fn ids(seed: u8) -> Ids {
    Ids::from_seed([seed; 32])
}

pub(in crate::state) fn path(text: &str) -> MediumPath {
    MediumPath::new(text).unwrap()
}

pub(in crate::state) fn below(directory: &str) -> Site {
    Site::Below { directory: path(directory), sparse: false }
}

pub(in crate::state) fn made_all(group: &Group, volume: &str) -> Vec<Made> {
    let volume = group.volume(volume).unwrap();
    let bytes = needed_bytes(volume);
    let made = |plex: &Plex| Made { plex: plex.uuid(), bytes, block_size: 512, memory_alignment: 4 };
    volume.plexes().iter().map(made).collect()
}

pub(super) fn made_of(group: &Group, plex: Uuid) -> Made {
    let (volume, _) = group.plex_by_id(plex).unwrap();
    let bytes = needed_bytes(volume);
    Made { plex, bytes, block_size: 512, memory_alignment: 4 }
}

pub(in crate::state) fn all_present(group: &Group, volume: &str) -> Vec<(Uuid, Presence)> {
    let plexes = group.volume(volume).unwrap().plexes().iter();
    plexes.map(|plex| (plex.uuid(), Presence::Present(plex.noted()))).collect()
}

pub(in crate::state) fn empty_group() -> Group {
    let media = ["/a", "/b"].map(|text| PoolMedium { path: path(text), block: false, name: None });
    create_group("dg", &media, &mut ids(1)).unwrap()
}

pub(in crate::state) fn make(group: &Group, name: &str, sites: &[Site]) -> Group {
    let args = MakeArgs { name, length: 100 * MIB, region_size: None, sites };
    let group = make_volume(group, &args, &mut ids(name.as_bytes()[0])).unwrap().group;
    let volume = group.volume(name).unwrap().uuid();
    finish_make(&group, volume, &made_all(&group, name), false, &mut ids(3)).unwrap().group
}

pub(in crate::state) fn started(group: &Group, name: &str) -> Group {
    start_with(group, name, &all_present(group, name), None).unwrap().group
}

pub(super) fn start_with(
    group: &Group,
    name: &str,
    media: &[(Uuid, Presence)],
    source: Option<&str>,
) -> Result<Change, Refused> {
    start(group, &StartArgs { volume: name, media, source, unix_s: 1_000 }, &mut ids(4))
}

pub(in crate::state) fn pair() -> Group {
    started(&make(&empty_group(), "v", &[below("/a"), below("/b")]), "v")
}

/// A started volume with one ACTIVE plex and one SNAPDONE mirror.
pub(in crate::state) fn ready_to_cut(seed: u8) -> Group {
    let group = started(&make(&empty_group(), "v", &[below("/a")]), "v");
    add_snapdone(&group, "v", seed)
}

pub(in crate::state) fn add_snapdone(group: &Group, volume: &str, seed: u8) -> Group {
    let group = snapstart(group, volume, &[below("/b")], &mut ids(seed)).unwrap().group;
    let plex = group.volume(volume).unwrap().plexes().last().unwrap().uuid();
    let group = plex_ready(&group, &made_of(&group, plex), &mut ids(seed + 1)).unwrap().group;
    synced_plex(&group, plex, &mut ids(seed + 2)).unwrap().group
}

pub(in crate::state) fn cut(group: &Group, volume: &str, name: Option<&str>, seed: u8) -> Group {
    let target = CutTarget { volume, name, mirrors: 1 };
    let (set, change) = prepare_cut(group, &[target], &mut ids(seed)).unwrap();
    let volume = group.volume(volume).unwrap().uuid();
    let facts = CutFacts {
        volume,
        grade: Grade::Fs,
        cut_unix_s: 1_700_000_000,
        hold_ns: 2_000_000,
        frozen_ns: 9_000_000,
    };
    commit_cut(&change.group, set, &[facts], &mut ids(seed + 1)).unwrap().group
}

pub(super) fn states(group: &Group, volume: &str) -> String {
    let volume = group.volume(volume).unwrap();
    let plexes: Vec<_> = volume.plexes().iter().map(|p| format!("{}={}", p.name(), p.state())).collect();
    format!("{} {}", volume.state(), plexes.join(" "))
}

#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(
    result: Result<T, Refused>,
    kind: Kind,
    id: &str,
    line: &str,
) -> Refusal {
    let refusal = *result.unwrap_err();
    assert_eq!((refusal.kind, refusal.id.as_str(), refusal.to_string().as_str()), (kind, id, line));
    refusal
}

#[test]
fn a_volume_is_recorded_before_its_media_are_made() {
    let args =
        MakeArgs { name: "v", length: 100 * MIB, region_size: None, sites: &[below("/a"), below("/b")] };
    let change = make_volume(&empty_group(), &args, &mut ids(2)).unwrap();
    assert_eq!(states(&change.group, "v"), "EMPTY v-01=EMPTY v-02=EMPTY");
    assert_eq!(change.before_commit, []);
    let volume = change.group.volume("v").unwrap();
    let [first, second] = volume.plexes() else { panic!("two plexes") };
    let allocate = |plex: &Plex| Effect::Allocate {
        volume: volume.uuid(),
        plex: plex.uuid(),
        medium: plex.medium().clone(),
        bytes: 102 * MIB,
    };
    assert_eq!(change.after_commit, [allocate(first), allocate(second)]);
    assert!(first.medium().path.as_str().starts_with("/a/v-01-"), "{}", first.medium().path);
    assert!(second.medium().path.as_str().ends_with(".img"));
    assert_eq!(first.medium().kind, MediumKind::Made);

    let done =
        finish_make(&change.group, volume.uuid(), &made_all(&change.group, "v"), false, &mut ids(3)).unwrap();
    assert_eq!(states(&done.group, "v"), "CLEAN v-01=CLEAN v-02=CLEAN");
    assert_eq!(done.before_commit, [Effect::CreateIntent { volume: volume.uuid(), length: 100 * MIB }]);
    assert_eq!(done.touched(&change.group), [volume.uuid()]);
    assert_eq!(done.group.volume("v").unwrap().memory_alignment(), 4);
}

#[test]
fn a_foreign_medium_holds_what_counts_and_the_others_are_copied() {
    let file = Site::File { path: path("/old/disk.img"), bytes: 102 * MIB };
    let group = make(&empty_group(), "v", &[below("/a"), file]);
    assert_eq!(states(&group, "v"), "CLEAN v-01=STALE v-02=CLEAN");
    assert!(group.volume("v").unwrap().plexes()[0].map().is_some());
}

#[test]
fn making_refuses_what_cannot_work() {
    let group = pair();
    let site = [below("/a")];
    fn args<'a>(name: &'a str, length: u64, sites: &'a [Site]) -> MakeArgs<'a> {
        MakeArgs { name, length, region_size: None, sites }
    }
    let make = |args: &MakeArgs| make_volume(&group, args, &mut ids(9));
    refused(
        make(&args("v", 100 * MIB, &site)),
        Kind::Exists,
        "volume.exists",
        "v: a volume or plex of this name exists in group dg; choose another name",
    );
    refused(
        make(&args("v-02", 100 * MIB, &site)),
        Kind::Exists,
        "volume.exists",
        "v-02: a volume or plex of this name exists in group dg; choose another name",
    );
    refused(
        make(&args("..", 100 * MIB, &site)),
        Kind::Syntax,
        "name.bad-start",
        "..: the name of a volume does not start with a letter, a digit or '_'; \
         choose a name such as data1: letters, digits, '_', '-', '.', ':'",
    );
    refused(
        make(&args("w", 100 * MIB + 512, &site)),
        Kind::Usage,
        "size.unaligned",
        "100.0 MiB (104858112 bytes): is not a multiple of 4096 bytes; take 204808 sectors: 100.0 MiB (104861696 bytes)",
    );
    refused(
        make(&args("w", 1 << 63, &site)),
        Kind::Usage,
        "size.too-large",
        "8 EiB (9223372036854775808 bytes): is too large; the largest volume has 1 EiB",
    );
    refused(
        make(&args("w", 100 * MIB, &[])),
        Kind::Usage,
        "plex.none",
        "w: no plex was asked for; ask for at least one mirror",
    );
    refused(
        make(&args("w", 100 * MIB, &[Site::Block { path: path("/dev/sdx"), bytes: 102 * MIB - 512 }])),
        Kind::NoSpace,
        "plex.too-small",
        "/dev/sdx: too small by 512 bytes for a plex of volume w: it has 101.9 MiB (106954240 bytes), \
         102 MiB (106954752 bytes) are needed; \
         make it at least 102 MiB (106954752 bytes)",
    );
    let disk = || Site::Block { path: path("/dev/sdx"), bytes: 102 * MIB };
    refused(
        make(&args("w", 100 * MIB, &[disk(), disk()])),
        Kind::Usage,
        "medium.twice",
        "/dev/sdx: named twice; name each medium once",
    );
    let used = group.volume("v").unwrap().plexes()[0].medium().path.clone();
    refused(
        make(&args("w", 100 * MIB, &[Site::File { path: used.clone(), bytes: 102 * MIB }])),
        Kind::Medium,
        "medium.in-use",
        &format!("{used}: it carries plex v-01; choose another file or device"),
    );
    refused(
        make(&args("w", 100 * MIB, &vec![below("/a"); 33])),
        Kind::Usage,
        "plex.too-many",
        "w: 33 plexes are more than 32; ask for fewer mirrors",
    );
}

#[test]
fn a_medium_that_turns_out_too_small_or_too_coarse_is_refused_by_numbers() {
    let args = MakeArgs { name: "v", length: 100 * MIB, region_size: None, sites: &[below("/a")] };
    let group = make_volume(&empty_group(), &args, &mut ids(2)).unwrap().group;
    let volume = group.volume("v").unwrap().uuid();
    let mut made = made_all(&group, "v");
    let file = group.volume("v").unwrap().plexes()[0].medium().path.clone();
    made[0].bytes -= 1;
    assert_eq!(finish_make(&group, volume, &made, false, &mut ids(3)).unwrap_err().id, "plex.too-small");
    made[0].bytes += 1;
    made[0].block_size = 8192;
    refused(
        finish_make(&group, volume, &made, false, &mut ids(3)),
        Kind::Medium,
        "plex.block-size",
        &format!(
            "{file}: needs a block size of 8192 bytes, volume v has 4096, fixed when it was made; \
             use a medium that does with less"
        ),
    );
    let abandoned = abandon_make(&group, volume, &mut ids(3)).unwrap();
    assert!(abandoned.group.volumes().is_empty());
    assert!(matches!(abandoned.after_commit[..], [Effect::Release { .. }]));
}

#[test]
fn a_start_revokes_clean_and_begins_a_run_and_a_stop_ends_it() {
    let group = make(&empty_group(), "v", &[below("/a"), below("/b")]);
    let change = start_with(&group, "v", &all_present(&group, "v"), None).unwrap();
    let volume = change.group.volume("v").unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE v-02=ACTIVE");
    assert_eq!((volume.run().0, volume.stop().0), (1, 0));
    assert_eq!(change.after_commit, [Effect::StartDevice { volume: volume.uuid(), number: None }]);
    refused(
        start_with(&change.group, "v", &[], None),
        Kind::Started,
        "volume.started",
        "v: the volume is started already",
    );
    refused(
        stop(&change.group, "v", &["mounted on /mnt".to_owned(), "fio (pid 17)".to_owned()], &mut ids(5)),
        Kind::Open,
        "volume.open",
        "v: the volume is in use: mounted on /mnt, fio (pid 17); unmount or close it first",
    );

    let numbered = assign_device(&change.group, volume.uuid(), Some(3)).unwrap().group;
    let change = stop(&numbered, "v", &[], &mut ids(5)).unwrap();
    let volume = change.group.volume("v").unwrap();
    assert_eq!(states(&change.group, "v"), "CLEAN v-01=CLEAN v-02=CLEAN");
    assert_eq!((volume.run().0, volume.stop().0), (1, 2));
    assert_eq!(change.before_commit, [Effect::StopDevice { volume: volume.uuid(), number: Some(3) }]);
    refused(
        stop(&change.group, "v", &[], &mut ids(5)),
        Kind::NotStarted,
        "volume.not-started",
        "v: the volume is not started; start it with: cleave start v",
    );
    let again = started(&change.group, "v");
    assert_eq!(again.volume("v").unwrap().device(), Some(3));
    assert_eq!(again.volume("v").unwrap().run().0, 3);
}

#[test]
fn a_device_number_goes_to_who_has_it_now() {
    let group = make(&make(&empty_group(), "v", &[below("/a")]), "w", &[below("/b")]);
    let uuid = |name: &str| group.volume(name).unwrap().uuid();
    let numbers = |group: &Group| ["v", "w"].map(|name| group.volume(name).unwrap().device());
    let first = assign_device(&group, uuid("v"), Some(0)).unwrap().group;
    let second = assign_device(&first, uuid("w"), Some(1)).unwrap().group;
    assert_eq!(numbers(&second), [Some(0), Some(1)]);
    // v was stopped, and the kernel gave its number to w.
    let third = assign_device(&second, uuid("w"), Some(0)).unwrap().group;
    assert_eq!(numbers(&third), [None, Some(0)]);
}

#[test]
fn starting_without_a_plex_makes_it_stale_and_renews_the_generation_of_the_others() {
    let group = make(&empty_group(), "v", &[below("/a"), below("/b")]);
    let [first, second] = group.volume("v").unwrap().plexes() else { panic!("two plexes") };
    let media = [
        (first.uuid(), Presence::Present(None)),
        (second.uuid(), Presence::Missing("no such file".to_owned())),
    ];
    let change = start_with(&group, "v", &media, None).unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
    let volume = change.group.volume("v").unwrap();
    let [new_first, new_second] = volume.plexes() else { panic!("two plexes") };
    assert_ne!(new_first.generation(), first.generation());
    assert_eq!(new_first.past_generations(), [first.generation()]);
    assert_eq!(new_second.generation(), second.generation(), "the plex that left keeps what its label says");
    let map = new_second.map().unwrap();
    assert_eq!(
        change.before_commit,
        [Effect::CreateMap { map, volume: volume.uuid(), fill: MapFill::Intent }],
        "the map is seeded before the commit"
    );
    refused(
        start_with(&group, "v", &[(first.uuid(), Presence::Missing("no such file".to_owned()))], None),
        Kind::CannotStart,
        "volume.no-complete-plex",
        "v: no complete plex can be used: v-01 is missing: no such file, v-02 is missing: it was not looked for; \
         bring a medium back and start again",
    );
}

#[test]
fn a_file_changed_behind_our_back_needs_a_source_named() {
    let group = stop(&pair(), "v", &[], &mut ids(5)).unwrap().group;
    let volume = group.volume("v").unwrap();
    let seen = Noted { size: 102 * MIB, mtime_ns: 10, ctime_ns: 11 };
    let noted: Vec<_> = volume.plexes().iter().map(|plex| (plex.uuid(), seen)).collect();
    let group = note_media(&group, volume.uuid(), &noted).unwrap().group;
    assert_eq!(states(&started(&group, "v"), "v"), "ACTIVE v-01=ACTIVE v-02=ACTIVE");

    let (first, second) = (noted[0].0, noted[1].0);
    let now = |noted| Presence::Present(Some(noted));
    let media = [(first, now(seen)), (second, now(Noted { mtime_ns: 12, ..seen }))];
    let file = volume.plexes()[1].medium().path.clone();
    refused(
        start_with(&group, "v", &media, None),
        Kind::CannotStart,
        "plex.changed",
        &format!(
            "v-02: {file} was changed while the volume was stopped: its modification time differs; \
             name the plex to believe with: cleave start --source PLEX v"
        ),
    );
    let believed = start_with(&group, "v", &media, Some("v-01")).unwrap();
    assert_eq!(states(&believed.group, "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
    let believed = start_with(&group, "v", &media, Some("v-02")).unwrap();
    assert_eq!(states(&believed.group, "v"), "ACTIVE v-01=STALE v-02=ACTIVE");
    assert!(matches!(believed.before_commit[..], [Effect::CreateMap { fill: MapFill::Full, .. }]));
    refused(
        start_with(&group, "v", &media, Some("v-07")),
        Kind::NotFound,
        "plex.unknown",
        "v-07: no such plex of volume v; list its plexes with: cleave show v",
    );
    for (noted, how) in [
        (Noted { size: 1, ..seen }, "its size was 102 MiB (106954752 bytes) and is 1 byte"),
        (Noted { ctime_ns: 1, ..seen }, "its change time differs"),
    ] {
        let media = [(first, now(noted)), (second, now(seen))];
        let refusal = start_with(&group, "v", &media, None).unwrap_err();
        assert!(refusal.reason.ends_with(how), "{refusal}");
    }
}

#[test]
fn a_changed_origin_fills_the_maps_of_its_snapshots() {
    let group = cut(&ready_to_cut(10), "v", Some("tmp"), 20);
    let group = stop(&group, "v", &[], &mut ids(5)).unwrap().group;
    let volume = group.volume("v").unwrap();
    let seen = Noted { size: 1, mtime_ns: 2, ctime_ns: 3 };
    let plex = volume.plexes()[0].uuid();
    let group = note_media(&group, volume.uuid(), &[(plex, seen)]).unwrap().group;
    let media = [(plex, Presence::Present(Some(Noted { ctime_ns: 4, ..seen })))];
    let change = start_with(&group, "v", &media, Some("v-01")).unwrap();
    let map = group.volume("v").unwrap().snapshots()[0].origin_map;
    assert_eq!(
        change.before_commit,
        [Effect::AddToMap { map, volume: change.group.volume("v").unwrap().uuid(), fill: MapFill::Full }]
    );
}

#[test]
fn after_a_crash_the_source_of_the_resync_is_recorded_before_the_device_is_made() {
    let group = after_restart(&pair(), &[], &mut ids(5)).unwrap().group;
    assert_eq!(states(&group, "v"), "NEEDSYNC v-01=ACTIVE v-02=ACTIVE");
    let volume = group.volume("v").unwrap();
    let (first, second) = (volume.plexes()[0].uuid(), volume.plexes()[1].uuid());
    let source = |change: &Change| change.group.volume("v").unwrap().resync().unwrap().source;

    let change = start_with(&group, "v", &all_present(&group, "v"), None).unwrap();
    assert_eq!(
        (source(&change), states(&change.group, "v").as_str()),
        (first, "SYNC v-01=ACTIVE v-02=ACTIVE")
    );
    assert_eq!(
        change.after_commit,
        [
            Effect::StartDevice { volume: volume.uuid(), number: None },
            Effect::Resync { volume: volume.uuid(), source: first }
        ]
    );
    let named = start_with(&group, "v", &all_present(&group, "v"), Some("v-02")).unwrap();
    assert_eq!(source(&named), second, "a person's word comes first");
    let policy = ReadPolicy::Prefer(volume.plexes()[1].name().clone());
    let preferring = set_read_policy(&group, "v", policy).unwrap().group;
    assert_eq!(source(&start_with(&preferring, "v", &all_present(&group, "v"), None).unwrap()), second);

    // A crash in the middle keeps the source that readers have seen.
    let again = after_restart(&named.group, &[], &mut ids(6)).unwrap().group;
    assert_eq!(source(&start_with(&again, "v", &all_present(&group, "v"), None).unwrap()), second);
    // It fails: authority moves with the same commit that makes it stale.
    let lost = lose_plex(&named.group, second, Loss::Failed, None, &mut ids(7)).unwrap();
    assert_eq!(source(&lost), first);
    assert_eq!(lost.after_commit.last(), Some(&Effect::Resync { volume: volume.uuid(), source: first }));

    let done = resync_done(&change.group, volume.uuid()).unwrap().group;
    assert_eq!(states(&done, "v"), "ACTIVE v-01=ACTIVE v-02=ACTIVE");
    assert_eq!(done.volume("v").unwrap().resync(), None);
    let stopped = stop(&change.group, "v", &[], &mut ids(8)).unwrap().group;
    assert_eq!(states(&stopped, "v"), "NEEDSYNC v-01=ACTIVE v-02=ACTIVE", "not yet equal is not CLEAN");
}

#[test]
fn a_plex_that_is_behind_never_starts_alone_unless_it_is_named() {
    let group = after_restart(&pair(), &[], &mut ids(5)).unwrap().group;
    let [first, second] = group.volume("v").unwrap().plexes() else { panic!("two plexes") };
    let behind =
        (second.uuid(), Presence::Behind("its label is of run 1, the others are of run 3".to_owned()));
    let media = [(first.uuid(), Presence::Present(None)), behind.clone()];
    let change = start_with(&group, "v", &media, None).unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE v-02=STALE");
    assert!(matches!(change.before_commit[..], [Effect::CreateMap { fill: MapFill::Full, .. }]));
    let alone = [(first.uuid(), Presence::Missing("no such file".to_owned())), behind];
    refused(
        start_with(&group, "v", &alone, None),
        Kind::CannotStart,
        "volume.no-complete-plex",
        "v: no complete plex can be used: v-01 is missing: no such file, \
         v-02 is behind: its label is of run 1, the others are of run 3; bring a medium back and start again, or believe an older one \
         with: cleave start --source v-02 v",
    );
    let forced = start_with(&group, "v", &alone, Some("v-02")).unwrap();
    assert_eq!(states(&forced.group, "v"), "ACTIVE v-01=STALE v-02=ACTIVE");
    let forced = start_with(&group, "v", &media, Some("v-02")).unwrap();
    assert_eq!(states(&forced.group, "v"), "ACTIVE v-01=STALE v-02=ACTIVE");
}

#[test]
fn a_single_plex_needs_no_resync_after_a_crash() {
    let group = started(&make(&empty_group(), "v", &[below("/a")]), "v");
    let group = after_restart(&group, &[], &mut ids(5)).unwrap().group;
    assert_eq!(states(&started(&group, "v"), "v"), "ACTIVE v-01=ACTIVE");
}

#[test]
fn a_lost_plex_is_stale_with_a_seeded_map_and_the_last_one_never_goes() {
    let group = pair();
    let volume = group.volume("v").unwrap();
    let (first, second) = (volume.plexes()[0].uuid(), volume.plexes()[1].uuid());
    let change = lose_plex(&group, first, Loss::Failed, None, &mut ids(5)).unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=STALE v-02=ACTIVE");
    let map = change.group.volume("v").unwrap().plexes()[0].map().unwrap();
    assert_eq!(
        change.before_commit,
        [
            Effect::Detach { volume: volume.uuid(), plex: first },
            Effect::CreateMap { map, volume: volume.uuid(), fill: MapFill::Intent }
        ]
    );
    refused(
        lose_plex(&change.group, second, Loss::Failed, None, &mut ids(6)),
        Kind::Last,
        "plex.last-active",
        "v-02: it is the last complete plex of volume v; \
         add another first with: cleave mirror v, or remove the volume with: cleave rm v",
    );
    assert_eq!(remove_plex(&change.group, "v", "v-02", &mut ids(6)).unwrap_err().id, "plex.last-active");

    // It catches up: copied while it gets writes, ACTIVE only after that.
    refused(
        synced_plex(&change.group, first, &mut ids(7)),
        Kind::InvalidState,
        "plex.detached",
        "v-01: the plex is STALE and detached, so it cannot be in step; attach it again",
    );
    let attached = attach_plex(&change.group, "v", "v-01", &mut ids(7)).unwrap();
    assert_eq!(
        attached.after_commit,
        [
            Effect::Attach { volume: volume.uuid(), plex: first },
            Effect::Copy { volume: volume.uuid(), plex: first }
        ]
    );
    assert_eq!(attach_plex(&attached.group, "v", "v-01", &mut ids(7)).unwrap_err().id, "plex.state");
    let done = synced_plex(&attached.group, first, &mut ids(8)).unwrap();
    assert_eq!(states(&done.group, "v"), "ACTIVE v-01=ACTIVE v-02=ACTIVE");
    assert_eq!(done.after_commit, [Effect::RemoveMap { map }], "the map goes after the commit");
    // It fails again in mid-copy: the map that it has is added to.
    let lost = lose_plex(&attached.group, first, Loss::Failed, None, &mut ids(9)).unwrap();
    assert_eq!(lost.before_commit[1], Effect::AddToMap { map, volume: volume.uuid(), fill: MapFill::Intent });
    let untracked = lose_plex(&attached.group, first, Loss::Untracked, None, &mut ids(9)).unwrap().group;
    assert_eq!(states(&untracked, "v"), "ACTIVE v-01=IOFAIL v-02=ACTIVE");
    let back = attach_plex(&untracked, "v", "v-01", &mut ids(10)).unwrap();
    assert!(matches!(back.before_commit[..], [Effect::CreateMap { fill: MapFill::Full, .. }]));
}

#[test]
fn a_mirror_that_needs_more_than_the_volume_has_is_refused_by_numbers() {
    let group =
        add_plexes(&pair(), "v", &[Site::Block { path: path("/dev/sdx"), bytes: 200 * MIB }], &mut ids(5));
    let group = group.unwrap().group;
    let plex = group.volume("v").unwrap().plexes()[2].uuid();
    let made = Made { plex, bytes: 200 * MIB, block_size: 4096, memory_alignment: 4 };
    refused(
        plex_ready(&group, &made, &mut ids(6)),
        Kind::Medium,
        "plex.block-size",
        "/dev/sdx: needs a block size of 4096 bytes, volume v has 512, fixed when it was made; \
         use a medium that does with less",
    );
    let made = Made { block_size: 512, memory_alignment: 512, ..made };
    assert!(plex_ready(&group, &made, &mut ids(6)).unwrap_err().reason.contains("memory alignment of 512"));
    let made = Made { memory_alignment: 1, ..made };
    let ready = plex_ready(&group, &made, &mut ids(6)).unwrap();
    assert_eq!(states(&ready.group, "v"), "ACTIVE v-01=ACTIVE v-02=ACTIVE v-03=STALE");
    let removed = remove_plex(&ready.group, "v", "v-03", &mut ids(7)).unwrap();
    assert!(
        removed.after_commit.iter().any(
            |effect| matches!(effect, Effect::Release { medium, .. } if medium.kind == MediumKind::Block)
        )
    );
}

#[test]
fn offline_is_a_way_out_and_back() {
    let group =
        lose_plex(&pair(), pair().volume("v").unwrap().plexes()[1].uuid(), Loss::Failed, None, &mut ids(5));
    let group = group.unwrap().group;
    refused(
        take_offline(&group, "v", "v-01", &mut ids(6)),
        Kind::InvalidState,
        "plex.state",
        "v-01: the plex cannot be taken offline while it is ACTIVE; see its state with: vxprint -ht",
    );
    let off = take_offline(&group, "v", "v-02", &mut ids(6)).unwrap().group;
    assert_eq!(states(&off, "v"), "ACTIVE v-01=ACTIVE v-02=OFFLINE");
    let on = bring_online(&off, "v", "v-02", &mut ids(7)).unwrap();
    assert!(matches!(on.before_commit[..], [Effect::CreateMap { fill: MapFill::Full, .. }]));
}

#[test]
fn a_lost_intent_map_is_remembered_until_a_clean_stop() {
    let group = pair();
    let volume = group.volume("v").unwrap().uuid();
    let group = set_intent_lost(&group, volume, true).unwrap().group;
    assert!(group.volume("v").unwrap().is_intent_lost());
    let stopped = stop(&group, "v", &[], &mut ids(5)).unwrap().group;
    assert_eq!(stopped.volume("v").unwrap().state(), VolumeState::Clean);
    assert!(!stopped.volume("v").unwrap().is_intent_lost());
}

#[test]
fn a_volume_that_was_never_completely_made_is_removed_after_a_restart() {
    let args = MakeArgs { name: "v", length: 100 * MIB, region_size: None, sites: &[below("/a")] };
    let group = make_volume(&empty_group(), &args, &mut ids(2)).unwrap().group;
    assert_eq!(group.volume("v").unwrap().plexes()[0].state(), PlexState::Empty);
    refused(
        start_with(&group, "v", &[], None),
        Kind::InvalidState,
        "volume.empty",
        "v: the volume is not completely made; wait for its make to end, or remove it with: cleave rm v",
    );
    let change = after_restart(&group, &[], &mut ids(3)).unwrap();
    assert!(change.group.volumes().is_empty());
    assert!(matches!(change.after_commit[..], [Effect::Release { .. }]));
}

#[test]
fn the_run_that_crashed_is_known_until_a_start_after_it_has_shown_a_device() {
    let made = make(&empty_group(), "v", &[below("/a")]);
    let first = started(&made, "v");
    let known = |group: &Group| {
        let volume = group.volume("v").unwrap();
        (volume.run().0, volume.crashed_run().map(|run| run.0))
    };
    assert_eq!(known(&first), (1, Some(0)));
    let volume = first.volume("v").unwrap().uuid();
    let mut group = assign_device(&first, volume, Some(0)).unwrap().group;
    assert_eq!(known(&group), (1, None));
    // Twice it crashes again before its maps say that it runs.
    for expected in [(2, Some(1)), (3, Some(1))] {
        let volume = group.volume("v").unwrap().uuid();
        group = crashed(&group, volume).unwrap().group;
        group = started(&group, "v");
        assert_eq!(known(&group), expected);
    }
    let volume = group.volume("v").unwrap().uuid();
    let shown = assign_device(&group, volume, Some(0)).unwrap().group;
    assert_eq!(known(&shown), (3, None));
    let again = started(&crashed(&shown, volume).unwrap().group, "v");
    assert_eq!(known(&again), (4, Some(3)));
    let stopped = stop(&again, "v", &[], &mut ids(9)).unwrap().group;
    assert_eq!(known(&stopped).1, None);
}

#[test]
fn what_is_gone_meanwhile_is_told_by_what_it_was() {
    let group = pair();
    let record = group.volume("v").unwrap();
    let (volume, plex, nobody) = (record.uuid(), record.plexes()[0].uuid(), ids(99).uuid());
    refused(
        move_authority(&group, nobody, plex),
        Kind::Changed,
        "volume.gone",
        &format!("{nobody}: the volume was removed meanwhile"),
    );
    refused(
        move_authority(&group, volume, nobody),
        Kind::Changed,
        "plex.gone",
        &format!("{nobody}: the plex was removed meanwhile"),
    );
    refused(
        move_authority(&group, volume, plex),
        Kind::InvalidState,
        "volume.state",
        "v: not possible while the volume is ACTIVE; see its state with: cleave show v",
    );
}

#[test]
fn a_plex_that_cannot_be_used_is_no_source_of_a_start() {
    let group = after_restart(&pair(), &[], &mut ids(5)).unwrap().group;
    let [first, second] = group.volume("v").unwrap().plexes() else { panic!("two plexes") };
    let missing = Presence::Missing("no such file".to_owned());
    let media = [(first.uuid(), Presence::Present(None)), (second.uuid(), missing)];
    refused(
        start_with(&group, "v", &media, Some("v-02")),
        Kind::InvalidState,
        "plex.source-unfit",
        "v-02: the plex cannot be the source: no such file; name a complete plex",
    );
}

#[test]
fn two_media_of_a_group_bear_no_common_name() {
    let medium = |place: &str| PoolMedium {
        path: path(place),
        block: false,
        name: Some(crate::base::Name::new("m").unwrap()),
    };
    let group = add_medium(&empty_group(), medium("/m")).unwrap().group;
    refused(
        add_medium(&group, medium("/n")),
        Kind::Exists,
        "medium.name-taken",
        "m: a medium of this name exists in group dg; give each medium a name of its own",
    );
}
