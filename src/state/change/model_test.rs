//! Random sequences of all changes against a plain account of what exists: maps, intent maps, media, devices, routes.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use super::tests::{MIB, below, empty_group, path};
use super::*;
use crate::state::restore::is_archive_name;
use crate::state::{Archive, Grade, Noted, Plex, ReadPolicy, SettingsChange, VolumeState};

/// What a caller that carries out every effect would have on its disks and in its kernel.
#[derive(Default)]
struct World {
    maps: BTreeSet<Uuid>,
    intents: BTreeSet<Uuid>,
    media: BTreeSet<Uuid>,
    devices: BTreeSet<Uuid>,
    routes: BTreeMap<Uuid, BTreeSet<Uuid>>,
}

impl World {
    fn carry_out(&mut self, effects: &[Effect], group: &Group) {
        for effect in effects {
            match effect {
                Effect::CreateMap { map, volume, fill } => {
                    assert!(group.volume_by_id(*volume).is_some(), "a map of no volume");
                    if let MapFill::Union(parts) = fill {
                        assert!(
                            parts.iter().all(|part| self.maps.contains(part)),
                            "a union with a removed map"
                        );
                    }
                    assert!(self.maps.insert(*map), "a map is made twice");
                }
                Effect::AddToMap { map, .. } => assert!(self.maps.contains(map), "adding to no map"),
                Effect::RemoveMap { map } => assert!(self.maps.remove(map), "removing no map"),
                Effect::RemoveArchive { file } => assert!(is_archive_name(file), "{file}"),
                Effect::CreateIntent { volume, .. } => assert!(self.intents.insert(*volume)),
                Effect::RemoveIntent { volume } => assert!(self.intents.remove(volume)),
                Effect::Allocate { plex, .. } => assert!(self.media.insert(*plex)),
                Effect::Release { plex, .. } => assert!(self.media.remove(plex)),
                Effect::Attach { volume, plex } => {
                    assert!(self.routes.entry(*volume).or_default().insert(*plex), "attached twice");
                }
                Effect::Detach { volume, plex } => {
                    assert!(self.routes.entry(*volume).or_default().remove(plex), "detached twice");
                }
                Effect::Copy { volume, plex } => {
                    let (owner, record) = group.plex_by_id(*plex).expect("a copy to no plex");
                    assert_eq!(owner.uuid(), *volume);
                    assert!(record.map().is_some() && record.is_attached(), "a copy that nothing tracks");
                }
                Effect::Resync { volume, source } => {
                    let record = group.volume_by_id(*volume).expect("a resync of no volume");
                    assert_eq!(record.resync().map(|resync| resync.source), Some(*source));
                }
                Effect::StartDevice { volume, .. } => assert!(self.devices.insert(*volume)),
                Effect::StopDevice { volume, .. } => {
                    assert!(self.devices.remove(volume));
                    self.routes.remove(volume);
                }
            }
        }
    }

    /// The machine went down: devices and routes are gone.
    fn crash(&mut self) {
        self.devices.clear();
        self.routes.clear();
    }

    /// Routes as the records have them, after a step that makes or swaps whole routes.
    fn rebuild_routes(&mut self, group: &Group) {
        self.routes = group
            .volumes()
            .iter()
            .filter(|volume| volume.state().is_started())
            .map(|volume| (volume.uuid(), attached(volume)))
            .collect();
    }

    /// After a crash between the steps around a commit: all that the record in force names is there, but for media that
    /// are `to_be_made`.
    fn holds_all_of(&self, group: &Group, to_be_made: &[Effect]) {
        let (maps, intents, media) = named(group);
        assert!(self.maps.is_superset(&maps), "a map is gone that the record names");
        assert!(self.intents.is_superset(&intents), "an intent map is gone that the record names");
        let coming = |medium: &Uuid| {
            to_be_made.iter().any(|effect| matches!(effect, Effect::Allocate { plex, .. } if plex == medium))
        };
        assert!(media.difference(&self.media).all(coming), "a medium is gone that the record names");
    }

    fn compare(&self, group: &Group) {
        let volumes = group.volumes();
        let (maps, intents, media) = named(group);
        assert_eq!(self.maps, maps, "maps");
        assert_eq!(self.intents, intents, "intent maps");
        assert_eq!(self.media, media, "media");
        let started = volumes.iter().filter(|volume| volume.state().is_started());
        assert_eq!(self.devices, started.clone().map(Volume::uuid).collect(), "devices");
        for volume in started {
            let route = self.routes.get(&volume.uuid()).cloned().unwrap_or_default();
            assert_eq!(route, attached(volume), "route of {}", volume.name());
        }
    }
}

/// The maps, intent maps and media that the records of `group` name.
fn named(group: &Group) -> (BTreeSet<Uuid>, BTreeSet<Uuid>, BTreeSet<Uuid>) {
    let (mut maps, mut intents, mut media) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for volume in group.volumes() {
        maps.extend(volume.plexes().iter().filter_map(Plex::map));
        maps.extend(volume.undos().iter().map(|undo| undo.map));
        maps.extend(volume.snapshots().iter().flat_map(|link| [link.origin_map, link.snapshot_map]));
        media.extend(volume.plexes().iter().map(Plex::uuid));
        if let Some(cut) = volume.prepared() {
            maps.extend([cut.origin_map, cut.snapshot_map]);
            intents.insert(cut.volume);
        }
        if volume.state() != VolumeState::Empty {
            intents.insert(volume.uuid());
        }
    }
    (maps, intents, media)
}

fn attached(volume: &Volume) -> BTreeSet<Uuid> {
    volume.plexes().iter().filter(|plex| plex.is_attached()).map(Plex::uuid).collect()
}

/// Kinds of operation.
const KINDS: usize = 30;

const NAMES: [&str; 3] = ["v", "w", "x"];

struct Run {
    group: Group,
    world: World,
    step: u8,
    sets: Vec<Uuid>,
    op: usize,
    taken: [usize; KINDS],
}

impl Run {
    fn apply(&mut self, result: Result<Change, Refused>) -> bool {
        match result {
            Ok(change) => {
                self.world.carry_out(&change.before_commit, &change.group);
                self.world.holds_all_of(&self.group, &[]);
                self.group = change.group;
                self.world.holds_all_of(&self.group, &change.after_commit);
                self.world.carry_out(&change.after_commit, &self.group);
                self.taken[self.op] += 1;
                true
            }
            Err(refusal) => {
                assert_ne!(refusal.id, "group.inconsistent", "{refusal}");
                assert!(!refusal.reason.is_empty());
                false
            }
        }
    }

    /// One operation; `a` and `b` choose its objects.
    fn operate(&mut self, op: u8, a: u8, b: u8) {
        self.step = self.step.wrapping_add(1);
        self.op = usize::from(op % KINDS as u8);
        let mut seed = [a; 32];
        seed[0] = self.step;
        seed[1] = op;
        let dice = &mut Ids::from_seed(seed);
        let group = self.group.clone();
        let any =
            (!group.volumes().is_empty()).then(|| &group.volumes()[usize::from(a) % group.volumes().len()]);
        // Rare chances are looked for: a finished mirror to cut, a snapshot to give back, a copy to finish.
        let volume = match op % KINDS as u8 {
            20 => group.volumes().iter().find(|volume| volume.snapdone_count() > 0).or(any),
            23 => group.volumes().iter().find(|volume| volume.origin().is_some()).or(any),
            _ => any,
        };
        let name = volume.map_or("none", |volume| volume.name().as_str());
        let uuid = volume.map_or(Uuid::NIL, Volume::uuid);
        let plexes = volume.map_or(&[][..], Volume::plexes);
        let plex = (!plexes.is_empty()).then(|| &plexes[usize::from(b) % plexes.len()]);
        let plex_name = plex.map_or("none", |plex| plex.name().as_str());
        let plex_id = plex.map_or(Uuid::NIL, Plex::uuid);
        let made = |plex: Uuid| Made { plex, bytes: 1 << 40, block_size: 512, memory_alignment: 4 };
        let seen = |b: u8| Noted { size: 1, mtime_ns: i64::from(b % 2), ctime_ns: 0 };
        let media: Vec<_> = plexes
            .iter()
            .enumerate()
            .map(|(at, plex)| {
                let lost = usize::from(b) == at + 1;
                let presence =
                    Presence::Present(plex.noted().map(|noted| if b > 250 { seen(a) } else { noted }));
                let lost = match b % 2 {
                    _ if !lost => None,
                    0 => Some(Presence::Missing("gone".to_owned())),
                    _ => Some(Presence::Behind("old".to_owned())),
                };
                (plex.uuid(), lost.unwrap_or(presence))
            })
            .collect();
        let sites: Vec<_> = (0..=b % 3)
            .map(|at| match (b / 3) % 4 {
                0 => Site::File { path: path(&format!("/f/{}-{at}", self.step)), bytes: 1 << 40 },
                _ => below("/a"),
            })
            .collect();
        match op % KINDS as u8 {
            0 => {
                let name = NAMES[usize::from(a) % NAMES.len()];
                let args = MakeArgs { name, length: 100 * MIB, region_size: None, sites: &sites };
                self.apply(make_volume(&group, &args, dice));
            }
            1 => {
                let made: Vec<_> = plexes.iter().map(|plex| made(plex.uuid())).collect();
                self.apply(finish_make(&group, uuid, &made, false, dice));
            }
            2 => drop(self.apply(add_plexes(&group, name, &sites, dice))),
            3 => drop(self.apply(snapstart(&group, name, &sites, dice))),
            4 | 5 => drop(self.apply(plex_ready(&group, &made(plex_id), dice))),
            6 => drop(self.apply(attach_plex(&group, name, plex_name, dice))),
            7 => drop(self.apply(synced_plex(&group, plex_id, dice))),
            8 => {
                let mut plexes = group.volumes().iter().flat_map(|volume| volume.plexes());
                let copied = plexes.find(|plex| plex.map().is_some() && plex.is_attached()).map(Plex::uuid);
                self.apply(synced_plex(&group, copied.unwrap_or(plex_id), dice));
            }
            9 => drop(self.apply(lose_plex(&group, plex_id, Loss::Failed, None, dice))),
            10 => drop(self.apply(lose_plex(&group, plex_id, Loss::Slow, None, dice))),
            11 => drop(self.apply(lose_plex(&group, plex_id, Loss::Untracked, None, dice))),
            12 => drop(self.apply(remove_plex(&group, name, plex_name, dice))),
            13 => drop(self.apply(snapabort(&group, name, (b > 3).then_some(1), dice))),
            14 | 15 => {
                let source = b.is_multiple_of(5).then_some(plex_name);
                let args = StartArgs { volume: name, media: &media, source, unix_s: 1 };
                if self.apply(start(&group, &args, dice)) {
                    self.world.rebuild_routes(&self.group);
                }
            }
            16 => {
                if self.apply(stop(&group, name, &[], dice)) && b.is_multiple_of(2) {
                    let noted: Vec<_> = plexes.iter().map(|plex| (plex.uuid(), seen(b))).collect();
                    let change = note_media(&self.group, uuid, &noted);
                    self.apply(change);
                }
            }
            17 => {
                if self.apply(recover(&group, uuid, &media, 2, dice)) {
                    self.world.rebuild_routes(&self.group);
                }
            }
            18 => {
                if b < 64 {
                    self.world.crash();
                    self.apply(after_restart(&group, &[], dice));
                } else {
                    let living: Vec<_> = self.world.devices.iter().copied().collect();
                    self.apply(after_restart(&group, &living, dice));
                }
            }
            19 => drop(self.apply(resync_done(&group, uuid))),
            20 => {
                let second = group.volumes().last().map_or("none", |volume| volume.name().as_str());
                let target = |volume| CutTarget { volume, name: None, mirrors: usize::from(b % 2) + 1 };
                let targets = if b < 128 { vec![target(name)] } else { vec![target(name), target(second)] };
                if let Ok((set, change)) = prepare_cut(&group, &targets, dice) {
                    self.sets.push(set);
                    self.apply(Ok(change));
                    if b % 4 < 2 {
                        self.operate(21, a, b);
                    }
                }
            }
            21 => {
                let facts =
                    CutFacts { volume: uuid, grade: Grade::Fs, cut_unix_s: 1, hold_ns: 2, frozen_ns: 3 };
                let prepared = group.volumes().iter().find_map(|volume| volume.prepared().map(|cut| cut.set));
                let set = prepared.or(self.sets.last().copied()).unwrap_or_default();
                if self.apply(commit_cut(&group, set, &[facts], dice)) {
                    self.world.rebuild_routes(&self.group);
                }
            }
            22 => {
                let prepared = group.volumes().iter().find_map(|volume| volume.prepared().map(|cut| cut.set));
                let set = prepared.or(self.sets.last().copied()).unwrap_or_default();
                if self.apply(roll_back_cut(&group, set, b < 128, dice)) {
                    self.world.rebuild_routes(&self.group);
                }
            }
            23 => {
                self.op = 16;
                self.apply(stop(&group, name, &[], dice));
                self.op = 23;
                let group = self.group.clone();
                let args = SnapbackArgs { snapshot: name, plexes: (b > 10).then_some(1), holders: &[] };
                self.apply(snapback(&group, &args, dice));
            }
            24 => match b % 4 {
                0 => drop(self.apply(take_offline(&group, name, plex_name, dice))),
                1 => drop(self.apply(bring_online(&group, name, plex_name, dice))),
                2 => drop(self.apply(snapclear(&group, name, dice))),
                _ => {
                    let policy =
                        plex.map_or(ReadPolicy::Round, |plex| ReadPolicy::Prefer(plex.name().clone()));
                    self.apply(set_read_policy(&group, name, policy));
                }
            },
            26 => drop(self.apply(detach_plex(&group, name, plex_name, dice))),
            28 => drop(self.apply(convert_plex(&group, name, plex_name, dice))),
            29 => self.restore(a, b, dice),
            27 => match b % 3 {
                0 => drop(self.apply(replace_plex(&group, name, plex_name, below("/b"), dice))),
                1 => {
                    let done = group
                        .volumes()
                        .iter()
                        .find_map(|volume| Some((volume.uuid(), *replaced_plexes(volume).first()?)));
                    let (volume, old) = done.unwrap_or((uuid, plex_id));
                    self.apply(finish_replace(&group, volume, old, dice));
                }
                _ => {
                    let settings =
                        SettingsChange { plex_timeout_s: Some(a.into()), ..SettingsChange::default() };
                    self.apply(set(&group, name, settings));
                }
            },
            _ => match b % 8 {
                0 => {
                    let args = RemoveArgs { volume: name, recursive: true, force: a < 128, holders: &[] };
                    self.apply(remove_volume(&group, &args, dice));
                }
                1 => drop(self.apply(abandon_make(&group, uuid, dice))),
                2 => drop(self.apply(set_intent_lost(&group, uuid, a < 128))),
                _ => drop(self.apply(assign_device(&group, uuid, Some(u32::from(self.step))))),
            },
        }
        self.group.check().unwrap();
        self.world.compare(&self.group);
    }
}

impl Run {
    /// A step of a restore or of the way back from one; what is under way is gone on with rather than begun.
    fn restore(&mut self, a: u8, b: u8, dice: &mut Ids) {
        let group = self.group.clone();
        let under_way = group.volumes().iter().find(|volume| volume.restore().is_some());
        if let Some(volume) = under_way {
            let uuid = volume.uuid();
            match b % 8 {
                0..3 => drop(self.apply(restore_saved(&group, uuid))),
                3 => drop(self.apply(restore_turns_back(&group, uuid))),
                4 => drop(self.apply(drop_restore(&group, uuid, dice))),
                _ => drop(self.apply(finish_restore(&group, uuid, dice))),
            }
            return;
        }
        let kept = group.volumes().iter().find(|volume| !volume.undos().is_empty()).filter(|_| b < 128);
        if let Some(volume) = kept {
            let (name, id) = (volume.name().as_str(), volume.undos()[0].archive.short_id());
            match b % 2 {
                0 => drop(self.apply(begin_undo(&group, name, None, &[], a < 128))),
                _ => drop(self.apply(delete_undo(&group, name, &id, dice))),
            }
            return;
        }
        let Some(snapshot) = group.volumes().iter().find(|volume| volume.origin().is_some()) else { return };
        let name = snapshot.name().as_str();
        self.op = 16;
        self.apply(stop(&group, name, &[], dice));
        self.op = 29;
        let group = self.group.clone();
        let archive = Archive::new(snapshot.name(), dice.uuid(), i64::from(a), 1);
        let snapshot = SnapbackArgs { snapshot: name, plexes: Some(usize::from(a % 2)), holders: &[] };
        let archive = (!b.is_multiple_of(4)).then_some(&archive);
        self.apply(begin_restore(&group, &RestoreArgs { snapshot, holders: &[], archive }));
    }
}

fn fresh() -> Run {
    Run { group: empty_group(), world: World::default(), step: 0, sets: Vec::new(), op: 0, taken: [0; KINDS] }
}

/// The opening moves that bring a volume with a snapshot and a SNAPDONE mirror about, so that random play reaches the
/// middle game.
const OPENING: [(u8, u8, u8); 11] = [
    (0, 0, 4),
    (1, 0, 0),
    (14, 0, 99),
    (3, 0, 3),
    (4, 0, 2),
    (7, 0, 2),
    (20, 0, 0),
    (21, 0, 0),
    (3, 0, 3),
    (4, 0, 2),
    (7, 0, 2),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_account_agrees(moves in prop::collection::vec(any::<(u8, u8, u8)>(), 1..120)) {
        let mut run = fresh();
        for (op, a, b) in OPENING.into_iter().chain(moves) {
            run.operate(op, a, b);
        }
        let text = serde_json::to_string(&run.group).unwrap();
        prop_assert_eq!(serde_json::from_str::<Group>(&text).unwrap(), run.group);
    }
}

#[test]
fn the_opening_reaches_a_finished_snapshot_mirror() {
    let mut run = fresh();
    for (op, a, b) in OPENING {
        run.operate(op, a, b);
    }
    assert_eq!(run.taken.iter().sum::<usize>(), OPENING.len());
    assert_eq!(run.group.volume("v").unwrap().snapdone_count(), 1);
}

#[test]
fn random_play_takes_every_kind_of_change_often() {
    let mut taken = [0; KINDS];
    let mut dice = 1u64;
    for _ in 0..800 {
        let mut run = fresh();
        for (op, a, b) in OPENING {
            run.operate(op, a, b);
        }
        for _ in 0..80 {
            // Knuth's MMIX generator; its high bits are good enough to play with.
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let [op, a, b, ..] = (dice >> 40).to_le_bytes();
            run.operate(op, a, b);
        }
        for (sum, count) in taken.iter_mut().zip(run.taken) {
            *sum += count;
        }
    }
    assert!(taken.iter().all(|count| *count >= 10), "{taken:?}");
}
