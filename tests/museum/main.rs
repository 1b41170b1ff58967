//! The bug museum: shows each exhibit to the tests that everybody runs, and tells which of them finds it and how fast.
//!
//! `cargo test --features museum --test museum -- [--again] [--worlds] [--write] [EXHIBIT]...`
//!
//! No test is made for an exhibit: the suites below are the ordinary ones, each a process of its own that learns by
//! `CLEAVE_MUSEUM` what it shows. First they run with nothing shown, and all must pass. Then each exhibit is shown to one
//! suite after the other until a test fails; the suite that found it last (the committed table says which) goes first. It
//! has 60 seconds. A failure counts as a find when the test by itself fails again, and passes with nothing shown.
//!
//! `--worlds` also lets the random worlds look for each by themselves; `--write` makes the committed table anew, and keeps
//! what it says of worlds and exhibits that were not asked for. `--again` only runs, for each exhibit, the test that the
//! committed table names: it still has to fail; random worlds are drawn from the first seed on.

mod run;
mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cleave::base::museum::Exhibit;

use run::{Find, Outcome, Program, build, run};
use table::Row;

/// How long a suite may look for an exhibit.
const LIMIT: Duration = Duration::from_secs(60);

/// How long the suites may take when nothing is shown.
const ALL_TESTS: Duration = Duration::from_secs(1200);

/// Tests that run for everybody.
pub struct Suite {
    /// What the table calls it.
    name: &'static str,
    /// The target of the package that they belong to.
    program: Program,
    /// Which of that target's tests.
    tests: &'static [&'static str],
    /// What makes it go on until it is stopped, for a suite that draws its cases.
    endless: Option<(&'static str, &'static str)>,
}

/// The suites, the quick ones first. Another one is one more line.
const SUITES: [Suite; 6] = [
    Suite { name: "rules", program: Program::Test("model"), tests: &["--skip", "random::"], endless: None },
    Suite {
        name: "records",
        program: Program::Library,
        tests: &["state::", "catalog::", "format::"],
        endless: None,
    },
    Suite {
        name: "data path",
        program: Program::Library,
        tests: &["base::", "bitmap::", "volume::", "mover::"],
        endless: None,
    },
    Suite {
        name: "devices",
        program: Program::Library,
        tests: &["device::", "sim::", "ring::", "export::"],
        endless: None,
    },
    Suite { name: "media", program: Program::Test("ring"), tests: &[], endless: None },
    Suite {
        name: WORLDS,
        program: Program::Test("model"),
        tests: &["random::"],
        endless: Some(("CLEAVE_OPERATIONS", "1000000000")),
    },
];

/// The suite of random worlds.
const WORLDS: &str = "random worlds";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, names): (Vec<_>, Vec<_>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    if let Some(option) = options.iter().find(|option| !["--again", "--worlds", "--write"].contains(option)) {
        eprintln!("no option is called '{option}': use --again, --worlds or --write");
        return ExitCode::FAILURE;
    }
    if let Some(name) = names.iter().find(|name| Exhibit::ALL.iter().all(|exhibit| exhibit.name() != **name))
    {
        eprintln!("the museum has no exhibit '{name}'");
        return ExitCode::FAILURE;
    }
    let wanted: Vec<Exhibit> = Exhibit::ALL
        .iter()
        .copied()
        .filter(|exhibit| names.is_empty() || names.contains(&exhibit.name()))
        .collect();
    let programs = match build(SUITES.iter().map(|suite| suite.program)) {
        Ok(programs) => programs,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::FAILURE;
        }
    };
    let again = options.contains(&"--again");
    let mut good = again || !names.is_empty() || nothing_shown(&programs);
    let mut rows = Vec::new();
    for exhibit in wanted {
        let row = match again {
            true => show_again(&programs, exhibit),
            false => show(&programs, exhibit, options.contains(&"--worlds")),
        };
        println!("{row}");
        good &= row.is_found();
        rows.push(row);
    }
    let found = rows.iter().filter(|row| row.is_found()).count();
    println!("{found} of {} exhibits found, each within {} s", rows.len(), LIMIT.as_secs());
    if options.contains(&"--write") && !again {
        table::write(&rows);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether every suite passes when nothing is shown.
fn nothing_shown(programs: &run::Programs) -> bool {
    let mut good = true;
    for suite in &SUITES {
        let began = Instant::now();
        let outcome = run(programs, suite, None, ALL_TESTS);
        let passed = matches!(outcome, Outcome::Passed { .. });
        let seconds = began.elapsed().as_secs_f64();
        println!("nothing shown: {}: {outcome} after {seconds:.1} s", suite.name);
        good &= passed;
    }
    good
}

/// Show `exhibit` to the one test that the committed table names.
fn show_again(programs: &run::Programs, exhibit: Exhibit) -> Row {
    let mut row = Row { exhibit, found: None, worlds: None, worlds_asked: false };
    let Some(known) = table::known(exhibit) else { return row };
    let Some(suite) = SUITES.iter().find(|suite| suite.name == known.suite) else { return row };
    if suite.endless.is_some() {
        // Any change of the tree gives each seed another course: they are drawn anew.
        if let Outcome::Found(find) = run(programs, suite, Some(exhibit), LIMIT) {
            row.found = Some((suite.name, find));
        }
        return row;
    }
    // A test that draws its cases may be lucky once.
    let found = (0..3)
        .filter_map(|_| run::alone(programs, suite, &known.test, None, Some(exhibit)))
        .find(|alone| alone.failed);
    row.found = found.map(|alone| (suite.name, Find { test: known.test, after: alone.took, seed: None }));
    row
}

/// Let the suites look for `exhibit`.
fn show(programs: &run::Programs, exhibit: Exhibit, worlds: bool) -> Row {
    let hint = table::known(exhibit).map(|known| known.suite);
    let mut order: Vec<&Suite> = SUITES.iter().collect();
    order.sort_by_key(|suite| Some(suite.name) != hint.as_deref());
    let mut row = Row { exhibit, found: None, worlds: None, worlds_asked: worlds };
    for suite in order {
        if let Outcome::Found(find) = run(programs, suite, Some(exhibit), LIMIT) {
            row.found = Some((suite.name, find));
            break;
        }
    }
    if worlds {
        let suite = SUITES.iter().find(|suite| suite.name == WORLDS).expect("a suite of this table");
        row.worlds = match &row.found {
            Some((WORLDS, find)) => Some(find.clone()),
            _ => match run(programs, suite, Some(exhibit), LIMIT) {
                Outcome::Found(find) => Some(find),
                Outcome::Passed { .. } | Outcome::TimedOut | Outcome::Failed(_) => None,
            },
        };
    }
    row
}
