//! Every combination of the table, and whole volumes judged.

use super::*;
use crate::base::GenerationId;
use crate::base::limits::MIB;
use crate::catalog::labels::tests::label;
use crate::state::change::{self, Made, MakeArgs, Presence, Site, StartArgs};
use crate::state::{Group, Ids, MediumPath};

#[test]
fn rule_16_the_table_walks_all_combinations() {
    use Class::{Complete, Lagging, Out, Spare};
    use Data::{Ahead, Past, Same, Unrelated};
    // Columns: Same, Past, Ahead, Unrelated; each level, then behind a peer. U use, B behind, ! refused.
    let table = [
        (Complete, ["U B", "U B", "! !", "! !"]),
        (Spare, ["U B", "U B", "B B", "B B"]),
        (Lagging, ["U B", "B B", "B B", "B B"]),
        (Out, ["U U", "U U", "U U", "U U"]),
    ];
    for (class, row) in table {
        for (data, expected) in [Same, Past, Ahead, Unrelated].into_iter().zip(row) {
            let letter = |level| match rule(class, data, level) {
                Ruling::Use => "U",
                Ruling::Behind => "B",
                Ruling::RefuseAhead | Ruling::RefuseUnrelated => "!",
            };
            assert_eq!(format!("{} {}", letter(true), letter(false)), expected, "{class:?} {data:?}");
        }
    }
    assert_eq!(rule(Complete, Ahead, true), Ruling::RefuseAhead);
    assert_eq!(rule(Complete, Unrelated, true), Ruling::RefuseUnrelated);
}

#[test]
fn every_state_has_a_class() {
    let classes: Vec<_> = PlexState::ALL.into_iter().map(Class::of).collect();
    use Class::{Complete, Lagging, Out, Spare};
    assert_eq!(
        classes,
        [Out, Complete, Complete, Lagging, Out, Lagging, Spare, Out, Out, Out],
        "EMPTY CLEAN ACTIVE STALE IOFAIL SNAPATT SNAPDONE SNAPTMP TEMP OFFLINE"
    );
}

/// A started volume of two plexes.
pub(super) fn pair() -> Group {
    let mut ids = Ids::from_seed([1; 32]);
    let group = change::create_group("dg", &[], &mut ids).unwrap();
    let site = |path| Site::NewFile { path: MediumPath::new(path).unwrap(), sparse: false };
    let sites = [site("/m/a"), site("/m/b")];
    let args = MakeArgs { name: "v", length: 16 * MIB, region_size: None, sites: &sites };
    let group = change::make_volume(&group, &args, &mut ids).unwrap().group;
    let volume = group.volume("v").unwrap();
    let made =
        |plex: &Plex| Made { plex: plex.uuid(), bytes: 18 * MIB, block_size: 512, memory_alignment: 4 };
    let all: Vec<_> = volume.plexes().iter().map(made).collect();
    let group = change::finish_make(&group, volume.uuid(), &all, false, &mut ids).unwrap().group;
    let media: Vec<_> = all.iter().map(|made| (made.plex, Presence::Present(None))).collect();
    let args = StartArgs { volume: "v", media: &media, source: None, unix_s: 0 };
    change::start(&group, &args, &mut ids).unwrap().group
}

pub(super) fn own(group: &Group, at: usize) -> Label {
    let volume = group.volume("v").unwrap();
    let plex = &volume.plexes()[at];
    Label {
        group: group.uuid(),
        volume: volume.uuid(),
        plex: plex.uuid(),
        run: volume.run(),
        data_generation: plex.generation(),
        past: plex.past_generations().to_vec(),
        ..label(1, 5, 0)
    }
}

fn verdicts(group: &Group, labels: [Finding; 2]) -> Result<Vec<Verdict>, Refused> {
    let volume = group.volume("v").unwrap();
    let findings: Vec<_> = volume.plexes().iter().map(Plex::uuid).zip(labels).collect();
    match judge(Generation(5), volume, &findings)? {
        Outcome::Stands(judgement) => {
            Ok(judgement.verdicts.into_iter().map(|(_, verdict)| verdict).collect())
        }
        Outcome::Adopt(label) => panic!("adopts {}", label.config_generation),
    }
}

fn found(label: &Label) -> Finding {
    Finding::Own(Box::new(label.clone()))
}

#[test]
fn labels_that_agree_are_used() {
    let group = pair();
    let labels = [0, 1].map(|at| found(&own(&group, at)));
    assert_eq!(verdicts(&group, labels).unwrap(), [Verdict::Use, Verdict::Use]);
}

#[test]
fn what_is_not_this_plex_counts_as_missing() {
    let group = pair();
    let volume = group.volume("v").unwrap();
    let plex = &volume.plexes()[1];
    let stranger = Label { plex: Uuid::from_random([77; 16]), ..own(&group, 1) };
    let longer = Label { volume_length: 17 * MIB, ..own(&group, 1) };
    let finding = |read| Finding::new(read, group.uuid(), volume, plex);
    let label = |label: &Label| Ok(Found::Label(Box::new(label.clone())));
    assert!(matches!(finding(label(&own(&group, 1))), Finding::Own(_)));
    assert!(matches!(finding(label(&longer)), Finding::Foreign(_)));
    for (finding, why) in [
        (Finding::Absent("no such file".to_owned()), "no such file".to_owned()),
        (finding(Err(Errno::IO)), "its label cannot be read: Input/output error".to_owned()),
        (finding(Ok(Found::None)), "it bears no label".to_owned()),
        (
            finding(Ok(Found::Damaged(vec![Damage::BadChecksum, Damage::Blank]))),
            "none of its labels can be read: it fails its checksum, it was never written".to_owned(),
        ),
        (finding(label(&stranger)), format!("it carries plex {} of group {}", stranger.plex, stranger.group)),
    ] {
        let seen = verdicts(&group, [found(&own(&group, 0)), finding]).unwrap();
        assert_eq!(seen, [Verdict::Use, Verdict::Missing(why)]);
    }
}

#[test]
fn a_label_of_an_earlier_run_than_its_peers_is_behind() {
    let group = pair();
    let old = Label { run: Generation(0), ..own(&group, 1) };
    let seen = verdicts(&group, [found(&own(&group, 0)), found(&old)]).unwrap();
    assert_eq!(seen[1], Verdict::Behind("its label is of run 0, where run 1 is expected".to_owned()));
    // A crash between the commit of a start and its labels: both are of the run before.
    let first = Label { run: Generation(0), ..own(&group, 0) };
    assert_eq!(verdicts(&group, [found(&first), found(&old)]).unwrap(), [Verdict::Use, Verdict::Use]);
}

#[test]
fn a_parting_that_the_labels_do_not_know_yet_is_believed_unless_a_peer_knows_it() {
    let before = pair();
    let lost = before.volume("v").unwrap().plexes()[1].uuid();
    let after = change::lose_plex(&before, lost, change::Loss::Failed, None, &mut Ids::from_seed([2; 32]))
        .unwrap()
        .group;
    let labels = [found(&own(&before, 0)), found(&own(&before, 1))];
    assert_eq!(
        verdicts(&after, labels).unwrap(),
        [Verdict::Use, Verdict::Use],
        "the survivor's label was not written; the lost plex has the data that its map is for"
    );
    // The survivor knows; a mirror whose label is from before the parting would be an older copy.
    let complete = before;
    let plex = &complete.volume("v").unwrap().plexes()[0];
    let older = Label { data_generation: GenerationId(Uuid::from_random([8; 16])), ..own(&complete, 1) };
    let refused = verdicts(&complete, [found(&own(&complete, 0)), found(&older)]).unwrap_err();
    assert_eq!((refused.kind, refused.id.as_str()), (Kind::CannotStart, "plex.unrelated"));
    assert_eq!(
        refused.to_string(),
        format!(
            "v-02: /m/b holds data without a history in common with the catalogue's: it has {}, the catalogue has {}; \
             move the wrong medium away, or bring back the state directory that belongs to it",
            older.data_generation.0,
            plex.generation().0
        )
    );
    let ahead = Label { past: vec![plex.generation()], ..older };
    let refused = verdicts(&complete, [found(&own(&complete, 0)), found(&ahead)]).unwrap_err();
    assert_eq!(refused.id, "plex.ahead");
}

#[test]
fn a_mirror_that_came_back_from_before_a_parting_is_behind() {
    let before = pair();
    let mut ids = Ids::from_seed([2; 32]);
    let second = before.volume("v").unwrap().plexes()[1].uuid();
    let lost = change::lose_plex(&before, second, change::Loss::Failed, None, &mut ids).unwrap().group;
    let attached = change::attach_plex(&lost, "v", "v-02", &mut ids).unwrap().group;
    let again = change::synced_plex(&attached, second, &mut ids).unwrap().group;
    let seen = verdicts(&again, [found(&own(&again, 0)), found(&own(&before, 1))]).unwrap();
    let old = own(&before, 1).data_generation.0;
    let new = own(&again, 1).data_generation.0;
    assert_eq!(
        seen,
        [Verdict::Use, Verdict::Behind(format!("its data is of generation {old}, where {new} is expected"))]
    );
}

#[test]
fn a_label_with_a_newer_configuration_wins() {
    let group = pair();
    let newer = Label { config_generation: Generation(6), ..own(&group, 1) };
    let volume = group.volume("v").unwrap();
    let findings: Vec<_> =
        volume.plexes().iter().map(Plex::uuid).zip([found(&own(&group, 0)), found(&newer)]).collect();
    let Ok(Outcome::Adopt(label)) = judge(Generation(5), volume, &findings) else { panic!("adopts") };
    assert_eq!(*label, newer);
}

#[test]
fn two_newer_labels_of_one_generation_must_be_alike() {
    let group = pair();
    let volume = group.volume("v").unwrap();
    let newer = |plex, text: &[u8]| Label {
        config_generation: Generation(6),
        configuration: text.to_vec(),
        ..own(&group, plex)
    };
    let outcome = |second: &[u8]| {
        let found = [found(&newer(0, b"one")), found(&newer(1, second))];
        let findings: Vec<_> = volume.plexes().iter().map(Plex::uuid).zip(found).collect();
        judge(Generation(5), volume, &findings).map(|_| ()).map_err(|refused| refused.id.clone())
    };
    assert_eq!(outcome(b"one"), Ok(()));
    assert_eq!(outcome(b"two"), Err("group.two-heads".into()));
}
