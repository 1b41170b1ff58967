//! Rule 16 exhaustively: every label that may be found, on every plex of a volume of one to three, in every class of
//! record state. What is expected stands in a table of letters and three sentences, apart from the code that it judges.

use std::collections::BTreeMap;

use super::tests::own;
use super::*;
use crate::base::GenerationId;
use crate::base::limits::MIB;
use crate::state::change::{self, Loss, Made, MakeArgs, Presence, Site, StartArgs};
use crate::state::{Group, Ids, MediumPath};

/// Everything that may be found where a plex should be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Absent,
    Unreadable,
    NoLabel,
    Damaged,
    OtherPlex,
    OtherGroup,
    OtherLength,
    /// The plex's own, from when it belonged to another volume.
    OtherVolume,
    /// Of a configuration of the past.
    Older,
    Same,
    /// Of a configuration that the catalogue does not have.
    Newer,
    EarlierRun,
    /// Of the configuration before, and with it of the run before.
    LaggingRun,
    PastData,
    /// Of the configuration before, and with it of the data generation before.
    LaggingData,
    AheadData,
    UnrelatedData,
}

/// The configuration that stood on the labels before the present one, and one before it.
const LABELLED: Generation = Generation(4);
const EARLIER: Generation = Generation(3);

/// What the record makes of the plex; in the order of the table's columns.
const STATES: [PlexState; 4] = [PlexState::Active, PlexState::SnapDone, PlexState::Stale, PlexState::IoFail];

/// Outcomes by class: Complete, Spare, Lagging, Out. M missing, U used, B behind, a refused as ahead, u refused as
/// unrelated, N the whole configuration is adopted. o, r and d are of labels before the one that is known to have been written
/// last, and B; where that is not known they are U unless the sentences of [`expected`] make them B. x and y are r and d of the
/// label that is known.
const TABLE: [(Kind, &str); 17] = [
    (Kind::Absent, "MMMM"),
    (Kind::Unreadable, "MMMM"),
    (Kind::NoLabel, "MMMM"),
    (Kind::Damaged, "MMMM"),
    (Kind::OtherPlex, "MMMM"),
    (Kind::OtherGroup, "MMMM"),
    (Kind::OtherLength, "MMMM"),
    (Kind::OtherVolume, "UUUU"),
    (Kind::Older, "oooU"),
    (Kind::Same, "UUUU"),
    (Kind::Newer, "NNNN"),
    (Kind::EarlierRun, "rroU"),
    (Kind::LaggingRun, "xxUU"),
    (Kind::PastData, "ddBU"),
    (Kind::LaggingData, "yyBU"),
    (Kind::AheadData, "aBBU"),
    (Kind::UnrelatedData, "uBBU"),
];

/// What a plex is: what was found of it, and the column of its record state.
type Cell = (usize, usize);

fn letter((kind, class): Cell) -> u8 {
    TABLE[kind].1.as_bytes()[class]
}

/// The letters of a whole volume, or the one letter that decides for all of it; `known` is whether the record says which
/// label was written last.
fn expected(cells: &[Cell], known: bool) -> String {
    let letters: Vec<u8> = cells.iter().map(|cell| letter(*cell)).collect();
    // A newer configuration wins before anything else is weighed.
    if letters.contains(&b'N') {
        return "N".to_owned();
    }
    // The first contradiction refuses the volume.
    if let Some(refused) = letters.iter().find(|letter| b"au".contains(letter)) {
        return char::from(*refused).to_string();
    }
    // Complete plexes are weighed by each other alone: a mirror that is further on tells of a start that never showed a device.
    let peers = |of: usize| cells.iter().filter(move |cell| cell.1 <= of.min(1) && letter(**cell) != b'M');
    let silent = cells.iter().any(|cell| cell.1 == 0 && letter(*cell) == b'M');
    // A run that has a successor on a relied-on peer, or may have one on a peer that is silent, is behind.
    let later_run = |of| silent || peers(of).any(|cell| !b"rx".contains(&letter(*cell)));
    // A past data generation is behind when a relied-on peer has the present one, or a silent peer may.
    let present_data = |of| silent || peers(of).any(|cell| b"Uorx".contains(&letter(*cell)));
    letters
        .iter()
        .zip(cells)
        .map(|(letter, (_, class))| match letter {
            b'o' | b'r' | b'd' if known => 'B',
            // It lacks what was being recorded when the daemon ended, and nobody can tell of more.
            b'x' | b'y' if known && silent => 'B',
            b'x' | b'y' if known => 'U',
            b'r' | b'x' if later_run(*class) => 'B',
            b'd' | b'y' if present_data(*class) => 'B',
            b'o' | b'r' | b'd' | b'x' | b'y' => 'U',
            other => char::from(*other),
        })
        .collect()
}

fn seen(outcome: &Result<Outcome, Refused>) -> String {
    match outcome {
        Ok(Outcome::Adopt(_)) => "N".to_owned(),
        Err(refused) if refused.id == "plex.ahead" => "a".to_owned(),
        Err(refused) => {
            assert_eq!(refused.id, "plex.unrelated");
            "u".to_owned()
        }
        Ok(Outcome::Stands(judgement)) => judgement
            .verdicts
            .iter()
            .map(|(_, verdict)| match verdict {
                Verdict::Use => 'U',
                Verdict::Missing(_) => 'M',
                Verdict::Behind(_) => 'B',
            })
            .collect(),
    }
}

/// A started volume with `count` plexes that has run before and parted once, so that runs and data have a past.
fn volume_of(count: usize) -> Group {
    let mut ids = Ids::from_seed([9; 32]);
    let group = change::create_group("dg", &[], &mut ids).unwrap();
    let site = |at| Site::NewFile { path: MediumPath::new(&format!("/m/{at}")).unwrap(), sparse: false };
    let sites: Vec<_> = (0..=count).map(site).collect();
    let args = MakeArgs { name: "v", length: 16 * MIB, region_size: None, sites: &sites };
    let group = change::make_volume(&group, &args, &mut ids).unwrap().group;
    let volume = group.volume("v").unwrap();
    let made =
        |plex: &Plex| Made { plex: plex.uuid(), bytes: 18 * MIB, block_size: 512, memory_alignment: 4 };
    let all: Vec<_> = volume.plexes().iter().map(made).collect();
    let mut group = change::finish_make(&group, volume.uuid(), &all, false, &mut ids).unwrap().group;
    for _ in 0..2 {
        let media: Vec<_> = all.iter().map(|made| (made.plex, Presence::Present(None))).collect();
        let args = StartArgs { volume: "v", media: &media, source: None, unix_s: 0 };
        group = change::start(&group, &args, &mut ids).unwrap().group;
        group = change::stop(&group, "v", &[], &mut ids).unwrap().group;
    }
    let media: Vec<_> = all.iter().map(|made| (made.plex, Presence::Present(None))).collect();
    let args = StartArgs { volume: "v", media: &media, source: None, unix_s: 0 };
    let group = change::start(&group, &args, &mut ids).unwrap().group;
    let last = group.volume("v").unwrap().plexes()[count].name().clone();
    let group = change::remove_plex(&group, "v", last.as_str(), &mut ids).unwrap().group;
    let plexes = group.volume("v").unwrap().plexes();
    let labelled = plexes.iter().map(|plex| (plex.uuid(), LABELLED)).collect();
    group.clone().with_labelled(&labelled)
}

/// What is found of plex `at`.
fn finding(group: &Group, at: usize, kind: Kind) -> Finding {
    let volume = group.volume("v").unwrap();
    let plex = &volume.plexes()[at];
    let label = own(group, at);
    let strange = || Uuid::from_random([0x5a; 16]);
    let label = match kind {
        Kind::Absent => return Finding::Absent("no such file".to_owned()),
        Kind::Unreadable => return Finding::new(Err(Errno::IO), group.uuid(), volume, plex),
        Kind::NoLabel => return Finding::new(Ok(Found::None), group.uuid(), volume, plex),
        Kind::Damaged => {
            let damage = vec![Damage::BadChecksum, Damage::BadChecksum];
            return Finding::new(Ok(Found::Damaged(damage)), group.uuid(), volume, plex);
        }
        Kind::OtherPlex => Label { plex: strange(), ..label },
        Kind::OtherGroup => Label { group: strange(), ..label },
        Kind::OtherLength => Label { volume_length: 17 * MIB, ..label },
        Kind::OtherVolume => Label { volume: strange(), ..label },
        Kind::Older => Label { config_generation: EARLIER, ..label },
        Kind::Same => label,
        Kind::Newer => Label { config_generation: Generation(6), ..label },
        Kind::EarlierRun | Kind::LaggingRun => {
            let config_generation = if kind == Kind::LaggingRun { LABELLED } else { EARLIER };
            Label { run: Generation(label.run.0 - 1), config_generation, ..label }
        }
        Kind::PastData | Kind::LaggingData => {
            let config_generation = if kind == Kind::LaggingData { LABELLED } else { EARLIER };
            let past = plex.past_generations();
            Label { data_generation: past[0], past: past[1..].to_vec(), config_generation, ..label }
        }
        Kind::AheadData => {
            let past = std::iter::once(plex.generation()).chain(plex.past_generations().iter().copied());
            Label { data_generation: GenerationId(strange()), past: past.collect(), ..label }
        }
        Kind::UnrelatedData => Label { data_generation: GenerationId(strange()), past: Vec::new(), ..label },
    };
    Finding::new(Ok(Found::Label(Box::new(label))), group.uuid(), volume, plex)
}

/// All numbers of `digits` digits below `base`.
fn numbers(digits: usize, base: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..base.pow(digits as u32)).map(move |mut number| {
        (0..digits)
            .map(|_| {
                let digit = number % base;
                number /= base;
                digit
            })
            .collect()
    })
}

#[test]
fn rule_16_every_combination_of_labels_and_records_has_its_stated_outcome() {
    let mut tally: BTreeMap<char, u64> = BTreeMap::new();
    let mut combinations = 0;
    for (count, known) in [(1, true), (2, true), (3, true), (1, false), (2, false), (3, false)] {
        let group = if known { volume_of(count) } else { volume_of(count).without_labelled() };
        let found: Vec<Vec<_>> =
            (0..count).map(|at| TABLE.iter().map(|(kind, _)| finding(&group, at, *kind)).collect()).collect();
        for classes in numbers(count, STATES.len()) {
            let volume = in_states(&group, &classes);
            for kinds in numbers(count, TABLE.len()) {
                let plexes = volume.plexes().iter().enumerate();
                let findings: Vec<_> =
                    plexes.map(|(at, plex)| (plex.uuid(), found[at][kinds[at]].clone())).collect();
                let cells: Vec<Cell> = kinds.iter().copied().zip(classes.iter().copied()).collect();
                let outcome = seen(&judge(Generation(5), &volume, &findings));
                assert_eq!(
                    outcome,
                    expected(&cells, known),
                    "{known} {:?}",
                    cells.iter().map(|(kind, class)| (TABLE[*kind].0, STATES[*class])).collect::<Vec<_>>()
                );
                outcome.chars().for_each(|letter| *tally.entry(letter).or_default() += 1);
                combinations += 1;
            }
        }
    }
    assert_eq!(combinations, 2 * (68 + 68 * 68 + 68 * 68 * 68), "none is left out");
    assert!("UMBNau".chars().all(|letter| tally[&letter] > 100), "every outcome occurs: {tally:?}");
}

/// The volume of `group` with its plexes in the states of these columns.
fn in_states(group: &Group, classes: &[usize]) -> Volume {
    let mut value = serde_json::to_value(group.volume("v").unwrap()).unwrap();
    for (plex, class) in value["plexes"].as_array_mut().unwrap().iter_mut().zip(classes) {
        plex["state"] = serde_json::to_value(STATES[*class]).unwrap();
    }
    serde_json::from_value(value).unwrap()
}

#[test]
fn rule_16_a_start_relies_on_no_plex_that_is_behind_or_missing() {
    let mut dice = Ids::from_seed([7; 32]);
    let (mut combinations, mut started, mut forced) = (0, 0, 0);
    for count in 1..=3 {
        let whole = volume_of(count);
        for stale in numbers(count, 2).filter(|stale| stale.contains(&0)) {
            let mut group = whole.clone();
            for (at, _) in stale.iter().enumerate().filter(|(_, stale)| **stale == 1) {
                let plex = group.volume("v").unwrap().plexes()[at].uuid();
                group = change::lose_plex(&group, plex, Loss::Failed, None, &mut dice).unwrap().group;
            }
            let group = change::after_restart(&group, &[], &mut dice).unwrap().group;
            let volume = group.volume("v").unwrap();
            for kinds in numbers(count, TABLE.len()) {
                combinations += 1;
                let findings: Vec<_> = volume
                    .plexes()
                    .iter()
                    .enumerate()
                    .map(|(at, plex)| (plex.uuid(), finding(&group, at, TABLE[kinds[at]].0)))
                    .collect();
                let Ok(Outcome::Stands(judgement)) = judge(Generation(5), volume, &findings) else {
                    continue;
                };
                let presence = |verdict: &Verdict| match verdict {
                    Verdict::Use => Presence::Present(None),
                    Verdict::Missing(why) => Presence::Missing(why.clone()),
                    Verdict::Behind(why) => Presence::Behind(why.clone()),
                };
                let media: Vec<_> =
                    judgement.verdicts.iter().map(|(plex, verdict)| (*plex, presence(verdict))).collect();
                let verdict =
                    |plex: Uuid| &judgement.verdicts.iter().find(|(uuid, _)| *uuid == plex).unwrap().1;
                let good =
                    volume.complete_plexes().filter(|plex| *verdict(plex.uuid()) == Verdict::Use).count();
                let args = StartArgs { volume: "v", media: &media, source: None, unix_s: 0 };
                match change::start(&group, &args, &mut dice) {
                    Err(refused) => {
                        assert_eq!((refused.id.as_str(), good), ("volume.no-complete-plex", 0), "{kinds:?}");
                    }
                    Ok(change) => {
                        started += 1;
                        let after = change.group.volume("v").unwrap();
                        assert!(after.complete_plexes().count() == good && good > 0, "{kinds:?}");
                        assert!(after.complete_plexes().all(|plex| *verdict(plex.uuid()) == Verdict::Use));
                        let parted = volume.complete_plexes().count() > good;
                        for plex in after.complete_plexes() {
                            let before = volume.plex_by_id(plex.uuid()).unwrap().generation();
                            assert_eq!(
                                plex.generation() != before,
                                parted,
                                "a new id before it starts without one"
                            );
                        }
                    }
                }
                // What is behind starts alone when a person names it, and never what is missing.
                for plex in volume.complete_plexes() {
                    let args = StartArgs { source: Some(plex.name().as_str()), ..args.clone() };
                    let named = change::start(&group, &args, &mut dice);
                    let missing = matches!(verdict(plex.uuid()), Verdict::Missing(_));
                    assert_eq!(named.is_ok(), !missing, "{kinds:?} {}", plex.name());
                    forced += u64::from(!missing && good == 0);
                }
            }
        }
    }
    assert_eq!(combinations, 17 + 3 * 289 + 7 * 4913, "none is left out");
    assert!(started > 1000 && forced > 100, "{started} start, {forced} by force");
}
