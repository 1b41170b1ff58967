//! The documents that `--json` prints, described: fields and what they mean are read from the structures in the sources, and
//! what is put together of them stands in the tables here. Real documents are held against the description.

#![allow(dead_code, reason = "each test program that it is part of uses some of it")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The structures of rows and replies, and where they stand.
const STRUCTURES: &[(&str, &[&str])] = &[
    (
        "src/control/row.rs",
        &[
            "RestoringRow",
            "ForeseenRow",
            "UndoRow",
            "GroupRow",
            "SpaceRow",
            "MediumRow",
            "SnapshotOf",
            "VolumeRow",
            "ScrubRow",
            "ScrubResultRow",
            "PlexRow",
            "IoCounts",
            "StatsRow",
            "TaskRow",
            "SnapshotRow",
            "DifferenceRow",
        ],
    ),
    (
        "src/control/reply.rs",
        &[
            "Exported",
            "Moved",
            "MovedPlex",
            "Released",
            "Resized",
            "Changed",
            "Attached",
            "Cut",
            "Returned",
            "Restored",
            "Removed",
            "Verified",
            "Overview",
            "Forced",
            "Scrubbed",
            "Status",
        ],
    ),
    ("src/control/happening.rs", &["Happening"]),
    ("src/base/error.rs", &["Refusal"]),
    ("src/cli/verbs/doctor/finding.rs", &["Finding"]),
    ("src/cli/verbs/snapprint.rs", &["Part"]),
];

/// A field with its type, a question mark before one that may be absent, and its meaning.
type Own = (&'static str, &'static str, &'static str);

/// What is put together: a name, the structure that it has all fields of, and its own fields.
const MADE: &[(&str, &str, &[Own])] = &[
    ("Error", "", &[("error", "ErrorRefusal", "The refusal.")]),
    ("ErrorRefusal", "Refusal", &[("exit_code", "u8", "The exit code of its kind.")]),
    (
        "Results",
        "",
        &[
            ("results", "Vec<Any>", "The document of each, in the order in which they were named."),
            (
                "not_done",
                "?Vec<Name>",
                "Of snapback: those that were not given back, when one in between was refused.",
            ),
        ],
    ),
    ("Text", "", &[("text", "String", "What is printed without --json.")]),
    ("Groups", "", &[("groups", "Vec<Group>", "The groups.")]),
    ("Group", "GroupRow", &[("media", "Vec<MediumRow>", "Its media.")]),
    ("Volume", "VolumeRow", &[("plexes", "Vec<PlexRow>", "Its plexes.")]),
    ("Volumes", "", &[("volumes", "Vec<Volume>", "The volumes.")]),
    (
        "Records",
        "",
        &[
            ("groups", "Vec<Group>", "The groups; none where objects were named."),
            ("volumes", "Vec<Volume>", "The volumes; where plexes were named, those they belong to."),
        ],
    ),
    (
        "VolumesAndTasks",
        "",
        &[
            ("volumes", "Vec<Volume>", "The volumes."),
            ("tasks", "Vec<TaskRow>", "The tasks at work on them."),
        ],
    ),
    (
        "MadeVolume",
        "",
        &[
            ("volume", "Volume", "The volume."),
            ("task", "Option<u64>", "The task that makes its plexes equal, when one is needed."),
        ],
    ),
    (
        "ChangedVolumes",
        "Changed",
        &[
            ("volumes", "Vec<Volume>", "The volumes that were changed."),
            (
                "notes",
                "?Vec<String>",
                "What is told beside that, as of a snapshot mirror that was not finished.",
            ),
        ],
    ),
    ("ChangedTasks", "Changed", &[("tasks", "Vec<TaskRow>", "The tasks as they are now.")]),
    ("CutSnapshots", "Cut", &[("snapshots", "Vec<SnapshotRow>", "The snapshot volumes.")]),
    (
        "PlanAndRestored",
        "",
        &[
            ("plan", "Option<RestoringRow>", "What was about to be overwritten."),
            ("restored", "Restored", "What was done."),
        ],
    ),
    (
        "Foreseen",
        "",
        &[
            ("foreseen", "Vec<ForeseenRow>", "What would be done, in order."),
            ("changed", "bool", "False: nothing was."),
        ],
    ),
    ("UndoArchives", "", &[("undo_archives", "Vec<UndoRow>", "The undo archives.")]),
    ("Snapshots", "", &[("volumes", "Vec<Parted>", "The volumes that have snapshots, or are some.")]),
    (
        "Parted",
        "",
        &[
            ("volume", "Name", "The volume."),
            ("length_bytes", "u64", "Its length."),
            ("parts", "Vec<Part>", "Its snapshots, its origin, and its plexes that are behind."),
        ],
    ),
    ("VerifiedPlexes", "Verified", &[("differences", "Vec<DifferenceRow>", "Where they differ.")]),
    (
        "ScrubbedPlexes",
        "Scrubbed",
        &[("differences", "?Vec<DifferenceRow>", "Where they differed; absent when a task goes on with it.")],
    ),
    ("Counts", "", &[("volumes", "Vec<StatsRow>", "What each volume was asked for.")]),
    ("Tasks", "", &[("tasks", "Vec<TaskRow>", "The tasks.")]),
    (
        "Look",
        "Overview",
        &[
            ("span_ms", "u64", "Since the look before, in which the counts of volumes came."),
            ("volumes", "Vec<LookedAt>", "The volumes."),
            ("tasks", "Vec<TaskRow>", "The tasks."),
        ],
    ),
    (
        "LookedAt",
        "Volume",
        &[
            ("counts", "Option<IoCounts>", "What it was asked for in that span."),
            ("maps", "Vec<Map>", "Its maps."),
        ],
    ),
    (
        "Map",
        "",
        &[
            (
                "map",
                "Any",
                "Which it is: `written` (where writes may be under way or unflushed), or `{\"behind\": PLEX}` (what it lacks), or \
             `{\"since\": SNAPSHOT}` (what was written since its cut).",
            ),
            (
                "percent",
                "Vec<u8>",
                "Of each of equal parts of the volume, in order, how much is marked; at least 1 where anything is.",
            ),
        ],
    ),
    (
        "StatusOfAll",
        "Overview",
        &[
            ("volumes", "Vec<Cared>", "The volumes."),
            ("space", "Vec<SpaceRow>", "File systems below state directories and media."),
            ("tasks", "Vec<TaskRow>", "Tasks that have not ended."),
            ("events", "Vec<Happening>", "The last events."),
        ],
    ),
    (
        "Cared",
        "Volume",
        &[
            ("health", "?Health", "How it is."),
            ("reasons", "?Vec<String>", "Why it is not `ok`, the worst first."),
        ],
    ),
    ("Events", "", &[("events", "Vec<Happening>", "What happened, the oldest first.")]),
    (
        "Checks",
        "",
        &[("level", "Level", "The worst of all."), ("checks", "Vec<Finding>", "What was looked at.")],
    ),
    ("DaemonStatus", "Status", &[("notes", "Vec<String>", "What the administrator should know.")]),
    (
        "Upgraded",
        "",
        &[
            ("from", "String", "The version before."),
            ("to", "String", "The version now."),
            ("pid_before", "u32", "The process before."),
            ("pid", "u32", "The process now."),
            ("elapsed_ms", "u64", "How long nobody answered, at most."),
        ],
    ),
    (
        "Mounted",
        "",
        &[
            ("volume", "Name", "The volume."),
            ("device", "PathBuf", "Its device."),
            ("directory", "PathBuf", "Where it is mounted."),
            ("options", "String", "The options that it was mounted with."),
        ],
    ),
    (
        "Archived",
        "",
        &[
            ("source", "PathBuf", "What was copied."),
            ("file", "PathBuf", "The archive."),
            ("bytes", "u64", "Bytes of the source."),
            ("archive_bytes", "u64", "Bytes of the archive."),
            ("blake3", "String", "The archive's checksum of the data."),
            ("elapsed_ms", "u64", "How long it took."),
        ],
    ),
    (
        "CheckedArchive",
        "",
        &[
            ("file", "PathBuf", "The archive."),
            ("compared_with", "Option<PathBuf>", "What it was compared with."),
            ("bytes", "u64", "Bytes of the data."),
            ("blake3", "String", "The checksum of the data."),
            ("elapsed_ms", "u64", "How long it took."),
        ],
    ),
    (
        "Unarchived",
        "",
        &[
            ("file", "PathBuf", "The archive."),
            (
                "target",
                "Option<PathBuf>",
                "Where the data are; none for standard output. The document is on standard error then.",
            ),
            ("bytes", "u64", "Bytes of the data."),
            ("blake3", "String", "The checksum of the data."),
            ("elapsed_ms", "u64", "How long it took."),
        ],
    ),
    ("Pages", "", &[("pages", "Vec<PathBuf>", "The pages that were written.")]),
];

/// The document of each command: its words, of which those behind the verb stand anywhere in the line.
const DOCUMENTS: &[(&str, &[&str])] = &[
    (
        "Changed",
        &[
            "group create",
            "group add",
            "group remove",
            "group destroy",
            "plex convert",
            "plex detach",
            "plex offline",
            "set",
            "snapclear",
            "undo --delete",
            "scrub --every",
            "task throttle",
            "daemon stop",
            "stat --reset",
        ],
    ),
    ("Exported", &["group export"]),
    ("Moved", &["group moved"]),
    ("ChangedVolumes", &["group import", "group restore", "start", "stop", "recover"]),
    ("ChangedTasks", &["task pause", "task resume", "task abort"]),
    ("Groups", &["group list", "vxdg list"]),
    ("MadeVolume", &["make", "adopt"]),
    ("Attached", &["mirror", "snapstart", "snapwait", "plex attach", "plex online", "plex replace"]),
    ("Removed", &["rm", "remove-mirror", "snapabort"]),
    ("Released", &["release"]),
    ("Resized", &["resize"]),
    ("Volumes", &["list"]),
    ("VolumesAndTasks", &["show"]),
    ("Records", &["print", "vxprint"]),
    ("CutSnapshots", &["snapshot"]),
    ("Returned", &["snapback"]),
    ("PlanAndRestored", &["restore", "undo"]),
    ("RestoringRow", &["restore --dry-run", "undo --dry-run"]),
    ("UndoArchives", &["undo --list"]),
    ("Snapshots", &["snapprint"]),
    ("VerifiedPlexes", &["verify"]),
    ("ScrubbedPlexes", &["scrub"]),
    ("Counts", &["stat", "vxstat"]),
    ("Look", &["top"]),
    ("Tasks", &["task list", "task watch", "vxtask list"]),
    ("StatusOfAll", &["status"]),
    ("Checks", &["doctor"]),
    ("Forced", &["force-stop"]),
    ("Events", &["events"]),
    ("Happening", &["events --follow"]),
    ("DaemonStatus", &["daemon status"]),
    ("Upgraded", &["daemon upgrade"]),
    ("Mounted", &["mount"]),
    ("Archived", &["archive"]),
    ("CheckedArchive", &["archive --check"]),
    ("Unarchived", &["unarchive"]),
    ("Text", &["dump", "group save", "completions", "manual"]),
    ("Pages", &["manual --to"]),
];

/// A field of a document.
#[derive(Clone, Debug)]
struct Field {
    name: String,
    /// As in the source, without what wraps it.
    kind: String,
    list: bool,
    /// Whether it may be null.
    null: bool,
    /// Whether it may be missing.
    absent: bool,
    meaning: String,
}

/// All that is described, and the words that enumerations have.
pub struct Described {
    structures: BTreeMap<String, Vec<Field>>,
    words: BTreeMap<String, Vec<String>>,
}

fn source(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// A type without what wraps it: its name, whether it is a list, whether it is optional.
fn unwrapped(kind: &str) -> (String, bool, bool) {
    let inside = |kind: &str, what: &str| {
        kind.strip_prefix(what)?.strip_prefix('<')?.strip_suffix('>').map(str::to_owned)
    };
    if let Some(kind) = inside(kind, "Option") {
        let (kind, list, _) = unwrapped(&kind);
        return (kind, list, true);
    }
    if let Some(kind) = inside(kind, "Vec") {
        return (unwrapped(&kind).0, true, false);
    }
    (inside(kind, "Box").unwrap_or_else(|| kind.to_owned()), false, false)
}

/// The fields of a structure in a source, those of what is flattened into it among them.
fn fields_of(text: &str, name: &str) -> Vec<Field> {
    let begin = [format!("struct {name} {{\n"), format!("struct {name}<'a> {{\n")];
    let body = begin.iter().find_map(|begin| text.split_once(begin.as_str()));
    let body = body.unwrap_or_else(|| panic!("there is no {name}")).1.split_once("\n}").unwrap().0;
    let (mut meaning, mut absent, mut flat) = (String::new(), false, false);
    let mut fields = Vec::new();
    for line in body.lines().map(str::trim) {
        if let Some(said) = line.strip_prefix("///") {
            meaning += said;
        } else if line.starts_with("#[") {
            absent |= line.contains("skip_serializing_if");
            flat |= line.contains("flatten");
        } else if let Some((field, kind)) = line.trim_end_matches(',').split_once(": ") {
            let meaning = std::mem::take(&mut meaning).trim().to_owned();
            assert!(!meaning.is_empty(), "{name}: nothing is said of {field}");
            if std::mem::take(&mut flat) {
                fields.extend(fields_of(text, kind));
                continue;
            }
            let (kind, list, optional) = unwrapped(kind);
            let absent = std::mem::take(&mut absent);
            let field = field.rsplit(' ').next().unwrap().to_owned();
            fields.push(Field { name: field, kind, list, null: optional && !absent, absent, meaning });
        }
    }
    fields
}

/// The words of each enumeration of words.rs.
fn words() -> BTreeMap<String, Vec<String>> {
    let text = source("src/control/words.rs");
    let mut found = BTreeMap::new();
    for block in text.split("\nwords! {\n").skip(1) {
        let block = block.split_once("\n}\n").unwrap().0;
        let head = block.lines().find(|line| line.ends_with(" {")).unwrap();
        let words =
            block.lines().filter_map(|line| Some(line.split_once(" = \"")?.1.split_once('"')?.0.to_owned()));
        found.insert(head.trim_end_matches('{').trim().to_owned(), words.collect());
    }
    assert!(found.len() > 8, "{found:?}");
    found.insert("Level".to_owned(), ["ok", "note", "warn", "fail"].map(str::to_owned).into());
    found.insert("Severity".to_owned(), ["info", "warning", "error"].map(str::to_owned).into());
    found
}

/// As people call it: `volumes and tasks`.
fn title(name: &str) -> String {
    let mut text = String::new();
    for letter in name.strip_suffix("Row").unwrap_or(name).chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// Times of day among what is counted in milliseconds.
const TIMES_OF_DAY: [&str; 4] = ["taken_ms", "time_ms", "began_ms", "ended_ms"];

fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next().unwrap() {
        "bytes" => "bytes",
        "ms" if TIMES_OF_DAY.contains(&name) => "ms since 1970 (UTC)",
        "ms" => "ms",
        "us" => "µs",
        "s" => "s",
        "percent" => "%",
        _ => "",
    }
}

impl Described {
    /// Reads the sources.
    pub fn new() -> Self {
        let mut structures = BTreeMap::new();
        for (file, names) in STRUCTURES {
            let text = source(file);
            for name in *names {
                structures.insert((*name).to_owned(), fields_of(&text, name));
            }
        }
        let mut rest: Vec<_> = MADE.iter().collect();
        while !rest.is_empty() {
            let before = rest.len();
            rest.retain(|(name, of, own)| {
                let Some(mut fields) =
                    (if of.is_empty() { Some(Vec::new()) } else { structures.get(*of).cloned() })
                else {
                    return true;
                };
                fields.extend(own.iter().map(|(name, kind, meaning)| {
                    let absent = kind.starts_with('?');
                    let (kind, list, null) = unwrapped(kind.trim_start_matches('?'));
                    Field {
                        name: (*name).to_owned(),
                        kind,
                        list,
                        null,
                        absent,
                        meaning: (*meaning).to_owned(),
                    }
                }));
                structures.insert((*name).to_owned(), fields);
                false
            });
            assert!(rest.len() < before, "{rest:?} are made of what is not there");
        }
        Self { structures, words: words() }
    }

    /// The document of a command line, without `cleave` and `vx`.
    fn document_of(line: &str) -> &'static str {
        let line = line.strip_prefix("vx ").unwrap_or(line);
        let fits = |pattern: &str| {
            let verb = pattern.split(" --").next().unwrap();
            let options = pattern.split_whitespace().filter(|word| word.starts_with("--"));
            let is_verb =
                line.strip_prefix(verb).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
            let of_applet = verb.starts_with("vx")
                && verb.split(' ').all(|word| line.split(' ').any(|typed| typed == word));
            (is_verb || of_applet)
                && options.into_iter().all(|option| line.split(' ').any(|word| word == option))
        };
        let all = DOCUMENTS
            .iter()
            .flat_map(|(name, patterns)| patterns.iter().map(move |pattern| (*name, *pattern)));
        let found = all.filter(|(_, pattern)| fits(pattern)).max_by_key(|(_, pattern)| pattern.len());
        found.unwrap_or_else(|| panic!("no document is described for: {line}")).0
    }

    /// The documents of commands.
    pub fn documents() -> impl Iterator<Item = &'static str> {
        DOCUMENTS.iter().map(|(name, _)| *name)
    }

    /// Holds a real document of a command line against its description: it has these fields, and none beside them. Gives back
    /// what the document is called.
    #[track_caller]
    pub fn check(&self, line: &str, document: &Value) -> &'static str {
        let name = match document.get("results") {
            Some(results) => {
                for each in results.as_array().unwrap() {
                    self.check_as(line, Self::document_of(line), each);
                }
                "Results"
            }
            None if line.contains("--dry-run") && document.get("foreseen").is_some() => "Foreseen",
            None => Self::document_of(line),
        };
        self.check_as(line, name, document);
        name
    }

    /// Holds the document of an error against its description.
    #[track_caller]
    pub fn check_error(&self, document: &Value) {
        self.check_as("an error", "Error", document);
    }

    #[track_caller]
    fn check_as(&self, place: &str, name: &str, value: &Value) {
        let Some(fields) = self.structures.get(name) else {
            let fits = match name {
                "Any" => true,
                "u8" | "u16" | "u32" | "u64" => value.is_u64(),
                "bool" => value.is_boolean(),
                "(u8, u8)" => {
                    value.as_array().is_some_and(|pair| pair.len() == 2 && pair.iter().all(Value::is_u64))
                }
                _ => match (value.as_str(), self.words.get(name)) {
                    (Some(word), Some(words)) => words.iter().any(|known| known == word),
                    (text, None) => text.is_some(),
                    (None, Some(_)) => false,
                },
            };
            assert!(fits, "{place}: {value} is no {name}");
            return;
        };
        let object = value.as_object().unwrap_or_else(|| panic!("{place}: {value} is no {name}"));
        for key in object.keys() {
            assert!(
                fields.iter().any(|field| field.name == *key),
                "{place}: nothing is said of {key}, in {name}"
            );
        }
        for field in fields {
            let place = format!("{place}, {}", field.name);
            match object.get(&field.name) {
                None => assert!(field.absent, "{place}: missing, in {name}"),
                Some(Value::Null) => assert!(field.null, "{place}: null, in {name}"),
                Some(Value::Array(values)) if field.list => {
                    values.iter().for_each(|value| self.check_as(&place, &field.kind, value));
                }
                Some(value) => {
                    assert!(!field.list, "{place}: no list, in {name}");
                    self.check_as(&place, &field.kind, value);
                }
            }
        }
    }

    /// How a type is written in the page.
    fn kind(&self, field: &Field) -> String {
        let one = match field.kind.as_str() {
            "Any" => "any".to_owned(),
            "u8" | "u16" | "u32" | "u64" => "number".to_owned(),
            "(u8, u8)" => "two numbers".to_owned(),
            "bool" => "true or false".to_owned(),
            name if self.structures.contains_key(name) => {
                let title = title(name);
                format!("[{title}](#document-{})", title.replace(' ', "-"))
            }
            name => match self.words.get(name) {
                Some(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" "),
                None => "text".to_owned(),
            },
        };
        let many = if field.list { format!("list of {one}") } else { one };
        match (field.absent, field.null) {
            (true, _) => format!("{many}, or absent"),
            (_, true) => format!("{many}, or null"),
            _ => many,
        }
    }

    /// The part of the reference.
    pub fn page(&self) -> String {
        let mut text = String::from("| command | document |\n| --- | --- |\n");
        let link = |name: &str| {
            let title = title(name);
            format!("[{title}](#document-{})", title.replace(' ', "-"))
        };
        for (name, patterns) in DOCUMENTS {
            let commands: Vec<String> = patterns
                .iter()
                .map(|pattern| match pattern.starts_with("vx") {
                    true => format!("`{pattern}`"),
                    false => format!("`cleave {pattern}`"),
                })
                .collect();
            text += &format!("| {} | {} |\n", commands.join(", "), link(name));
        }
        text += &format!("| any verb with `--dry-run`, but for restore and undo | {} |\n", link("Foreseen"));
        text += &format!("| any verb that is given several objects | {} |\n", link("Results"));
        text += &format!("| any that is refused | {}, on standard error |\n", link("Error"));
        for (name, fields) in self.structures.iter().filter(|(name, _)| self.is_used(name)) {
            text += &format!(
                "\n### document: {}\n\n| field | what | unit | meaning |\n| --- | --- | --- | --- |\n",
                title(name)
            );
            for field in fields {
                let meaning = linkless(&field.meaning).replace('|', "\\|");
                text += &format!(
                    "| `{}` | {} | {} | {meaning} |\n",
                    field.name,
                    self.kind(field),
                    unit(&field.name)
                );
            }
        }
        text
    }

    /// Whether a document is one, or has a field that is.
    fn is_used(&self, name: &str) -> bool {
        let is_document = DOCUMENTS.iter().any(|(document, _)| *document == name);
        let others = self.structures.iter().filter(|(other, _)| *other != name);
        is_document
            || ["Error", "Results", "Foreseen"].contains(&name)
            || others.flat_map(|(_, fields)| fields).any(|field| field.kind == name)
    }
}

/// `[`Kind::Ok`]` as `Kind::Ok`: what the source links to is not in the page.
fn linkless(meaning: &str) -> String {
    meaning.replace("[`", "`").replace("`]", "`")
}
