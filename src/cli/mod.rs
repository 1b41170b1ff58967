//! Words typed to requests, replies to tables and progress, error kinds to exit codes.
//!
//! A command line becomes a [`Plan`] first, without touching anything: tests read plans as values. Then the plan runs: it
//! asks the daemon, or does by itself what needs no daemon (archives, mounting). The program answers to `cleave` and, by
//! the name it is called with, to VxVM's `vxassist`, `vxdg`, `vxedit`, `vxmend`, `vxplex`, `vxprint`, `vxrecover`, `vxstat`, `vxtask` and `vxvol` ([`vx`]).
//!
//! # Promises
//! - Results go to standard output, progress and errors to standard error. With `--json` exactly one JSON document is the
//!   result and exactly one is the error, with stable field names.
//! - An error is one line: object, reason, way out. The exit code tells its [`Kind`](crate::base::Kind).
//! - No wait on the daemon is without limit as long as the daemon is silent.
//!
//! This room never learns of devices, formats or the daemon's files.

pub mod answer;
pub mod archive;
pub mod args;
pub mod cleaved;
pub mod complete;
pub mod hooks;
pub mod in_turn;
pub mod offline;
pub mod plan;
pub mod progress;
pub mod screen;
pub mod session;
pub mod verbs;
pub mod vx;
pub mod words;

use crate::base::{Kind, Refused};
use answer::Answer;
use plan::{Action, Options, Plan, Voice, Watch};
use progress::Progress;
use std::ffi::OsString;

/// Runs the command line `argv`, the program's name included, and returns the exit code.
#[must_use]
pub fn run(argv: &[OsString]) -> u8 {
    let words = match words::utf8(argv) {
        Ok(words) => words,
        Err(refusal) => return Options::default().refuse(&refusal),
    };
    match plan(&words) {
        Ok(plan) => {
            let Plan { options, action } = plan;
            match carry_out(&options, action) {
                Ok(answer) => options.print(&answer),
                Err(refusal) => options.refuse(&refusal),
            }
        }
        Err((options, refusal)) => options.refuse(&refusal),
    }
}

/// What the words ask for.
///
/// # Errors
/// The refusal, with the options as far as they are known, because they say how it is to be shown.
pub fn plan(argv: &[String]) -> Result<Plan, (Options, Refused)> {
    let called = argv.first().map_or("cleave", String::as_str);
    let name = called.rsplit('/').next().unwrap_or(called);
    match vx::Applet::from_name(name) {
        Some(applet) => vx::plan(applet, argv.get(1..).unwrap_or_default()),
        None => match argv.get(1).map(String::as_str) {
            Some("vx") => vx::plan_named(argv.get(2..).unwrap_or_default()),
            Some("complete") => Ok(complete::plan(argv.get(2..).unwrap_or_default())),
            _ => args::plan(argv),
        },
    }
}

fn carry_out(options: &Options, action: Action) -> Result<Answer, Refused> {
    let mut progress = Progress::new(options);
    match action {
        Action::Print(text) => Ok(Answer::text(text)),
        Action::Ask { requests, watch, show } => {
            show(session::ask(options, &requests, watch, &mut progress)?)
        }
        Action::Hooked(work) => work.run(options, &mut progress),
        Action::InTurn(work) => work.run(options, &mut progress),
        Action::Anyway { request, verb, words, show } => {
            match session::ask(options, std::slice::from_ref(&request), Watch::Progress, &mut progress) {
                Ok(mut answers) => show(answers.remove(0)),
                Err(refused) if matches!(refused.kind, Kind::DaemonDown | Kind::DaemonTalk) => {
                    show(offline::ask(options, verb, &words)?)
                }
                Err(refused) => Err(refused),
            }
        }
        Action::Offline { verb, words } => offline::text(options, verb, &words).map(Answer::text),
        Action::Upgrade(work) => work.run(options),
        Action::Archive(work) => work.run(&mut progress),
        Action::Mount(work) => work.run(),
        Action::Stat(work) => work.run(options, &mut progress),
        Action::Top(work) => work.run(options, &mut progress),
        Action::Complete(work) => Ok(work.run(options)),
        Action::Doctor(work) => Ok(work.run(options)),
        Action::Manual(directory) => verbs::manual::write(&directory),
    }
}

impl Options {
    /// Whether errors and results are in the form of a VxVM command.
    #[must_use]
    pub fn is_applet(&self) -> bool {
        matches!(self.voice, Voice::Applet(_))
    }
}
