//! Scenarios: the procedure step by step, each rule at its place, each refusal in full.

use super::*;
use crate::base::{Kind, Refusal};
use crate::state::{
    Grade, MediumKind, MediumPath, Noted, Plex, PlexState, PoolMedium, Purpose, ReadPolicy, VolumeState,
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

fn made_of(group: &Group, plex: Uuid) -> Made {
    let (volume, _) = group.plex_by_id(plex).unwrap();
    let bytes = needed_bytes(volume);
    Made { plex, bytes, block_size: 512, memory_alignment: 4 }
}

pub(in crate::state) fn all_present(group: &Group, volume: &str) -> Vec<(Uuid, Presence)> {
    let plexes = group.volume(volume).unwrap().plexes().iter();
    plexes.map(|plex| (plex.uuid(), Presence::Present(plex.noted()))).collect()
}

pub(in crate::state) fn empty_group() -> Group {
    let media = ["/a", "/b"].map(|text| PoolMedium { path: path(text), block: false });
    create_group("dg", &media, &mut ids(1)).unwrap()
}

pub(in crate::state) fn make(group: &Group, name: &str, sites: &[Site]) -> Group {
    let args = MakeArgs { name, length: 100 * MIB, region_size: None, sites };
    let group = make_volume(group, &args, &mut ids(name.as_bytes()[0])).unwrap().group;
    let volume = group.volume(name).unwrap().uuid();
    finish_make(&group, volume, &made_all(&group, name), &mut ids(3)).unwrap().group
}

pub(in crate::state) fn started(group: &Group, name: &str) -> Group {
    start_with(group, name, &all_present(group, name), None).unwrap().group
}

fn start_with(
    group: &Group,
    name: &str,
    media: &[(Uuid, Presence)],
    source: Option<&str>,
) -> Result<Change, Refused> {
    start(group, &StartArgs { volume: name, media, source, unix_s: 1_000 }, &mut ids(4))
}

fn pair() -> Group {
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

fn states(group: &Group, volume: &str) -> String {
    let volume = group.volume(volume).unwrap();
    let plexes: Vec<_> = volume.plexes().iter().map(|p| format!("{}={}", p.name(), p.state())).collect();
    format!("{} {}", volume.state(), plexes.join(" "))
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Refused>, kind: Kind, id: &str, line: &str) -> Refusal {
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

    let done = finish_make(&change.group, volume.uuid(), &made_all(&change.group, "v"), &mut ids(3)).unwrap();
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
        "104858112 bytes: is not a multiple of 4096 bytes; take 204808 sectors (104861696 bytes)",
    );
    refused(
        make(&args("w", 1 << 63, &site)),
        Kind::Usage,
        "size.too-large",
        "9223372036854775808 bytes: is too large; the largest volume has 1 EiB",
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
        "/dev/sdx: too small by 512 bytes for a plex of volume w: it has 106954240, 106954752 are needed; \
         make it at least 106954752 bytes",
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
    assert_eq!(finish_make(&group, volume, &made, &mut ids(3)).unwrap_err().id, "plex.too-small");
    made[0].bytes += 1;
    made[0].block_size = 8192;
    refused(
        finish_make(&group, volume, &made, &mut ids(3)),
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
    assert_eq!(volume.trusted_map_generations(), [volume.stop()]);
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
        (Noted { size: 1, ..seen }, "its size was 106954752 bytes and is 1"),
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
    assert_eq!(volume.trusted_map_generations(), [volume.run(), volume.stop()]);
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
    let lost = lose_plex(&named.group, second, Loss::Failed, &mut ids(7)).unwrap();
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
    let behind = (second.uuid(), Presence::Behind("its label is of run 1, the others are of run 3".to_owned()));
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
         v-02 is behind: its label is of run 1, the others are of run 3; bring a medium back and start again",
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
    let change = lose_plex(&group, first, Loss::Failed, &mut ids(5)).unwrap();
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
        lose_plex(&change.group, second, Loss::Failed, &mut ids(6)),
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
    let lost = lose_plex(&attached.group, first, Loss::Failed, &mut ids(9)).unwrap();
    assert_eq!(lost.before_commit[1], Effect::AddToMap { map, volume: volume.uuid(), fill: MapFill::Intent });
    let untracked = lose_plex(&attached.group, first, Loss::Untracked, &mut ids(9)).unwrap().group;
    assert_eq!(states(&untracked, "v"), "ACTIVE v-01=IOFAIL v-02=ACTIVE");
    let back = attach_plex(&untracked, "v", "v-01", &mut ids(10)).unwrap();
    assert!(matches!(back.before_commit[..], [Effect::CreateMap { fill: MapFill::Full, .. }]));
}

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
    let failed = lose_plex(&copying.group, plex, Loss::Failed, &mut ids(7)).unwrap();
    assert_eq!(states(&failed.group, "v"), "ACTIVE v-01=ACTIVE");
    assert_eq!(failed.after_commit[0], Effect::RemoveMap { map });
    assert!(matches!(failed.after_commit[1], Effect::Release { .. }));
    let slow = lose_plex(&copying.group, plex, Loss::Slow, &mut ids(7)).unwrap().group;
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

    let crashed = after_restart(&group, &[], &mut ids(9)).unwrap().group;
    let change = start_with(&crashed, "v", &all_present(&crashed, "v"), None).unwrap();
    assert_eq!(states(&change.group, "v"), "ACTIVE v-01=ACTIVE");
    let released =
        change.after_commit.iter().filter(|effect| matches!(effect, Effect::Release { .. })).count();
    assert_eq!(released, 3);
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
fn snapback_returns_the_plex_with_the_union_of_both_maps() {
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
    let group = lose_plex(&pair(), pair().volume("v").unwrap().plexes()[1].uuid(), Loss::Failed, &mut ids(5));
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
