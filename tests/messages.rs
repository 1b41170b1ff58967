//! The table of all refusals, made from the sources: each stable id with its kind and exit code. Every one is reached by a
//! test that names its id. `tests/golden/messages.txt` holds the table against accidents; `UPDATE_GOLDEN=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cleave::base::Kind;

/// A kind by its variant's name.
const KINDS: &[(&str, Kind)] = &[
    ("Usage", Kind::Usage),
    ("Syntax", Kind::Syntax),
    ("DaemonDown", Kind::DaemonDown),
    ("DaemonTalk", Kind::DaemonTalk),
    ("System", Kind::System),
    ("Internal", Kind::Internal),
    ("NoGroup", Kind::NoGroup),
    ("Changed", Kind::Changed),
    ("NotFound", Kind::NotFound),
    ("Exists", Kind::Exists),
    ("Busy", Kind::Busy),
    ("Last", Kind::Last),
    ("InvalidState", Kind::InvalidState),
    ("Io", Kind::Io),
    ("CannotStart", Kind::CannotStart),
    ("Started", Kind::Started),
    ("NotStarted", Kind::NotStarted),
    ("Open", Kind::Open),
    ("NoSpace", Kind::NoSpace),
    ("Medium", Kind::Medium),
    ("Host", Kind::Host),
    ("Permission", Kind::Permission),
    ("Damaged", Kind::Damaged),
    ("TimedOut", Kind::TimedOut),
    ("Differs", Kind::Differs),
    ("Aborted", Kind::Aborted),
];

fn files(directory: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, wanted));
        } else if wanted(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name == "tests.rs"
        || name.ends_with("_tests.rs")
        || name.ends_with("_test.rs")
        || name == "testing.rs"
        || name == "table.rs"
}

/// The kind of a refusal that passes on another's.
const OF_ITS_CAUSE: &str = "(its cause's)";

/// Words of the sources that look like an id and are none: names of files.
const NO_IDS: &[&str] = &[
    "configuration.damaged",
    "configuration.new",
    "daemon.pid",
    "group.removed",
    "modules.builtin",
    "modules.dep",
];

/// Where ids of another sort stand: of what happens, and of what the doctor looks at.
const OTHER_IDS: &[&str] = &["src/control/happening.rs", "src/cli/verbs/doctor/finding.rs"];

fn is_id(text: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.split_once('.').is_some_and(|(object, case)| is_word(object) && is_word(case) && case != "md")
}

/// The string at the beginning of `code`, behind white space.
fn literal(code: &str) -> Option<&str> {
    code.trim_start().strip_prefix('"')?.split_once('"').map(|(text, _)| text)
}

/// The ids in `code`, each behind its kind: `Kind::Usage, "name.empty"`, or behind that of a refusal that it passes on; and
/// those that are made of the word for what is not known: `unknown("keyword", ..)`.
fn ids_of(code: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("Kind::") {
        let Some((kind, rest)) = code[at + "Kind::".len()..].split_once(',') else { continue };
        if let Some(id) = literal(rest).filter(|id| kind.chars().all(char::is_alphanumeric) && is_id(id)) {
            found.push((id.to_owned(), kind.to_owned()));
        }
    }
    for (at, before) in code.match_indices("refused.kind,") {
        if let Some(id) = literal(&code[at + before.len()..]).filter(|id| is_id(id)) {
            found.push((id.to_owned(), OF_ITS_CAUSE.to_owned()));
        }
    }
    for (call, words) in [("unknown(", ""), ("choose(", "value-of-")] {
        for (at, _) in code.match_indices(call) {
            let is_word = |what: &&str| what.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
            if let Some(what) = literal(&code[at + call.len()..]).filter(is_word) {
                found.push((format!("{words}{}.unknown", what.replace(' ', "-")), "Usage".to_owned()));
            }
        }
    }
    found
}

/// All that looks like an id in `code`.
fn like_ids(code: &str) -> impl Iterator<Item = &str> {
    code.split('"').filter(|text| is_id(text))
}

/// Whether `tests` names `id`, as a word of its own, elsewhere than in a refusal that the test itself makes.
fn names(tests: &str, id: &str) -> bool {
    tests.match_indices(id).any(|(at, _)| {
        let (before, after) = (&tests[..at], &tests[at + id.len()..]);
        let made = || {
            let kind = before.trim_end_matches('"').trim_end().strip_suffix(',');
            let call = kind.and_then(|kind| kind.rsplit_once("Refusal::new("));
            call.is_some_and(|(_, kind)| {
                kind.trim().strip_prefix("Kind::").is_some_and(|kind| kind.chars().all(char::is_alphanumeric))
            })
        };
        before.ends_with(['"', '\'', ' ', '\n']) && after.starts_with(['"', '\'', ' ', '\n', '\\']) && !made()
    })
}

#[test]
fn every_refusal_stands_in_the_table_with_its_exit_code_and_is_reached_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("tests/golden/messages.txt");
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut tests, mut literals) = (String::new(), BTreeSet::new());
    for path in files(&root.join("src"), &|path| path.extension().is_some_and(|end| end == "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        if is_test_file(&path) {
            tests += &text;
            continue;
        }
        let (code, own) = text.split_once("#[cfg(test)]\nmod tests").unwrap_or((&text, ""));
        tests += own;
        if OTHER_IDS.iter().any(|other| path.ends_with(other)) {
            continue;
        }
        for (id, kind) in ids_of(code) {
            ids.entry(id).or_default().insert(kind);
        }
        literals.extend(like_ids(code).map(str::to_owned));
    }
    literals.retain(|text| !ids.contains_key(text) && !NO_IDS.contains(&text.as_str()));
    assert!(literals.is_empty(), "no kind stands before these, or they are no ids: {literals:?}");

    // Of the golden files only that of refusals: the others tell what happens, and what the doctor looks at, by ids too.
    let named = |path: &Path| {
        let is = |part: &str| path.components().any(|own| own.as_os_str() == part);
        match path.extension().and_then(|end| end.to_str()) {
            Some("rs" | "sh") => !path.ends_with("tests/messages.rs") && !is("target"),
            Some("txt") => path.ends_with("golden/cli-errors.txt"),
            _ => false,
        }
    };
    for path in files(&root.join("tests"), &named) {
        tests += &String::from_utf8_lossy(&fs::read(path).unwrap());
    }
    let unreached: Vec<_> = ids.keys().filter(|id| !names(&tests, id)).map(String::as_str).collect();

    let mut table = String::from("# id, kind, exit code\n");
    for (id, kinds) in &ids {
        for kind in kinds {
            let code =
                KINDS.iter().find(|(name, _)| name == kind).map(|(_, kind)| kind.exit_code().to_string());
            assert!(
                code.is_some() || kind == OF_ITS_CAUSE,
                "{id} has the kind {kind}, which this test does not know"
            );
            table += format!("{id:<28} {kind:<14} {:>3}", code.unwrap_or_default()).trim_end();
            table.push('\n');
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &table).unwrap();
    }
    let before = fs::read_to_string(&golden).unwrap_or_default();
    for (now, then) in table.lines().zip(before.lines()) {
        assert_eq!(now, then, "a refusal was changed: with UPDATE_GOLDEN=1 the table is written anew");
    }
    assert_eq!(
        table.lines().count(),
        before.lines().count(),
        "with UPDATE_GOLDEN=1 the table is written anew"
    );
    assert!(unreached.is_empty(), "no test names {unreached:?}");
}
