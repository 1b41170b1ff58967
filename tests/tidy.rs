//! The rules of the tree as tests: who may import whom, where unsafe may stand, what may not be left behind.

use std::fs;
use std::path::{Path, PathBuf};

/// The table of rooms: a room may use `base` and the rooms listed, nothing else. No circles can arise, because each list
/// names only rooms from rows above.
const ROOMS: [(&str, &[&str]); 16] = [
    ("base", &[]),
    ("bitmap", &[]),
    ("format", &["bitmap"]),
    ("state", &[]),
    ("device", &[]),
    ("sim", &["device"]),
    ("ring", &["device"]),
    ("catalog", &["format", "state", "device"]),
    ("volume", &["bitmap", "format", "state", "device"]),
    ("mover", &["bitmap", "state", "device", "volume"]),
    ("export", &["device", "ring"]),
    ("control", &[]),
    ("probe", &["device", "export"]),
    (
        "daemon",
        &[
            "bitmap", "format", "state", "device", "ring", "catalog", "volume", "mover", "export", "control",
            "probe",
        ],
    ),
    ("cli", &["control", "probe"]),
    ("guide", &[]),
];

/// Files in which unsafe code may stand.
const UNSAFE: [&str; 3] = ["src/ring/", "src/export/ublk", "src/device/buffer.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    inside.split_once('/').map(|(room, _)| room)
}

/// The rooms that a source text names as `crate::ROOM`, with the line.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for part in line.split("crate::").skip(1) {
            let room: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            found.push((number + 1, room));
        }
        assert!(!line.contains("use crate::{"), "line {}: name each room in its own `use`", number + 1);
    }
    found
}

#[test]
fn the_table_of_rooms_has_no_circle_and_no_forgotten_room() {
    for (row, (room, uses)) in ROOMS.iter().enumerate() {
        for used in *uses {
            assert!(
                ROOMS[..row].iter().any(|(above, _)| above == used),
                "{room} uses {used}, which stands below it"
            );
        }
    }
    for entry in fs::read_dir(root().join("src")).unwrap().flatten().filter(|e| e.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        assert!(
            name == "bin" || ROOMS.iter().any(|(room, _)| *room == name),
            "room {name} is not in the table"
        );
    }
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for file in rust_files(&root().join("src")) {
        let path = relative(&file);
        let Some(room) = room_of(&path).filter(|room| *room != "bin") else { continue };
        let (_, uses) = ROOMS.iter().find(|(name, _)| *name == room).unwrap();
        for (line, used) in imports(&fs::read_to_string(&file).unwrap()) {
            if used != room && used != "base" && !uses.contains(&used.as_str()) {
                wrong.push(format!("{path}:{line}: {room} must not know {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_import_check_sees_a_wrong_import() {
    assert_eq!(
        imports("use crate::daemon::x;\n// crate::cli\nlet y = crate::base::z(crate::ring::w);"),
        [(1, "daemon".to_owned()), (3, "base".to_owned()), (3, "ring".to_owned())]
    );
}

#[test]
fn unsafe_stands_only_where_it_may() {
    for file in rust_files(&root().join("src")) {
        let path = relative(&file);
        if UNSAFE.iter().any(|allowed| path.starts_with(allowed)) {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap();
            assert!(
                !code.contains("unsafe {") && !code.contains("unsafe impl") && !code.contains("unsafe fn"),
                "{path}:{}: unsafe code",
                number + 1
            );
        }
    }
}

#[test]
fn only_the_ublk_face_names_libublk() {
    for file in rust_files(&root().join("src")) {
        let path = relative(&file);
        if !path.starts_with("src/export/ublk") {
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                !text.lines().any(|line| line.split("//").next().unwrap().contains("libublk::")),
                "{path} names libublk"
            );
        }
    }
}

#[test]
fn every_room_says_what_it_is_for() {
    for file in rust_files(&root().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} has no module documentation", relative(&file));
    }
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let words =
        ["todo!", "unimplemented!", concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X"), "dbg!("];
    let mut files = rust_files(&root().join("src"));
    files.extend(rust_files(&root().join("tests")));
    for file in files.iter().filter(|file| !file.ends_with("tidy.rs")) {
        for (number, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
            for word in words {
                assert!(!line.contains(word), "{}:{}: {word}", relative(file), number + 1);
            }
        }
    }
}

/// Every file that people read, but for what Cargo writes, the licences, and this one.
fn text_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let left_out = ["target", ".git", "Cargo.lock", "tidy.rs"].contains(&name.as_str());
        if left_out || name.starts_with("LICENSE") {
            continue;
        }
        match path.is_dir() {
            true => text_files(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn the_tree_names_no_registry_host_no_issue_and_no_place_where_it_was_checked_out() {
    // A golden file that was written from a relative path would.
    let here = root().to_str().unwrap().to_lowercase();
    let mut files = Vec::new();
    text_files(root(), &mut files);
    assert!(files.len() > 200, "only {} files were found", files.len());
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let text = text.to_lowercase();
        for word in ["crates.io", "deb.debian.org", "pypi.org", "issue #", "fixes #", "pull request", &here] {
            assert!(!text.contains(word), "{} names {word}", relative(&file));
        }
    }
}

#[test]
fn every_exhibit_of_the_museum_stands_somewhere() {
    let registry = root().join("src/base/museum.rs");
    let text = fs::read_to_string(&registry).unwrap();
    let list = text.split_once("exhibits! {\n").unwrap().1.split_once("\n}").unwrap().0;
    let names: Vec<_> = list
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
        .map(|line| line.trim_end_matches(','))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    let files = rust_files(&root().join("src"));
    let all: String = files
        .iter()
        .filter(|file| **file != registry)
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for name in names {
        assert!(all.contains(&format!("Exhibit::{name}")), "{name} stands nowhere");
    }
}

/// Copy-before-write is not built yet.
const RULES_WITHOUT_CODE: [u32; 1] = [19];

#[test]
fn every_ordering_rule_has_a_test_named_after_it() {
    let mut files = rust_files(&root().join("src"));
    files.extend(rust_files(&root().join("tests")));
    let all: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for rule in (1..=21).filter(|rule| !RULES_WITHOUT_CODE.contains(rule)) {
        assert!(all.contains(&format!("fn rule_{rule:02}_")), "no test is named after rule {rule}");
    }
}

#[test]
fn files_stay_readable() {
    for file in rust_files(&root().join("src")) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 900, "{} has {lines} lines: is it still one thing?", relative(&file));
    }
}
