//! Building the test programs, and running one of them until its first test fails.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use cleave::base::museum::Exhibit;

use crate::{LIMIT, Suite};

/// A test program of the package.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Program {
    /// The library's own tests.
    Library,
    /// Those of a file or folder below `tests`.
    Test(&'static str),
}

/// The built programs.
pub type Programs = HashMap<Program, PathBuf>;

/// A test that failed.
#[derive(Clone, Debug)]
pub struct Find {
    /// Its name.
    pub test: String,
    /// Since the start of its suite.
    pub after: Duration,
    /// The seed that it told.
    pub seed: Option<u64>,
}

/// How a suite ended.
pub enum Outcome {
    /// All tests passed.
    Passed {
        /// How many.
        tests: u32,
    },
    /// A test failed.
    Found(Find),
    /// None had failed at the time limit.
    TimedOut,
    /// The program could not be run, or ended without a failed test.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { tests } => write!(f, "{tests} tests passed"),
            Self::Found(find) => write!(f, "{} failed", find.test),
            Self::TimedOut => f.write_str("no end in sight"),
            Self::Failed(what) => f.write_str(what),
        }
    }
}

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// Build the test programs with the museum open.
pub fn build(programs: impl Iterator<Item = Program>) -> Result<Programs, String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(PACKAGE).stderr(Stdio::inherit());
    command.args([
        "test",
        "--quiet",
        "--locked",
        "--features",
        "museum",
        "--no-run",
        "--message-format",
        "json",
    ]);
    let mut wanted: Vec<Program> = programs.collect();
    wanted.dedup();
    for program in &wanted {
        match program {
            Program::Library => command.arg("--lib"),
            Program::Test(name) => command.args(["--test", name]),
        };
    }
    let output = command.output().map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("the test programs cannot be built: {}", output.status));
    }
    let mut built = Programs::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
        let Some(executable) = message["executable"].as_str() else { continue };
        let name = message["target"]["name"].as_str().unwrap_or_default();
        let is_test =
            message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
        let found = wanted.iter().find(|program| match program {
            Program::Library => !is_test && message["target"]["kind"][0] == "lib",
            Program::Test(test) => is_test && *test == name,
        });
        if let Some(program) = found {
            built.insert(*program, executable.into());
        }
    }
    match wanted.iter().find(|program| !built.contains_key(program)) {
        Some(missing) => Err(format!("cargo built no program for {missing:?}")),
        None => Ok(built),
    }
}

enum Line {
    Out(String),
    Err(String),
}

/// Send each line of `from`; what is not text is made so.
fn read(from: impl Read + Send + 'static, lines: Sender<Line>, kind: fn(String) -> Line) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            // Nobody listens any more once a failure was found.
            if lines.send(kind(String::from_utf8_lossy(&line).into_owned())).is_err() {
                break;
            }
        }
    });
}

/// Run `suite`, with `exhibit` shown, until its first test fails or `limit` is over.
pub fn run(programs: &Programs, suite: &Suite, exhibit: Option<Exhibit>, limit: Duration) -> Outcome {
    let mut command = command(programs, suite, exhibit);
    // Each result on a line of its own, and what a failed test says at once.
    command.args(suite.tests).args(["--test-threads", "2", "--nocapture"]);
    if let (Some((name, value)), Some(_)) = (suite.endless, exhibit) {
        command.env(name, value);
    }
    let began = Instant::now();
    let mut child = match command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return Outcome::Failed(format!("cannot be run: {error}")),
    };
    let (lines, told) = channel();
    read(child.stdout.take().expect("a pipe was asked for"), lines.clone(), Line::Out);
    read(child.stderr.take().expect("a pipe was asked for"), lines, Line::Err);
    // Failures that did not come again: a test with a time limit may fail on a busy machine, whatever is shown.
    let doubtful = Cell::new(0);
    let confirm = |find: &Find| {
        let failed = |shown| alone(programs, suite, &find.test, find.seed, shown).is_some_and(|it| it.failed);
        let sure = match exhibit {
            None => failed(None),
            // A test that draws its cases may be lucky once.
            Some(_) => !failed(None) && (0..3).any(|_| failed(exhibit)),
        };
        doubtful.set(doubtful.get() + u32::from(!sure));
        sure
    };
    let outcome = listen(&told, began, limit, suite.endless.is_some(), confirm);
    // It has ended already, or is not needed any more.
    let _ = child.kill();
    let status = child.wait();
    outcome.unwrap_or_else(|tests| match status {
        Ok(status) if status.success() || doubtful.get() > 0 => {
            Outcome::Passed { tests: tests + doubtful.get() }
        }
        Ok(status) => Outcome::Failed(format!("the test program ended: {status}")),
        Err(error) => Outcome::Failed(format!("the test program is lost: {error}")),
    })
}

/// How it went; an error is the number of tests that had passed when the program closed its output. A failure counts when
/// `confirm` says so.
fn listen(
    told: &Receiver<Line>,
    began: Instant,
    limit: Duration,
    draws: bool,
    confirm: impl Fn(&Find) -> bool,
) -> Result<Outcome, u32> {
    let (mut passed, mut seed) = (0, None);
    let mut found: Option<Find> = None;
    loop {
        let wait = match &found {
            // What is told on the other pipe may come a moment later.
            Some(_) => Duration::from_millis(100),
            None => limit.saturating_sub(began.elapsed()),
        };
        match told.recv_timeout(wait) {
            Ok(Line::Out(line)) => match line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
            {
                Some((_, result)) if result.starts_with("ok") => passed += 1,
                Some((test, "FAILED")) if found.is_none() => {
                    found = Some(Find { test: test.to_owned(), after: began.elapsed(), seed: None });
                }
                Some(_) | None => {}
            },
            Ok(Line::Err(line)) if draws => seed = seed_in(&line).or(seed),
            Ok(Line::Err(_)) => {}
            Err(end) => match (found.take(), end) {
                (Some(find), _) => {
                    let find = Find { seed, ..find };
                    if confirm(&find) {
                        return Ok(Outcome::Found(find));
                    }
                }
                (None, RecvTimeoutError::Timeout) => return Ok(Outcome::TimedOut),
                (None, RecvTimeoutError::Disconnected) => return Err(passed),
            },
        }
    }
}

/// How one test ended by itself.
pub struct Alone {
    /// Whether it failed.
    pub failed: bool,
    /// How long it took.
    pub took: Duration,
}

/// Run one test, with `exhibit` shown; none when it does not end or cannot be run.
pub fn alone(
    programs: &Programs,
    suite: &Suite,
    test: &str,
    seed: Option<u64>,
    exhibit: Option<Exhibit>,
) -> Option<Alone> {
    let mut command = command(programs, suite, exhibit);
    command.args([test, "--exact"]).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(seed) = seed {
        command.env("CLEAVE_SEED", seed.to_string());
    }
    let began = Instant::now();
    let mut child = command.spawn().ok()?;
    while began.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().ok()? {
            return Some(Alone { failed: !status.success(), took: began.elapsed() });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // It does not end by itself.
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// The test program of `suite`, to be run with `exhibit` shown.
fn command(programs: &Programs, suite: &Suite, exhibit: Option<Exhibit>) -> Command {
    let mut command = Command::new(&programs[&suite.program]);
    command.current_dir(PACKAGE).stdin(Stdio::null());
    command.env("CLEAVE_MUSEUM", exhibit.map_or("", Exhibit::name));
    // A failure is told and not made smaller, and leaves nothing for the next run to begin with.
    command.env("PROPTEST_MAX_SHRINK_ITERS", "0").env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    command
}

/// The seed in a line that says how to see a failure again.
fn seed_in(line: &str) -> Option<u64> {
    let rest = line.split_once("CLEAVE_SEED=")?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
