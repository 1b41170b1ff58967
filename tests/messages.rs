//! The table of all refusals, made from the sources: each stable id with its kind and exit code, and whether a test names it.
//! `tests/golden/messages.txt` holds it against accidents; `UPDATE_GOLDEN=1` writes it anew.

use std::collections::BTreeMap;
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
    name == "tests.rs" || name.ends_with("_tests.rs") || name.ends_with("_test.rs") || name == "testing.rs"
}

/// The ids in `code`, each behind its kind: `Kind::Usage, "name.empty"`.
fn ids_of(code: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("Kind::") {
        let rest = &code[at + "Kind::".len()..];
        let Some((kind, rest)) = rest.split_once(',') else { continue };
        let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
        let Some((id, _)) = rest.split_once('"') else { continue };
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if kind.chars().all(char::is_alphanumeric) && id.contains('.') && id.chars().all(is_word) {
            found.push((id.to_owned(), kind.to_owned()));
        }
    }
    found
}

#[test]
fn every_refusal_stands_in_the_table_with_its_exit_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("tests/golden/messages.txt");
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut tests = String::new();
    for path in files(&root.join("src"), &|path| path.extension().is_some_and(|end| end == "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        if is_test_file(&path) {
            tests += &text;
            continue;
        }
        let (code, own) = text.split_once("#[cfg(test)]\nmod tests").unwrap_or((&text, ""));
        tests += own;
        for (id, kind) in ids_of(code) {
            let kinds = ids.entry(id).or_default();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    let named = |path: &Path| {
        *path != golden
            && !path.components().any(|part| matches!(part.as_os_str().to_str(), Some("target" | "corpus")))
    };
    for path in files(&root.join("tests"), &named) {
        tests += &String::from_utf8_lossy(&fs::read(path).unwrap());
    }

    let mut table = String::from(
        "# id, kind, exit code, and whether a test names the id; one that is told by its text alone counts as not named\n",
    );
    for (id, kinds) in &ids {
        for kind in kinds {
            let known = KINDS.iter().find(|(name, _)| name == kind);
            let code = known
                .unwrap_or_else(|| panic!("{id} has the kind {kind}, which this test does not know"))
                .1
                .exit_code();
            let named = if tests.contains(&format!("\"{id}\"")) || tests.contains(&format!(" {id} ")) {
                "yes"
            } else {
                "no"
            };
            table += &format!("{id:<28} {kind:<14} {code:>3}  {named}\n");
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
}
