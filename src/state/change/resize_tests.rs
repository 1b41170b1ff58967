//! A length changes step by step, in the states that allow it and in no other.

use super::tests::*;
use super::*;
use crate::base::Kind;
use crate::state::{Group, Noted, PlexState, ResizeStage, Resizing};

const LONGER: u64 = 200 * MIB;
const SHORTER: u64 = 40 * MIB;

fn stopped_pair() -> Group {
    stop(&pair(), "v", &[], &mut ids(9)).unwrap().group
}

fn volume(group: &Group) -> &Volume {
    group.volume("v").unwrap()
}

fn settle(group: &Group, absent: &[Uuid]) -> Group {
    resize_settle(group, volume(group).uuid(), absent, &mut ids(7)).unwrap().group
}

#[test]
fn a_volume_becomes_longer_in_four_steps_and_only_labels_of_two_lengths_are_its_own_meanwhile() {
    let group = pair();
    let uuid = volume(&group).uuid();
    let begun = resize_begin(&group, "v", LONGER).unwrap().group;
    assert_eq!(volume(&begun).length(), 100 * MIB);
    let stage = |group: &Group| volume(group).resizing().map(|resizing| resizing.stage);
    assert_eq!(stage(&begun), Some(ResizeStage::Begun));
    let recorded = resize_record(&begun, uuid).unwrap().group;
    let settled = settle(&recorded, &[]);
    for group in [&recorded, &settled] {
        assert_eq!(volume(group).length(), LONGER);
    }
    for (group, lengths) in
        [(&group, [true, false]), (&begun, [true; 2]), (&recorded, [true; 2]), (&settled, [true; 2])]
    {
        assert_eq!([100 * MIB, LONGER].map(|bytes| volume(group).may_have_length(bytes)), lengths);
        assert!(!volume(group).may_have_length(101 * MIB));
    }
    assert_eq!(
        (stage(&recorded), stage(&settled)),
        (Some(ResizeStage::Recorded), Some(ResizeStage::Settled))
    );
    let done = resize_done(&settled, uuid).unwrap().group;
    assert_eq!(volume(&done).resizing(), None);
    assert_eq!(states(&done, "v"), "ACTIVE v-01=ACTIVE v-02=ACTIVE");
    // One that is given up before it counts leaves nothing; none is begun in another.
    assert_eq!(settle(&begun, &[]), group);
    for group in [&begun, &recorded, &settled] {
        refused(
            resize_begin(group, "v", 300 * MIB),
            Kind::Busy,
            "resize.under-way",
            "v: a change of its length was begun and is not complete; start it, which brings that to an end, or stop and \
             start it: cleave start v",
        );
    }
    assert!(resize_record(&recorded, uuid).is_err() && resize_record(&group, uuid).is_err());
}

#[test]
fn what_is_noted_of_files_does_not_outlast_the_beginning() {
    let group = stopped_pair();
    let noted = Noted { size: 1, mtime_ns: 2, ctime_ns: 3 };
    let all: Vec<_> = volume(&group).plexes().iter().map(|plex| (plex.uuid(), noted)).collect();
    let group = note_media(&group, volume(&group).uuid(), &all).unwrap().group;
    let begun = resize_begin(&group, "v", SHORTER).unwrap().group;
    assert!(volume(&begun).plexes().iter().all(|plex| plex.noted().is_none()));
    let recorded = resize_record(&begun, volume(&group).uuid()).unwrap().group;
    assert_eq!(volume(&recorded).length(), SHORTER);
}

#[test]
fn a_plex_of_which_nobody_knows_what_became_is_not_believed() {
    let group = stopped_pair();
    let uuid = volume(&group).uuid();
    let recorded = resize_record(&resize_begin(&group, "v", LONGER).unwrap().group, uuid).unwrap().group;
    let absent = volume(&recorded).plexes()[1].uuid();
    let change = resize_settle(&recorded, uuid, &[absent], &mut ids(7)).unwrap();
    assert_eq!(states(&change.group, "v"), "CLEAN v-01=CLEAN v-02=STALE");
    let map = volume(&change.group).plexes()[1].map().unwrap();
    assert_eq!(change.before_commit, [Effect::CreateMap { map, volume: uuid, fill: MapFill::Full }]);
    let both: Vec<_> = volume(&recorded).plexes().iter().map(Plex::uuid).collect();
    assert!(resize_settle(&recorded, uuid, &both, &mut ids(7)).is_err(), "one has to be there");
}

#[test]
fn every_state_that_does_not_allow_it_says_why() {
    let started = pair();
    refused(
        resize_begin(&started, "v", SHORTER),
        Kind::Started,
        "resize.started",
        "v: a volume becomes shorter only while it is stopped; make its file system smaller, unmount it, then: cleave stop v",
    );
    assert!(resize_begin(&stopped_pair(), "v", SHORTER).is_ok());
    assert_eq!(resize_begin(&started, "v", LONGER + 512).unwrap_err().id, "size.unaligned");
    assert_eq!(resize_begin(&started, "w", LONGER).unwrap_err().id, "volume.unknown");

    let crashed = crashed(&started, volume(&started).uuid()).unwrap().group;
    refused(
        resize_begin(&crashed, "v", LONGER),
        Kind::InvalidState,
        "resize.unclean",
        "v: it was not stopped in good order; have its plexes made equal first: cleave start v",
    );
    let again = super::tests::started(&crashed, "v");
    assert_eq!(resize_begin(&again, "v", LONGER).unwrap_err().id, "volume.resyncing");

    let lost = volume(&started).plexes()[1].uuid();
    let degraded = lose_plex(&started, lost, Loss::Failed, None, &mut ids(5)).unwrap().group;
    refused(
        resize_begin(&degraded, "v", LONGER),
        Kind::InvalidState,
        "resize.plex",
        "v-02: it is STALE: the length changes only while all plexes are in step; have it brought up to date (cleave \
         recover v) or remove it (cleave remove-mirror v v-02)",
    );
    // One that leaves between the two steps keeps the second from being taken.
    let begun = resize_begin(&started, "v", LONGER).unwrap().group;
    let degraded = lose_plex(&begun, lost, Loss::Failed, None, &mut ids(5)).unwrap().group;
    assert_eq!(resize_record(&degraded, volume(&begun).uuid()).unwrap_err().id, "resize.plex");

    let mirrored = ready_to_cut(20);
    assert!(resize_begin(&mirrored, "v", LONGER).is_ok(), "a snapshot mirror in step goes along");
    let copied = snapstart(&mirrored, "v", &[below("/b")], &mut ids(30)).unwrap().group;
    let refusal = resize_begin(&copied, "v", LONGER).unwrap_err();
    assert_eq!((refusal.id.as_str(), refusal.reason.contains("SNAPTMP")), ("resize.plex", true));
    assert!(refusal.way_out.contains("snapabort v"), "{refusal}");

    let related = cut(&mirrored, "v", Some("s"), 40);
    refused(
        resize_begin(&related, "v", LONGER),
        Kind::InvalidState,
        "resize.related",
        "v: its snapshots are tracked against it: s; give it back (cleave snapback s) or make it independent (cleave snapclear s)",
    );
    let refusal = resize_begin(&related, "s", LONGER).unwrap_err();
    assert_eq!(refusal.reason, "it is a snapshot that keeps to its origin");
    assert!(refusal.way_out.contains("snapclear s"), "{refusal}");
}

#[test]
fn a_record_whose_lengths_do_not_fit_each_other_is_damage() {
    let group = pair();
    let fits = |resizing| {
        let mut group = group.clone();
        let uuid = volume(&group).uuid();
        group.volume_mut(uuid).unwrap().resizing = Some(resizing);
        group.check().is_ok()
    };
    let resizing = |from, to, stage| Resizing { from, to, stage };
    assert!(fits(resizing(100 * MIB, LONGER, ResizeStage::Begun)));
    assert!(fits(resizing(LONGER, 100 * MIB, ResizeStage::Recorded)));
    assert!(!fits(resizing(100 * MIB, LONGER, ResizeStage::Recorded)));
    assert!(!fits(resizing(LONGER, 100 * MIB, ResizeStage::Begun)));
    assert!(!fits(resizing(100 * MIB, 100 * MIB, ResizeStage::Settled)));
    assert!(!fits(resizing(100 * MIB, 512, ResizeStage::Begun)));
    assert_eq!(volume(&group).plexes()[0].state(), PlexState::Active);
}

#[test]
fn a_volume_that_is_scrubbed_keeps_its_length() {
    let limits = crate::state::scrub::Limits::default();
    let repair = crate::state::scrub::Repair::Report;
    let scrubbed = scrub_begin(&pair(), "v", repair, limits, false, 1_000).unwrap().group;
    refused(
        resize_begin(&scrubbed, "v", LONGER),
        Kind::Busy,
        "resize.scrub",
        "v: a scrub of it is under way; wait for it (cleave task watch), or end it (cleave task abort)",
    );
}
