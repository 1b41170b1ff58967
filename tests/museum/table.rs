//! The table of finds, printed and committed.

use std::fmt::{self, Write};

use cleave::base::museum::Exhibit;

use crate::LIMIT;
use crate::run::Find;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/museum.md");

/// What came of one exhibit.
pub struct Row {
    /// The exhibit.
    pub exhibit: Exhibit,
    /// The suite and the test that found it first.
    pub found: Option<(&'static str, Find)>,
    /// What the random worlds found by themselves.
    pub worlds: Option<Find>,
    /// Whether they were asked.
    pub worlds_asked: bool,
}

impl Row {
    /// Whether a suite found it in time.
    pub fn is_found(&self) -> bool {
        self.found.as_ref().is_some_and(|(_, find)| find.after <= LIMIT)
    }

    /// Its line in the committed table.
    fn line(&self) -> String {
        let (suite, test, after) = match &self.found {
            Some((suite, find)) => {
                let seed = find.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
                (*suite, format!("`{}`{seed}", find.test), format!("{:.1} s", find.after.as_secs_f64()))
            }
            None => ("", "**not found**".to_owned(), String::new()),
        };
        let (name, story, worlds) = (self.exhibit.name(), self.exhibit.story().trim(), self.worlds());
        format!("| {name} | {story} | {suite} | {test} | {after} | {worlds} |\n")
    }

    fn worlds(&self) -> String {
        match (&self.worlds, self.worlds_asked) {
            (None, false) => {
                let known = columns(self.exhibit).get(5).cloned().unwrap_or_default();
                if known.is_empty() { "not asked".to_owned() } else { known }
            }
            (Some(find), _) => match find.seed {
                Some(seed) => format!("seed {seed}, {:.1} s", find.after.as_secs_f64()),
                None => format!("{:.1} s", find.after.as_secs_f64()),
            },
            (None, true) => "no".to_owned(),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28} ", self.exhibit.name())?;
        match &self.found {
            Some((suite, find)) => {
                write!(f, "{:>5.1} s  {suite}: {}", find.after.as_secs_f64(), find.test)?;
                if let Some(seed) = find.seed {
                    write!(f, ", seed {seed}")?;
                }
            }
            None => f.write_str("NOT FOUND")?,
        }
        if self.worlds_asked { write!(f, "; random worlds: {}", self.worlds()) } else { Ok(()) }
    }
}

/// How `exhibit` was found when the committed table was made.
pub struct Known {
    /// The suite.
    pub suite: String,
    /// The test.
    pub test: String,
}

/// What the committed table says of `exhibit`.
pub fn known(exhibit: Exhibit) -> Option<Known> {
    let columns = columns(exhibit);
    let (suite, cell) = (columns.get(2)?, columns.get(3)?);
    let (test, _) = cell.strip_prefix('`')?.split_once('`')?;
    Some(Known { suite: suite.clone(), test: test.to_owned() })
}

/// The row of `exhibit` in the committed table; empty when it has none.
fn columns(exhibit: Exhibit) -> Vec<String> {
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    let start = format!("| {} |", exhibit.name());
    let row = text.lines().find(|line| line.starts_with(&start)).unwrap_or_default();
    row.split('|').skip(1).map(|cell| cell.trim().to_owned()).collect()
}

/// What of this kind cannot be shown, and why.
const ABSENT: [(&str, &str); 5] = [
    (
        "The log of dirty areas is not made anew when a device is resized",
        "No volume changes its length: there is no verb for it.",
    ),
    (
        "A read of a snapshot is overtaken by a write to its origin; a store of old blocks runs full in the middle of a \
         commit; a part of such a store that was never written is read after a reload",
        "There is no store of old blocks: a snapshot is a whole plex of its own, and its origin never writes to it. What is \
         left of the last, pages that are numbered wrongly after a reload, is `PageNumbersNotLoaded`.",
    ),
    (
        "The next increment after a restore from a replica leaves out what the restore brought",
        "There is no verb yet that brings a volume back from a replica. Whatever writes through a volume marks its maps: \
         `MarkedAfterWrite`, `DegradedWriteNotMarked`.",
    ),
    (
        "A cached write is overtaken by a direct one and brings old data back when it is flushed",
        "Plexes and state files are each opened once, for direct I/O where the file system has it, so there are no two ways \
         to one block inside Cleave. The same by the hand of a repair is `RepairBesideWrites`; the page cache above the \
         device is the kernel's.",
    ),
    (
        "Silent damage inside a copy, holes left out of a stream, copy tools that go on after a failed read, retention that \
         prunes too much, hostile archives, hung drivers",
        "Faults of parts that do not exist yet, or that lose no acknowledged write; they have tests of their own where \
         there is code.",
    ),
];

/// Make the committed table anew.
pub fn write(rows: &[Row]) {
    let mut text = String::from(
        "# The bug museum\n\n\
         Faults by which systems of this kind have lost data, each made again at one place of `src` behind the cargo feature \
         `museum`, and shown to the tests that everybody runs. This table was written by\n\
         `cargo test --features museum --test museum -- --worlds --write`; the seconds count from the start of the suite that \
         found the exhibit, on the machine where that was run. The last column is what the random worlds found by themselves \
         within 60 seconds.\n\n\
         | exhibit | what goes wrong | suite | test | after | random worlds alone |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut found = 0;
    for exhibit in Exhibit::ALL {
        let line = match rows.iter().find(|row| row.exhibit == *exhibit) {
            Some(row) => row.line(),
            None => format!("| {} |\n", columns(*exhibit).join(" | ").trim_end_matches(" | ")),
        };
        found += usize::from(line.contains(" s | "));
        text.push_str(&line);
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{found} of {} found, each within {} s.\n", Exhibit::ALL.len(), LIMIT.as_secs());
    text.push_str("## What is not shown\n\n| fault | why |\n| --- | --- |\n");
    for (fault, why) in ABSENT {
        let _ = writeln!(text, "| {fault} | {why} |");
    }
    std::fs::write(FILE, text).expect("the table can be written");
}
