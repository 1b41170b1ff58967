//! Commits that are cut off at every step, on a directory that may lose whatever was not made durable; and loading
//! whatever may be found.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;

use super::*;
use crate::base::Uuid;
use crate::base::limits::MIB;
use crate::state::change::{self, Made, MakeArgs, Presence, Site, StartArgs};
use crate::state::{Ids, MediumPath, PoolMedium, Unfinished};

fn ids(seed: u8) -> Ids {
    Ids::from_seed([seed; 32])
}

fn group() -> Group {
    let media = [PoolMedium { path: MediumPath::new("/media").unwrap(), block: false, name: None }];
    change::create_group("dg", &media, &mut ids(1)).unwrap()
}

/// A group with a started volume of two plexes and a finished snapshot mirror, from which a snapshot was cut.
fn busy_group() -> Group {
    let site = Site::Below { directory: MediumPath::new("/media").unwrap(), sparse: false };
    let sites = [site.clone(), site.clone()];
    let args = MakeArgs { name: "vol", length: 64 * MIB, region_size: None, sites: &sites };
    let group = change::make_volume(&group(), &args, &mut ids(2)).unwrap().group;
    let made = |plex: Uuid| Made { plex, bytes: 66 * MIB, block_size: 512, memory_alignment: 4 };
    let volume = group.volume("vol").unwrap();
    let all: Vec<_> = volume.plexes().iter().map(|plex| made(plex.uuid())).collect();
    let group = change::finish_make(&group, volume.uuid(), &all, false, &mut ids(3)).unwrap().group;
    let media: Vec<_> = all.iter().map(|made| (made.plex, Presence::Present(None))).collect();
    let args = StartArgs { volume: "vol", media: &media, source: None, unix_s: 1_700_000_000 };
    let group = change::start(&group, &args, &mut ids(4)).unwrap().group;
    let group = change::assign_device(&group, volume.uuid(), Some(0)).unwrap().group;
    let mut group = group;
    for seed in [10, 20] {
        group = change::snapstart(&group, "vol", std::slice::from_ref(&site), &mut ids(seed)).unwrap().group;
        let plex = group.volume("vol").unwrap().plexes().last().unwrap().uuid();
        group = change::plex_ready(&group, &made(plex), &mut ids(seed + 1)).unwrap().group;
        if seed == 10 {
            group = change::synced_plex(&group, plex, &mut ids(seed + 2)).unwrap().group;
            let target = change::CutTarget { volume: "vol", name: None, mirrors: 1 };
            let (set, prepared) = change::prepare_cut(&group, &[target], &mut ids(seed + 3)).unwrap();
            let facts = change::CutFacts {
                volume: volume.uuid(),
                grade: crate::state::Grade::Fs,
                cut_unix_s: 1_700_000_123,
                hold_ns: 1_500_000,
                frozen_ns: 20_000_000,
            };
            group = change::commit_cut(&prepared.group, set, &[facts], &mut ids(seed + 4)).unwrap().group;
        }
    }
    group
}

/// Groups that differ in one number, one a generation.
fn numbered(group: &Group, number: u32) -> Group {
    let volume = group.volume("vol").unwrap().uuid();
    change::assign_device(group, volume, Some(number)).unwrap().group
}

fn number_of(group: &Group) -> Option<u32> {
    group.volume("vol").unwrap().device()
}

#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

/// A directory in memory that keeps apart what is durable and what is not.
#[derive(Clone, Debug, Default)]
struct Fragile {
    contents: Rc<RefCell<Vec<Content>>>,
    names: Rc<RefCell<BTreeMap<String, usize>>>,
    durable_names: Rc<RefCell<BTreeMap<String, usize>>>,
    /// Changes that still succeed; none is all.
    left: Rc<Cell<Option<usize>>>,
    /// Whether those behind the one that fails succeed again.
    once: Rc<Cell<bool>>,
    /// What the others fail with; 0 is EIO.
    errno: Rc<Cell<i32>>,
}

impl Fragile {
    fn step(&self) -> io::Result<()> {
        match self.left.get() {
            Some(0) => {
                if self.once.get() {
                    self.left.set(None);
                }
                Err(io::Error::from_raw_os_error(if self.errno.get() == 0 { 5 } else { self.errno.get() }))
            }
            Some(left) => {
                self.left.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The directory after a power cut that kept (or lost) names and content which were not durable.
    fn after_power_cut(&self, keep_names: bool, keep_content: bool) -> Self {
        let names = if keep_names { &self.names } else { &self.durable_names };
        let contents = self.contents.borrow();
        let contents = contents.iter().map(|content| {
            let bytes = if keep_content { &content.bytes } else { &content.durable };
            Content { bytes: bytes.clone(), durable: bytes.clone() }
        });
        Self {
            contents: Rc::new(RefCell::new(contents.collect())),
            names: Rc::new(RefCell::new(names.borrow().clone())),
            durable_names: Rc::new(RefCell::new(names.borrow().clone())),
            left: Rc::default(),
            once: Rc::default(),
            errno: Rc::default(),
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        self.write(name, bytes).unwrap();
        self.sync(name).unwrap();
        self.sync_directory().unwrap();
    }

    fn get(&self, name: &str) -> Vec<u8> {
        self.read(name, usize::MAX).unwrap().unwrap()
    }
}

impl StateFiles for Fragile {
    fn place(&self) -> &str {
        "/state/dg"
    }
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.names.borrow().keys().cloned().collect())
    }
    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let names = self.names.borrow();
        let Some(at) = names.get(name) else { return Ok(None) };
        let mut bytes = self.contents.borrow()[*at].bytes.clone();
        bytes.truncate(limit);
        Ok(Some(bytes))
    }
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // A cut in the middle of a write leaves a part of it.
        let whole = self.step();
        let part = if whole.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let mut contents = self.contents.borrow_mut();
        let next = contents.len();
        let at = *self.names.borrow_mut().entry(name.to_owned()).or_insert(next);
        if at == next {
            contents.push(Content::default());
        }
        contents[at].bytes = part.to_vec();
        whole
    }
    fn sync(&self, name: &str) -> io::Result<()> {
        self.step()?;
        let content = &mut self.contents.borrow_mut()[self.names.borrow()[name]];
        content.durable = content.bytes.clone();
        Ok(())
    }
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let at = self.names.borrow()[from];
        self.names.borrow_mut().insert(to.to_owned(), at);
        Ok(())
    }
    fn rename_if_there(&self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let mut names = self.names.borrow_mut();
        if let Some(at) = names.remove(from) {
            names.insert(to.to_owned(), at);
        }
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.step()?;
        self.names.borrow_mut().remove(name);
        Ok(())
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.step()?;
        *self.durable_names.borrow_mut() = self.names.borrow().clone();
        Ok(())
    }
    fn clear(&self) -> io::Result<()> {
        self.step()?;
        self.names.borrow_mut().clear();
        Ok(())
    }
}

/// A directory with `history` generations, and its catalogue.
fn with_history(history: u32) -> (Fragile, Catalog<Fragile>, Group) {
    let files = Fragile::default();
    let group = busy_group();
    let (mut catalog, _) = Catalog::create_on(files.clone(), &numbered(&group, 100)).unwrap();
    for number in 1..history {
        catalog.commit(&numbered(&group, 100 + number)).unwrap();
    }
    (files, catalog, group)
}

#[test]
fn rule_17_what_was_loaded_after_a_kill_is_not_taken_back_by_a_power_cut() {
    let first = busy_group();
    let mut seen = std::collections::BTreeSet::new();
    for steps in 0.. {
        let files = Fragile::default();
        let (mut catalog, _) = Catalog::create_on(files.clone(), &numbered(&first, 1)).unwrap();
        files.left.set(Some(steps));
        let committed = catalog.commit(&numbered(&first, 2));
        files.left.set(None);
        let (_, loaded) = Catalog::open_on(files.clone()).unwrap();
        seen.insert(number_of(&loaded.group));
        let (_, later) = Catalog::open_on(files.after_power_cut(false, false)).unwrap();
        assert_eq!(later.group, loaded.group, "killed after {steps} steps");
        if committed.is_ok() {
            break;
        }
    }
    assert_eq!(seen.len(), 2, "both were loaded");
}

#[test]
fn rule_17_a_commit_that_is_cut_off_anywhere_leaves_the_old_or_the_new_configuration() {
    for history in [1, 2, 9, 12] {
        let mut steps = 0;
        loop {
            let (files, mut catalog, group) = with_history(history);
            files.left.set(Some(steps));
            let committed = catalog.commit(&numbered(&group, 999));
            let used_up = files.left.get() == Some(0);
            for (keep_names, keep_content) in [(false, false), (false, true), (true, true), (true, false)] {
                let after = files.after_power_cut(keep_names, keep_content);
                let (mut catalog, loaded) = Catalog::open_on(after).unwrap();
                let seen = number_of(&loaded.group);
                let old = Some(100 + history - 1);
                assert!(seen == old || seen == Some(999), "history {history}, step {steps}: {seen:?}");
                if committed.is_ok() {
                    assert_eq!(seen, Some(999), "what was committed stays");
                }
                // It goes on from there, whatever was left lying about.
                let next = catalog.commit(&numbered(&group, 1000)).unwrap();
                assert!(next.generation > loaded.generation);
            }
            if committed.is_ok() && !used_up {
                break;
            }
            steps += 1;
        }
        assert!(steps >= 5, "write, sync, link, rename and the directory's sync are steps");
    }
}

/// As on a disk that fails a single request: what comes after it succeeds, and proves nothing.
#[test]
fn rule_17_a_single_failure_anywhere_leaves_what_was_committed() {
    for history in [1, 3, 12] {
        for step in 0.. {
            let (files, mut catalog, group) = with_history(history);
            files.left.set(Some(step));
            files.once.set(true);
            let committed = catalog.commit(&numbered(&group, 999));
            if files.left.take().is_some() {
                assert!(committed.is_ok() && step >= 5, "no step was left to fail");
                break;
            }
            for (keep_names, keep_content) in [(false, false), (false, true), (true, true), (true, false)] {
                let (_, loaded) = Catalog::open_on(files.after_power_cut(keep_names, keep_content)).unwrap();
                let seen = number_of(&loaded.group);
                let old = Some(100 + history - 1);
                let expected = if committed.is_ok() { Some(999) } else { old };
                assert!(
                    seen == expected || seen == Some(999),
                    "history {history}, step {step}: {committed:?} and {seen:?}"
                );
            }
        }
    }
}

/// Cut `work` off after each of its steps, four times with what was not durable kept or lost; `look` gets the directory
/// as the next start finds it, and whether the work had ended well. Returns the number of steps.
fn at_each_step(
    prepare: impl Fn() -> (Fragile, Box<dyn FnOnce() -> bool>),
    look: impl Fn(usize, bool, Fragile),
) -> usize {
    for steps in 0.. {
        let mut done = false;
        for (keep_names, keep_content) in [(false, false), (false, true), (true, true), (true, false)] {
            let (files, work) = prepare();
            files.left.set(Some(steps));
            done = work();
            look(steps, done, files.after_power_cut(keep_names, keep_content));
        }
        if done {
            return steps;
        }
    }
    unreachable!("work without end")
}

#[test]
fn a_group_whose_making_is_cut_off_anywhere_is_there_or_gone() {
    let group = group();
    let prepare = || {
        let (files, group) = (Fragile::default(), group.clone());
        let work = files.clone();
        (files, Box::new(move || Catalog::create_on(work, &group).is_ok()) as Box<dyn FnOnce() -> bool>)
    };
    let (there, gone) = (Cell::new(0), Cell::new(0));
    let steps = at_each_step(prepare, |step, done, after| {
        let left = settle_remains(&after).unwrap();
        match Catalog::open_on(after.clone()) {
            Ok((_, loaded)) => {
                assert_eq!((left, loaded.group), (None, group.clone()), "step {step}");
                there.set(there.get() + 1);
            }
            Err(refused) => {
                assert!(!done && refused.id == "group.damaged", "step {step}: {refused}");
                assert_eq!(after.names().unwrap(), [""; 0], "step {step}");
                gone.set(gone.get() + 1);
            }
        }
        // Whatever was there, the group can be made, or is there.
        match Catalog::create_on(after, &group) {
            Ok((_, generation)) => assert_eq!(generation, Generation(1)),
            Err(refused) => assert_eq!(refused.id, "group.exists"),
        }
    });
    assert_eq!(steps, 5, "write, sync, two renames, sync of the directory");
    assert!(there.get() > 0 && gone.get() > 0, "both ends are reached: {there:?} {gone:?}");
}

#[test]
fn a_group_whose_removal_is_cut_off_anywhere_is_there_or_gone_and_never_an_older_one() {
    let (first, last) = (busy_group(), group());
    let prepare = || {
        let files = Fragile::default();
        let (mut catalog, _) = Catalog::create_on(files.clone(), &first).unwrap();
        (0..3).for_each(|number| drop(catalog.commit(&numbered(&first, number)).unwrap()));
        catalog.commit(&last).unwrap();
        for name in files::state_files(&first) {
            files.put(&name, b"map");
        }
        let last = last.clone();
        (files, Box::new(move || catalog.destroy(&last).is_ok()) as Box<dyn FnOnce() -> bool>)
    };
    let (there, gone) = (Cell::new(0), Cell::new(0));
    let steps = at_each_step(prepare, |step, done, after| {
        let place = "/state/dg".to_owned();
        match settle_remains(&after).unwrap() {
            None if after.names().unwrap().is_empty() => gone.set(gone.get() + 1),
            None => {
                let (_, loaded) = Catalog::open_on(after).unwrap();
                assert!(!done && loaded.group == last, "step {step}: what is there is the group as it was");
                there.set(there.get() + 1);
            }
            Some(left) => {
                assert_eq!(left, Unfinished::GroupRemoval { place });
                assert_eq!(after.names().unwrap(), [""; 0], "step {step}");
                gone.set(gone.get() + 1);
            }
        }
    });
    assert!(steps > 15, "{steps} steps: the mark, each file, the mark again");
    assert!(there.get() > 0 && gone.get() > 10, "{there:?} {gone:?}");
}

#[test]
fn an_adoption_that_is_cut_off_anywhere_leaves_the_old_or_the_adopted_configuration() {
    let group = busy_group();
    let newer = config::encode(Generation(7), &numbered(&group, 777)).unwrap();
    let prepare = || {
        let (files, mut catalog, group) = with_history(3);
        let text = newer.clone();
        let work = move || catalog.adopt("/dev/sdx", text.as_bytes(), &group).is_ok();
        (files, Box::new(work) as Box<dyn FnOnce() -> bool>)
    };
    let seen = RefCell::new(std::collections::BTreeSet::new());
    let steps = at_each_step(prepare, |step, done, after| {
        let (mut catalog, loaded) = Catalog::open_on(after).unwrap();
        let number = number_of(&loaded.group);
        assert!(number == Some(102) && !done || number == Some(777), "step {step}: {number:?}");
        seen.borrow_mut().insert((number, loaded.interrupted));
        // The label is still newer than the old configuration, so that it is adopted again.
        let (committed, adopted) = catalog.adopt("/dev/sdx", newer.as_bytes(), &group).unwrap();
        assert!(committed.generation > Generation(7) && number_of(&adopted) == Some(777));
    });
    assert!(steps >= 5, "{steps}");
    let interrupted = (Some(102), Some(Generation(8)));
    assert!(seen.borrow().contains(&interrupted), "a whole next configuration is told: {seen:?}");
}

#[test]
fn what_interrupted_verbs_left_below_the_root_is_settled_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let place = |name: &str| at(name).display().to_string();
    drop(Catalog::create(&at("whole"), &group()).unwrap());
    std::fs::write(at("whole").join(NEXT), b"half").unwrap();
    drop(Catalog::create(&at("going"), &busy_group()).unwrap());
    std::fs::write(at("going").join(REMOVED), b"").unwrap();
    drop(Catalog::create(&at("born"), &group()).unwrap());
    std::fs::rename(at("born").join(HEAD), at("born").join(NEXT)).unwrap();
    std::fs::create_dir(at("born").join("media")).unwrap();
    std::fs::create_dir(at("strange")).unwrap();
    std::fs::write(at("strange").join(NEXT), b"x").unwrap();
    std::fs::write(at("strange").join("letter"), b"x").unwrap();
    assert_eq!(group_directories(root.path()).unwrap(), [at("whole")]);
    let settle = |path: &PathBuf| {
        let files = Directory::open(path).unwrap();
        let left = settle_remains(&files).unwrap()?;
        files.clear().unwrap();
        Some(left.to_string())
    };
    let mut settled: Vec<_> = unsettled_directories(root.path()).unwrap().iter().filter_map(settle).collect();
    settled.sort();
    assert_eq!(
        settled,
        [
            format!("completed: {}: the group was being removed", place("going")),
            format!("rolled back: {}: a group was being made", place("born")),
        ]
    );
    assert!(!at("going").exists() && !at("born").exists());
    assert!(at("strange").join("letter").exists() && at("strange").join(NEXT).exists());
    assert_eq!(Catalog::open(&at("whole")).unwrap().1.group, group());
    assert_eq!(unsettled_directories(root.path()).unwrap(), [at("strange")]);
    assert!(unsettled_directories(&at("none")).unwrap().is_empty());
}

#[test]
fn after_a_failed_commit_the_next_one_has_a_higher_number_than_either() {
    for step in 0..5 {
        let (files, mut catalog, group) = with_history(3);
        files.left.set(Some(step));
        match catalog.commit(&numbered(&group, 500)) {
            Err(refused) => {
                assert_eq!((refused.kind, refused.id.as_str()), (Kind::System, "state.commit"));
                assert_eq!(
                    refused.to_string(),
                    "/state/dg: the configuration cannot be committed: Input/output error; \
                     see to the disk below the state directory, then try again"
                );
            }
            Ok(_) => panic!("step {step} failed"),
        }
        files.left.set(None);
        let next = catalog.commit(&numbered(&group, 501)).unwrap();
        assert_eq!(next.generation, Generation(5), "number 4 is burned");
        let (_, loaded) = Catalog::open_on(files).unwrap();
        assert_eq!((loaded.generation, number_of(&loaded.group)), (Generation(5), Some(501)));
        assert_eq!(loaded.warnings, [""; 0]);
    }
}

#[test]
fn a_full_or_read_only_directory_refuses_the_commit_and_keeps_the_old_configuration() {
    for (errno, kind, said) in [
        (28, Kind::NoSpace, "No space left on device"),
        (30, Kind::System, "Read-only file system"),
        (2, Kind::System, "No such file or directory"),
    ] {
        for step in 0..5 {
            let (files, mut catalog, group) = with_history(3);
            files.left.set(Some(step));
            files.errno.set(errno);
            let refused = catalog.commit(&numbered(&group, 500)).unwrap_err();
            assert_eq!((refused.kind, refused.id.as_str()), (kind, "state.commit"));
            assert!(refused.reason.contains(said), "{refused}");
            let after = files.after_power_cut(false, false);
            let (_, loaded) = Catalog::open_on(after).unwrap();
            assert_eq!((loaded.generation, number_of(&loaded.group)), (Generation(3), Some(102)));
            // Labels alone carry what must be known, under a number that no commit has.
            let outside = catalog.outside(&numbered(&group, 501)).unwrap();
            assert_eq!(outside.generation, Generation(5));
            files.left.set(None);
            assert_eq!(catalog.commit(&numbered(&group, 502)).unwrap().generation, Generation(6));
        }
    }
}

#[test]
fn a_group_taken_in_from_labels_is_newer_than_they() {
    let (mut catalog, committed) =
        Catalog::import_on(Fragile::default(), &busy_group(), Generation(41)).unwrap();
    assert_eq!(committed.generation, Generation(42));
    assert_eq!(catalog.commit(&busy_group()).unwrap().generation, Generation(43));
}

#[test]
fn past_generations_are_kept_and_the_oldest_go() {
    let (files, ..) = with_history(20);
    let mut names = files.names().unwrap();
    names.sort();
    assert_eq!(names.len(), 1 + PAST_KEPT);
    assert_eq!(names[0], "configuration");
    assert_eq!(names[1], "configuration.00000000000000000012");
    assert_eq!(names[PAST_KEPT], "configuration.00000000000000000019");
}

#[test]
fn a_head_that_cannot_be_read_gives_way_to_the_newest_past_one() {
    let (files, catalog, group) = with_history(4);
    drop(catalog);
    let mut text = files.get(HEAD);
    let last = text.len() - 3;
    text[last] ^= 1;
    files.put(HEAD, &text);
    let (mut catalog, loaded) = Catalog::open_on(files.clone()).unwrap();
    assert_eq!((loaded.generation, number_of(&loaded.group)), (Generation(3), Some(102)));
    assert_eq!(
        loaded.warnings,
        [
            "/state/dg/configuration: does not match its checksum: edited by hand or damaged",
            "/state/dg/configuration.00000000000000000003: taken in place of the newest configuration, which cannot be read"
        ]
    );
    let next = catalog.commit(&numbered(&group, 700)).unwrap();
    assert!(next.generation > Generation(4), "the damaged head's number is not used again");
    assert_eq!(files.get(DAMAGED), text, "what could not be read is kept for a person");
    assert_eq!(Catalog::open_on(files).unwrap().1.warnings, [""; 0]);
}

#[test]
fn nothing_readable_is_refused_by_name() {
    let refused = Catalog::open_on(Fragile::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "/state/dg: holds no configuration; bring the directory back from a backup; \
         the labels of its media carry the configuration too"
    );
    let files = Fragile::default();
    files.put(HEAD, b"garbage");
    let refused = Catalog::open_on(files).unwrap_err();
    assert_eq!((refused.kind, refused.id.as_str()), (Kind::Damaged, "group.damaged"));
    assert!(refused.reason.contains("is not a configuration of Cleave"), "{refused}");
}

#[test]
fn two_heads_of_one_generation_are_refused_with_both_shown() {
    let (files, catalog, group) = with_history(2);
    drop(catalog);
    let twin = config::encode(Generation(2), &numbered(&group, 900)).unwrap();
    files.put("configuration.00000000000000000002", twin.as_bytes());
    let refused = Catalog::open_on(files).unwrap_err();
    assert_eq!((refused.kind, refused.id.as_str()), (Kind::Damaged, "group.two-heads"));
    assert_eq!(
        refused.to_string(),
        "/state/dg/configuration: it and /state/dg/configuration.00000000000000000002 both are generation 2, \
         with different content; move the wrong one away"
    );
}

#[test]
fn a_newer_format_is_refused_and_never_written_over() {
    let (files, catalog, _) = with_history(2);
    drop(catalog);
    let text = String::from_utf8(files.get(HEAD)).unwrap();
    let newer = text.replacen("cleave-configuration 1 ", "cleave-configuration 2 ", 1);
    files.put(HEAD, newer.as_bytes());
    let refused = Catalog::open_on(files.clone()).unwrap_err();
    assert_eq!((refused.kind, refused.id.as_str()), (Kind::Damaged, "group.newer-format"));
    assert_eq!(
        refused.to_string(),
        "/state/dg/configuration: the configuration has format 2, this program knows formats up to 1; \
         use the newer program that wrote it"
    );
    assert_eq!(files.get(HEAD), newer.as_bytes());
}

#[test]
fn a_sound_text_that_makes_no_sense_is_not_taken() {
    let (files, catalog, group) = with_history(2);
    drop(catalog);
    let text = String::from_utf8(files.get(HEAD)).unwrap();
    let body = text.split_once('\n').unwrap().1;
    let volume = group.volume("vol").unwrap();
    let twice = body.replace(&volume.plexes()[1].name().to_string(), &volume.plexes()[0].name().to_string());
    assert_ne!(twice, body);
    let value: serde_json::Value = serde_json::from_str(&twice).unwrap();
    files.put(HEAD, config::encode(Generation(3), &value).unwrap().as_bytes());
    let (_, loaded) = Catalog::open_on(files).unwrap();
    assert_eq!(loaded.generation, Generation(1), "the newest one that makes sense");
    assert_eq!(
        loaded.warnings[0],
        "/state/dg/configuration: vol-01: the configuration contradicts itself: the name is there twice; \
         go back to a past generation in the group's state directory"
    );
}

/// Each of them would end the daemon later: a counter that has no next number, or a label without room for all of a past.
#[test]
fn numbers_that_no_counting_reaches_are_not_taken() {
    let (files, catalog, group) = with_history(2);
    drop(catalog);
    let good = serde_json::to_value(numbered(&group, 5)).unwrap();
    let refused = |value: &serde_json::Value, generation| {
        files.put(HEAD, config::encode(Generation(generation), value).unwrap().as_bytes());
        let (_, loaded) = Catalog::open_on(files.clone()).unwrap();
        assert_eq!(loaded.generation, Generation(1), "the newest one that makes sense");
        loaded.warnings[0].clone()
    };
    for counter in ["run", "stop"] {
        let mut value = good.clone();
        value["volumes"][0][counter] = u64::MAX.into();
        let told = refused(&value, 3);
        assert!(told.contains("no counting reaches"), "{told}");
    }
    let mut value = good.clone();
    let past: Vec<_> = (0..17).map(|seed| Uuid::from_random([seed + 100; 16]).to_string()).collect();
    value["volumes"][0]["plexes"][0]["past"] = past.into();
    let told = refused(&value, 3);
    assert!(told.contains("vol-01 has 17 past generations"), "{told}");
    let told = refused(&good, u64::MAX);
    assert!(told.contains("has generation 18446744073709551615, which no counting reaches"), "{told}");
    files.put(HEAD, config::encode(Generation(3), &good).unwrap().as_bytes());
    assert_eq!(Catalog::open_on(files).unwrap().1.generation, Generation(3), "the text itself is a good one");
}

#[test]
fn a_label_newer_than_the_catalogue_is_adopted() {
    let (files, mut catalog, group) = with_history(2);
    let newer = config::encode(Generation(7), &numbered(&group, 777)).unwrap();
    let (committed, adopted) = catalog.adopt("/dev/sdx", newer.as_bytes(), &group).unwrap();
    assert_eq!((committed.generation, number_of(&adopted)), (Generation(8), Some(777)));
    assert_eq!(number_of(&Catalog::open_on(files).unwrap().1.group), Some(777));

    let twin = config::encode(Generation(2), &numbered(&group, 778)).unwrap();
    let refused = catalog.adopt("/dev/sdx", twin.as_bytes(), &group).unwrap_err();
    assert_eq!(refused.id, "group.two-heads");
    let stranger = change::create_group("other", &[], &mut ids(99)).unwrap();
    let text = config::encode(Generation(9), &stranger).unwrap();
    let refused = catalog.adopt("/dev/sdx", text.as_bytes(), &group).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "/dev/sdx: it belongs to group other; leave the medium out, or erase its label"
    );
}

#[test]
fn maps_that_no_record_names_are_orphans() {
    let (files, catalog, group) = with_history(1);
    for name in files::state_files(&group) {
        files.put(&name, b"map");
    }
    assert_eq!(catalog.orphans(&group).unwrap(), [""; 0]);
    let stranger = files::map_file_name(Uuid::from_random([9; 16]));
    files.put(&stranger, b"map");
    files.put("notes", b"mine");
    assert_eq!(catalog.orphans(&group).unwrap(), [stranger]);
}

#[test]
fn a_real_directory_is_private_and_locked_and_goes_when_it_is_empty() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a").join("dg");
    let (mut catalog, generation) = Catalog::create(&path, &group()).unwrap();
    assert_eq!(generation, Generation(1));
    catalog.commit(&group()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    assert_eq!(group_directories(&root.path().join("a")).unwrap(), std::slice::from_ref(&path));
    assert!(group_directories(&root.path().join("none")).unwrap().is_empty());

    let refused = Catalog::open(&path).unwrap_err();
    assert_eq!((refused.kind, refused.id.as_str()), (Kind::Busy, "state.locked"));
    assert_eq!(
        refused.to_string(),
        format!(
            "{}: another cleaved serves it (pid {}); use that one, or end it first",
            path.display(),
            std::process::id()
        )
    );
    drop(catalog);
    assert_eq!(Catalog::create(&path, &group()).unwrap_err().id, "group.exists");
    let (mut catalog, loaded) = Catalog::open(&path).unwrap();
    assert_eq!((loaded.generation, &loaded.group), (Generation(2), &group()));

    std::fs::create_dir(path.join("media")).unwrap();
    catalog.destroy(&loaded.group).unwrap();
    catalog.remove_directory().unwrap();
    assert!(!path.exists());
    assert_eq!(Catalog::open(&path).unwrap_err().id, "state.directory");
}

#[test]
fn a_directory_with_a_volume_or_somebodys_files_is_not_removed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("dg");
    let (mut catalog, _) = Catalog::create(&path, &busy_group()).unwrap();
    assert_eq!(catalog.destroy(&busy_group()).unwrap_err().refused.id, "group.not-empty");
    let path = root.path().join("dh");
    let (mut catalog, _) = Catalog::create(&path, &group()).unwrap();
    std::fs::write(path.join("mine"), b"x").unwrap();
    catalog.destroy(&group()).unwrap();
    catalog.remove_directory().unwrap();
    assert!(path.join("mine").exists());
    assert!(!path.join(HEAD).exists());
}

#[test]
fn the_text_of_a_full_configuration_is_the_golden_one() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/configuration.txt");
    let text = config::encode(Generation(17), &busy_group()).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(golden).unwrap(),
        text,
        "a change of the format says so in its commit"
    );
    assert_eq!(config::decode::<Group>(text.as_bytes()), Ok((Generation(17), busy_group())));
}

#[test]
fn a_group_that_does_not_fit_a_label_is_not_committed() {
    let (_, mut catalog, mut group) = with_history(1);
    for number in 0..400 {
        let path = MediumPath::new(&format!("/{number}/{}", "long/".repeat(800))).unwrap();
        group = change::add_medium(&group, PoolMedium { path, block: false, name: None }).unwrap().group;
    }
    let refused = catalog.commit(&group).unwrap_err();
    assert_eq!((refused.id.as_str(), refused.kind), ("state.too-large", Kind::NoSpace));
    assert!(catalog.outside(&group).is_err_and(|outside| outside.id == "state.too-large"));
}
