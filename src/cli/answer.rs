//! Results: one JSON document or a text, and the one line of an error.

use super::plan::{Options, Voice};
use crate::base::{Errno, Kind, Refusal, Refused};
use crate::control::Row;
use crate::control::request::default_group;
use crate::control::row::{PlexRow, VolumeRow};
use crate::control::words::PlexState;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};

/// What a verb ends with.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Answer {
    /// The document for `--json`.
    pub json: Value,
    /// The text, with its line ends.
    pub text: String,
    /// Whether the text is what was asked for, and is printed even when quiet.
    pub listing: bool,
    /// Whether the result goes to standard error, because standard output carries data.
    pub beside: bool,
    /// What a command of VxVM, which is silent otherwise, says all the same, on standard error: what was given up. In the text
    /// it stands as well.
    pub notices: Vec<String>,
    /// The exit code when nothing failed.
    pub code: u8,
    /// Members that failed; the first one chooses the exit code.
    pub failures: Vec<Refusal>,
}

impl Answer {
    /// The result of a verb that changes something: silent when quiet.
    #[must_use]
    pub fn done(json: Value, text: impl Into<String>) -> Self {
        Self { json, text: text.into(), ..Self::default() }
    }

    /// The result of a verb that shows something.
    #[must_use]
    pub fn listing(json: Value, text: impl Into<String>) -> Self {
        Self { listing: true, ..Self::done(json, text) }
    }

    /// A text as it is: help.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::listing(json!({ "text": text }), text)
    }

    /// Several results as one: their documents in a list `results`, unless there is just one.
    #[must_use]
    pub fn joined(mut answers: Vec<Self>) -> Self {
        if answers.len() == 1 {
            return answers.remove(0);
        }
        let mut all = Self { listing: answers.iter().any(|answer| answer.listing), ..Self::default() };
        let mut documents = Vec::new();
        for answer in answers {
            documents.push(answer.json);
            all.text += &answer.text;
            all.notices.extend(answer.notices);
            all.failures.extend(answer.failures);
        }
        all.json = json!({ "results": documents });
        all
    }

    /// The same, failing with `failure` after it was printed.
    #[must_use]
    pub fn failing(mut self, failure: Refusal) -> Self {
        self.failures.push(failure);
        self
    }
}

/// `value` as JSON.
///
/// # Panics
/// Never: our types have string keys and UTF-8 paths, because they came as JSON.
#[must_use]
pub fn to_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("what came as JSON goes as JSON")
}

/// A volume and its plexes.
pub type VolumeWithPlexes<'a> = (&'a VolumeRow, Vec<&'a PlexRow>);

/// The volumes among `rows`, each with the plex rows that follow it.
#[must_use]
pub fn volumes(rows: &[Row]) -> Vec<VolumeWithPlexes<'_>> {
    let mut found: Vec<VolumeWithPlexes<'_>> = Vec::new();
    for row in rows {
        match (row, found.last_mut()) {
            (Row::Volume(volume), _) => found.push((volume, Vec::new())),
            (Row::Plex(plex), Some((volume, plexes))) if plex.volume.as_ref() == Some(&volume.volume) => {
                plexes.push(plex);
            }
            _ => {}
        }
    }
    found
}

/// A volume as a JSON document, its plexes inside.
#[must_use]
pub fn volume_json((volume, plexes): &VolumeWithPlexes<'_>) -> Value {
    let mut document = to_json(volume);
    document["plexes"] = to_json(plexes);
    document
}

/// The members of an answer that failed.
#[must_use]
pub fn failures(rows: &[Row]) -> Vec<Refusal> {
    rows.iter()
        .filter_map(|row| if let Row::Failure(refusal) = row { Some(refusal.clone()) } else { None })
        .collect()
}

/// `text` with everything that could move a terminal's cursor escaped.
#[must_use]
pub fn clean(text: impl std::fmt::Display) -> String {
    let is_mark = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.to_string().chars().fold(String::new(), |mut out, c| {
        if is_mark(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        out
    })
}

/// `rows` in columns as wide as their widest cell, the first row being the head; no space at line ends.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

impl Options {
    /// Prints `answer` as the options want it and returns the exit code.
    #[must_use]
    pub fn print(&self, answer: &Answer) -> u8 {
        let text = match (self.json, self.quiet || self.is_applet(), answer.listing) {
            (true, _, _) => format!("{}\n", answer.json),
            (false, true, false) => String::new(),
            (false, _, _) => answer.text.clone(),
        };
        let written = if answer.beside {
            std::io::stderr().write_all(text.as_bytes())
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
        if self.is_applet() && !self.json {
            for line in &answer.notices {
                let _ = writeln!(std::io::stderr(), "{}", clean(line));
            }
        }
        let mut code = answer.code;
        for failure in &answer.failures {
            let failed = self.refuse(failure);
            code = if code == answer.code { failed } else { code };
        }
        match written {
            Ok(()) => code,
            // Whoever read has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Kind::System.exit_code(),
            Err(error) => self.refuse(&cannot_write("standard output", &error)),
        }
    }

    /// Prints `refusal` on standard error and returns its exit code.
    #[must_use]
    pub fn refuse(&self, refusal: &Refusal) -> u8 {
        let _ = writeln!(std::io::stderr(), "{}", self.refusal_line(refusal));
        refusal.kind.exit_code()
    }

    /// `refusal` as the line that is printed.
    #[must_use]
    pub fn refusal_line(&self, refusal: &Refusal) -> String {
        let refusal = &Refusal { way_out: self.spoken(&refusal.way_out), ..refusal.clone() };
        if self.json {
            return error_json(refusal).to_string();
        }
        let line = clean(refusal);
        match self.voice {
            Voice::Cleave => format!("cleave: {line}"),
            Voice::Applet(applet) => format!("VxVM {applet} ERROR V-5-1-{} {line}", message_number(refusal)),
        }
    }
}

/// How many copies of a volume can be relied on, of how many: "2 of 3"; snapshot mirrors, which are none yet, behind them: "+1".
#[must_use]
pub fn copies(plexes: &[&PlexRow]) -> String {
    let snap =
        |row: &&&PlexRow| matches!(row.state, PlexState::Snapdone | PlexState::Snapatt | PlexState::Snaptmp);
    let good = plexes.iter().filter(|row| matches!(row.state, PlexState::Active | PlexState::Clean)).count();
    match plexes.iter().filter(snap).count() {
        0 => format!("{good} of {}", plexes.len()),
        more => format!("{good} of {}+{more}", plexes.len() - more),
    }
}

/// Verbs and keywords of the commands in a way out, of volumes in a group.
const OF_A_GROUP: [&str; 30] = [
    "adopt",
    "att",
    "force-stop",
    "growto",
    "list",
    "make",
    "mirror",
    "plex",
    "print",
    "recover",
    "release",
    "remove",
    "remove-mirror",
    "resize",
    "restore",
    "rm",
    "scrub",
    "set",
    "show",
    "snapabort",
    "snapback",
    "snapclear",
    "snapshot",
    "snapstart",
    "snapwait",
    "start",
    "stop",
    "undo",
    "verify",
    "-o",
];

impl Options {
    /// A way out in the words of who asked: its commands name the group that he did, and are no VxVM's where he speaks none.
    fn spoken(&self, way_out: &str) -> String {
        let group = self.group.as_ref().filter(|group| **group != default_group());
        let mut words: Vec<String> = Vec::new();
        for word in way_out.split(' ') {
            let verb = word.trim_end_matches([',', ';', '.']);
            let of_a_group = OF_A_GROUP.contains(&verb);
            if let Some(command) = words.last_mut()
                && of_a_group
            {
                let named = command.trim_start_matches('(').to_owned();
                let is = |names: &[&str]| names.contains(&named.as_str());
                if is(&["vxassist"]) && self.voice == Voice::Cleave && verb.starts_with("snap") {
                    *command = command.replace("vxassist", "cleave");
                }
                if let Some(group) = group
                    && is(&["cleave", "vxassist", "vxplex", "vxvol", "vxedit", "vxrecover"])
                {
                    *command += &format!(" -g {group}");
                }
            }
            words.push(word.to_owned());
        }
        words.join(" ")
    }
}

/// Prints `text`, a part of a result that comes by and by. Ends the program when it cannot be written: whoever read has seen
/// enough.
pub fn stream(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(i32::from(Kind::System.exit_code()));
    }
}

/// The document of an error.
#[must_use]
pub fn error_json(refusal: &Refusal) -> Value {
    let mut error = to_json(refusal);
    error["exit_code"] = refusal.kind.exit_code().into();
    json!({ "error": error })
}

/// The number in a message of VxVM's form: VxVM's own where the case is the same, else 9000 and the exit code.
fn message_number(refusal: &Refusal) -> u32 {
    match refusal.id.as_str() {
        "snapshot.no-snapdone" => 5150,
        _ => 9000 + u32::from(refusal.kind.exit_code()),
    }
}

/// The refusal for output that cannot be written.
#[must_use]
pub fn cannot_write(object: &str, error: &std::io::Error) -> Refused {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(Errno::IO.raw()));
    let (kind, id) = match errno {
        Errno::NO_SPACE => (Kind::NoSpace, "output.write"),
        _ => (Kind::System, "output.write"),
    };
    Refusal::new(kind, id, object, format!("cannot be written ({errno})"), "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::vx::Applet;

    #[test]
    fn ways_out_name_the_group_that_was_named_and_are_no_vxvms_for_who_speaks_none() {
        let group = Some(crate::base::Name::new("dg").unwrap());
        let here = Options { group: group.clone(), ..Options::default() };
        let vx = Options { group, voice: Voice::Applet(Applet::Vxassist), ..Options::default() };
        let way_out =
            "give it back (cleave snapback s), or: vxassist snapstart v; install cleave and cleaved";
        assert_eq!(
            here.spoken(way_out),
            "give it back (cleave -g dg snapback s), or: cleave -g dg snapstart v; install cleave and cleaved"
        );
        assert_eq!(
            vx.spoken(way_out),
            "give it back (cleave -g dg snapback s), or: vxassist -g dg snapstart v; install cleave and cleaved"
        );
        assert_eq!(Options::default().spoken("with: vxassist snapwait v"), "with: cleave snapwait v");
    }

    #[test]
    fn an_error_is_one_line_in_each_voice() {
        let refusal = Refusal::new(
            Kind::InvalidState,
            "snapshot.no-snapdone",
            "v",
            "no snapshot mirror is SNAPDONE",
            "make one with: cleave snapstart v",
        );
        let mut options = Options::default();
        assert_eq!(
            options.refusal_line(&refusal),
            "cleave: v: no snapshot mirror is SNAPDONE; make one with: cleave snapstart v"
        );
        options.voice = Voice::Applet(Applet::Vxassist);
        assert_eq!(
            options.refusal_line(&refusal),
            "VxVM vxassist ERROR V-5-1-5150 v: no snapshot mirror is SNAPDONE; make one with: cleave snapstart v"
        );
        options.json = true;
        assert_eq!(
            options.refusal_line(&refusal),
            concat!(
                r#"{"error":{"exit_code":20,"id":"snapshot.no-snapdone","kind":"invalid-state","object":"v","#,
                r#""reason":"no snapshot mirror is SNAPDONE","way_out":"make one with: cleave snapstart v"}}"#
            )
        );
        let other = Refusal::new(Kind::Open, "volume.open", "v", "is mounted\non /mnt", "");
        options = Options { voice: Voice::Applet(Applet::Vxedit), ..Options::default() };
        assert_eq!(options.refusal_line(&other), "VxVM vxedit ERROR V-5-1-9031 v: is mounted\\u{a}on /mnt");
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows = [vec!["A".to_owned(), "LONG".to_owned()], vec!["abc".to_owned(), "x".to_owned()]];
        assert_eq!(table(&rows), "A    LONG\nabc  x\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn terminal_sequences_are_escaped() {
        assert_eq!(clean("a\u{1b}[31m\u{202e}ä"), "a\\u{1b}[31m\\u{202e}ä");
    }
}
