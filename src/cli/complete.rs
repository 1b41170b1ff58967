//! `cleave complete WORD...`: what the shells' completions ask for the names that only the daemon knows. The words are those of
//! the line up to the cursor, the program's own left out, the last one as far as it is typed.
//!
//! It is for scripts alone and stands in no help. It prints a line for each name that could stand there, and nothing where there
//! is none, where the daemon does not run, or takes longer than a second: whoever presses a key wants no error.

use super::answer::Answer;
use super::args;
use super::plan::{Action, Options, Plan};
use super::words;
use crate::base::Name;
use crate::control::client::{Heard, Limits};
use crate::control::request::{Query, TaskList};
use crate::control::{Client, Request, Row, socket_path};
use clap::{Arg, Command};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long the daemon is waited for in all.
const LIMIT: Duration = Duration::from_millis(800);

/// What a word names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Group,
    Volume,
    /// A volume that is a snapshot.
    Snapshot,
    Plex,
    Medium,
    Task,
}

/// The names that are wanted.
#[derive(PartialEq, Eq, Debug)]
pub struct CompleteWork {
    kinds: &'static [Kind],
    /// What asks for them.
    pub request: Request,
    /// What of the last word stays as it is: `--media=m1,`.
    stays: String,
    /// What the names begin with.
    begun: String,
}

/// What `typed` asks for.
#[must_use]
pub fn plan(typed: &[String]) -> Plan {
    let mut options = Options { quiet: true, ..Options::default() };
    let action = match Line::read(typed, &mut options).and_then(|line| line.work(&options)) {
        Some(work) => Action::Complete(work),
        None => Action::Print(String::new()),
    };
    Plan { options, action }
}

impl CompleteWork {
    /// The names, a line each; none is no error.
    #[must_use]
    pub fn run(self, options: &Options) -> Answer {
        let Self { kinds, request, stays, begun } = self;
        let path = socket_path(options.socket.as_deref());
        let (sender, answer) = mpsc::channel();
        // A daemon that goes on telling that it is alive is not waited for either: the thread ends with the program.
        thread::spawn(move || {
            let limits = Limits { frame: LIMIT, silence: LIMIT };
            let mut rows = Vec::new();
            let told = Client::connect(&path, limits).and_then(|mut client| {
                client.call(&request, |heard| {
                    if let Heard::Row(row) = heard {
                        rows.push(row);
                    }
                })
            });
            // Nobody waits any more when it came too late.
            let _ = sender.send(told.map(|_| rows));
        });
        let rows = answer.recv_timeout(LIMIT).ok().and_then(Result::ok).unwrap_or_default();
        let fitting = rows.iter().filter_map(|row| name(kinds, row)).filter(|name| name.starts_with(&begun));
        Answer::text(fitting.map(|name| format!("{stays}{name}\n")).collect::<String>())
    }
}

/// The name that `row` has for one of `kinds`.
fn name(kinds: &[Kind], row: &Row) -> Option<String> {
    let wanted = |kind| kinds.contains(&kind);
    match row {
        Row::Group(group) if wanted(Kind::Group) => Some(group.group.to_string()),
        Row::Medium(medium) if wanted(Kind::Medium) => Some(medium.medium.to_string()),
        Row::Volume(volume) if wanted(Kind::Volume) => Some(volume.volume.to_string()),
        Row::Volume(volume) if wanted(Kind::Snapshot) && volume.snapshot.is_some() => {
            Some(volume.volume.to_string())
        }
        Row::Plex(plex) if wanted(Kind::Plex) => Some(plex.plex.to_string()),
        Row::Task(task) if wanted(Kind::Task) && !task.state.ended() => Some(task.task.to_string()),
        _ => None,
    }
}

/// What stands before the cursor.
struct Line {
    kinds: &'static [Kind],
    stays: String,
    begun: String,
}

impl Line {
    /// Goes through the words as clap would: options and their values, verbs, and what they are about. None where no name can
    /// stand.
    fn read(typed: &[String], options: &mut Options) -> Option<Self> {
        let (last, before) = typed.split_last()?;
        let mut root = args::command();
        root.build();
        let mut verb = &root;
        let mut path = String::new();
        // How many words there were that are neither an option, its value, nor a verb.
        let mut operands = 0;
        let mut ended = false;
        let mut option: Option<&Arg> = None;
        for word in before {
            if let Some(option) = option.take() {
                note(options, option, word);
            } else if !ended && word == "--" {
                ended = true;
            } else if !ended && word.starts_with('-') && word.len() > 1 {
                let (found, value) = option_of(verb, word);
                match (found, value) {
                    (Some(found), Some(value)) => note(options, found, value),
                    (found, _) => option = found,
                }
            } else if let Some(next) = verb.find_subcommand(word) {
                verb = next;
                path += &format!(" {}", next.get_name());
            } else {
                operands += 1;
            }
        }
        let split = |argument: &Arg, stays: &str, begun: &str| Self::new(&path, argument, stays, begun);
        if let Some(option) = option {
            return split(option, "", last);
        }
        if !ended && last.starts_with('-') {
            // Other options are words of the program, which the shell knows.
            let (name, value) = last.split_once('=')?;
            let (found, _) = option_of(verb, name);
            return split(found?, &format!("{name}="), value);
        }
        if verb.has_subcommands() {
            return None;
        }
        let positional = verb.get_positionals().nth(operands).or_else(|| {
            let last = verb.get_positionals().last()?;
            let many = |argument: &&Arg| argument.get_num_args().is_some_and(|count| count.max_values() > 1);
            Some(last).filter(many)
        });
        split(positional?, "", last)
    }

    fn new(verb: &str, argument: &Arg, stays: &str, begun: &str) -> Option<Self> {
        let kinds = kinds(verb, argument.get_id().as_str());
        // Media are listed with commas.
        let (listed, begun) = match begun.rfind(',') {
            Some(comma) if kinds == [Kind::Medium] => begun.split_at(comma + 1),
            _ => ("", begun),
        };
        (!kinds.is_empty()).then(|| Self {
            kinds,
            stays: format!("{stays}{listed}"),
            begun: begun.to_owned(),
        })
    }

    fn work(self, options: &Options) -> Option<CompleteWork> {
        let Self { kinds, stays, begun } = self;
        let request = match kinds.first()? {
            Kind::Group => Request::GroupList,
            Kind::Task => Request::TaskList(TaskList { group: options.group.clone() }),
            Kind::Volume | Kind::Snapshot | Kind::Plex | Kind::Medium => Request::Query(Query {
                group: Some(options.group()),
                objects: Vec::new(),
                media: kinds.contains(&Kind::Medium),
                tasks: false,
            }),
        };
        Some(CompleteWork { kinds, request, stays, begun })
    }
}

/// Takes note of the value of an option that says where to ask.
fn note(options: &mut Options, option: &Arg, value: &str) {
    match option.get_id().as_str() {
        "group" => options.group = Name::new(value).ok(),
        "socket" => options.socket = words::path(value).ok(),
        _ => {}
    }
}

/// The option of `verb` that `word` is, when it has a value, and the value when that stands in the word as well.
fn option_of<'a, 'b>(verb: &'a Command, word: &'b str) -> (Option<&'a Arg>, Option<&'b str>) {
    let has_value = |argument: &&Arg| argument.get_action().takes_values();
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let found = verb.get_arguments().find(|argument| argument.get_long() == Some(name));
        return (found.filter(has_value), value);
    }
    // A cluster of short ones: the first that has a value has what is left of the word.
    for (at, short) in word.char_indices().skip(1) {
        let found = verb.get_arguments().find(|argument| argument.get_short() == Some(short));
        if let Some(found) = found.filter(has_value) {
            let rest = &word[at + short.len_utf8()..];
            let rest = rest.strip_prefix('=').unwrap_or(rest);
            return (Some(found), Some(rest).filter(|rest| !rest.is_empty()));
        }
    }
    (None, None)
}

/// What the argument `id` of a verb names; nothing that is there where it is the name of what is to be made.
fn kinds(verb: &str, id: &str) -> &'static [Kind] {
    use Kind::{Group, Medium, Plex, Snapshot, Task, Volume};
    match (verb, id) {
        (" make" | " adopt", "volume") => &[],
        (" print", "objects") => &[Volume, Plex],
        (" group create" | " group import", _) => &[],
        (" group add", "media") => &[],
        (_, "group") => &[Group],
        (verb, "name") if verb.starts_with(" group ") => &[Group],
        (_, "volume" | "volumes" | "objects") => &[Volume],
        (" archive", "source") => &[Volume],
        (_, "snapshot" | "snapshots") => &[Snapshot],
        (_, "plex") | (" plex replace", "old") | (" start" | " scrub", "source") => &[Plex],
        (_, "media") => &[Medium],
        (_, "task") => &[Task],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of the line, the last one as far as it goes: empty behind a space.
    fn wanted(line: &str) -> Option<(CompleteWork, Options)> {
        let typed: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let Plan { options, action } = plan(&typed);
        match action {
            Action::Complete(work) => Some((work, options)),
            _ => None,
        }
    }

    #[test]
    fn what_could_stand_at_the_cursor_is_found_by_the_words_before_it() {
        use Kind::{Group, Medium, Plex, Snapshot, Task, Volume};
        let cases: &[(&str, &[Kind], &str, &str)] = &[
            ("snapback ", &[Snapshot], "", ""),
            ("snapback a t", &[Snapshot], "", "t"),
            ("snapback -n 2 t", &[Snapshot], "", "t"),
            ("snapback -an2 t", &[Snapshot], "", "t"),
            ("start --source ", &[Plex], "", ""),
            ("start --source v-01 ", &[Volume], "", ""),
            ("-g dg show x", &[Volume], "", "x"),
            ("show --group=dg x", &[Volume], "", "x"),
            ("show -gdg x", &[Volume], "", "x"),
            ("show -g d", &[Group], "", "d"),
            ("show --group=d", &[Group], "--group=", "d"),
            ("remove-mirror v ", &[Plex], "", ""),
            ("plex replace ", &[Plex], "", ""),
            ("mirror v --media m1,m", &[Medium], "m1,", "m"),
            ("mirror v --media=m1,m", &[Medium], "--media=m1,", "m"),
            ("print -- v", &[Volume, Plex], "", "v"),
            ("task pause ", &[Task], "", ""),
            ("rm v w x", &[Volume], "", "x"),
            ("group destroy ", &[Group], "", ""),
            ("group add d", &[Group], "", "d"),
        ];
        for (line, kinds, stays, begun) in cases {
            let (work, options) = wanted(line).unwrap_or_else(|| panic!("{line}: nothing"));
            assert_eq!(
                (work.kinds, work.stays.as_str(), work.begun.as_str()),
                (*kinds, *stays, *begun),
                "{line}"
            );
            let group = if line.contains("dg") { Some("dg") } else { None };
            assert_eq!(options.group.as_ref().map(Name::as_str), group, "{line}");
        }
        for line in [
            "",
            "sna",
            "make ",
            "make v ",
            "show -",
            "show --js",
            "verify v ",
            "remove-mirror v v-01 ",
            "plex ",
            "group create ",
            "frobnicate ",
            "set v ",
            "mirror v --plex ",
            "completions ",
        ] {
            assert!(wanted(line).is_none(), "{line}");
        }
        assert!(matches!(plan(&[]).action, Action::Print(text) if text.is_empty()));
    }
}
