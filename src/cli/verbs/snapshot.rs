//! `cleave snapshot`: breaks snapshot mirrors off, all at one cut.

use super::dry_run::DryRunArgs;
use crate::base::{Kind, Name, Refusal, Refused};
use crate::cli::answer::{Answer, clean, to_json};
use crate::cli::hooks::{HOOK_LIMIT_S, HookedWork, Hooks};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::{CutMember, Snapshot};
use crate::control::row::SnapshotRow;
use crate::control::words::Consistency;
use crate::control::{Reply, Request, Row};
use clap::Args;

const HELP: &str = "cleave snapshot --help";

/// The words of `snapshot`.
#[derive(Args, Debug)]
#[command(
    after_help = "Two plain words are a volume and the name of its snapshot volume. Otherwise every word is a \
volume, or VOLUME=SNAPSHOT; all are cut at one instant."
)]
pub struct SnapshotArgs {
    /// VOLUME [SNAPSHOT], or several of VOLUME or VOLUME=SNAPSHOT
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
    /// consistency=crash, consistency=fs (the default: a mounted file system is frozen first) or consistency=app (an
    /// application is at rest too, by --pre); name=PATTERN, in which
    /// %v is the volume and %d a number; allvols
    #[arg(short = 'o', value_name = "OPTION", value_delimiter = ',')]
    options: Vec<String>,
    /// How many ready snapshot mirrors of each volume are broken off
    #[arg(short, long, value_name = "N", default_value = "1")]
    nmirror: String,
    /// A command, for a shell, that is run before the cut and brings an application to rest; nothing is cut when it fails
    #[arg(long, value_name = "COMMAND")]
    pre: Option<String>,
    /// A command that has it go on; always run, with CLEAVE_RESULT=made, failed, pre-failed or unknown
    #[arg(long, value_name = "COMMAND")]
    post: Option<String>,
    /// How long each of these two may take
    #[arg(long, value_name = "SECONDS", default_value_t = HOOK_LIMIT_S, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    hook_timeout: u32,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

/// The options behind `-o` that `snapshot` knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::cli) struct CutOptions {
    pub consistency: Consistency,
    pub pattern: Option<String>,
    pub all_volumes: bool,
}

impl CutOptions {
    /// The options `words`, each as it stood behind `-o`.
    pub(in crate::cli) fn parse(words: &[String], help: &str) -> Result<Self, Refused> {
        let mut options = Self { consistency: Consistency::Fs, pattern: None, all_volumes: false };
        for word in words {
            match word.split_once('=') {
                Some(("consistency", grade)) => {
                    options.consistency = Consistency::from_word(grade)
                        .ok_or_else(|| words::unknown("consistency", grade, ["crash", "fs", "app"], help))?;
                }
                Some(("name", pattern)) => options.pattern = Some(checked_pattern(pattern)?),
                None if word == "allvols" => options.all_volumes = true,
                _ => {
                    let known = ["consistency=", "name=", "allvols"];
                    return Err(words::unknown("option of snapshot", word, known, help));
                }
            }
        }
        Ok(options)
    }
}

/// A pattern that can give good names: `%v` and `%d`, and no other `%`.
fn checked_pattern(pattern: &str) -> Result<String, Refused> {
    let example = pattern.replace("%v", "v").replace("%d", "1");
    if example.contains('%') || !pattern.contains("%v") {
        return Err(Refusal::new(
            Kind::Syntax,
            "pattern.invalid",
            words::clip(pattern),
            "is no pattern for names: it needs %v, may have %d, and no other %",
            "write for example: name=SNAP%d-%v",
        ));
    }
    words::name(&example)?;
    Ok(pattern.to_owned())
}

/// The volumes of a cut: two plain words are a volume and its snapshot, unless a pattern makes the names.
pub(in crate::cli) fn members(words: &[String], pattern: bool) -> Result<Vec<CutMember>, Refused> {
    let member = |volume: &str, snapshot: Option<&str>| -> Result<CutMember, Refused> {
        Ok(CutMember { volume: words::name(volume)?, snapshot: snapshot.map(words::name).transpose()? })
    };
    if let [volume, snapshot] = words
        && !pattern
        && !volume.contains('=')
        && !snapshot.contains('=')
    {
        return Ok(vec![member(volume, Some(snapshot))?]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((volume, snapshot)) => member(volume, Some(snapshot)),
            None => member(word, None),
        })
        .collect()
}

/// The request for a cut, with `words` for volumes.
fn request(
    group: Name,
    volumes: &[String],
    options: CutOptions,
    nmirror: u32,
    help: &str,
) -> Result<Request, Refused> {
    let members = members(volumes, options.pattern.is_some())?;
    if members.is_empty() != options.all_volumes {
        let (kind, id, object, reason) = if options.all_volumes {
            (
                Kind::Usage,
                "argument.conflict",
                "allvols",
                "means every volume of the group, so none may be named",
            )
        } else {
            (Kind::Usage, "argument.missing", "VOLUME", "is missing")
        };
        return Err(Refusal::new(kind, id, object, reason, format!("see {help}")));
    }
    let CutOptions { consistency, pattern, .. } = options;
    Ok(Request::Snapshot(Snapshot { group, members, pattern, consistency, nmirror }))
}

/// The cut of `volumes`, between `hooks`.
pub(in crate::cli) fn action(
    options: &Options,
    volumes: &[String],
    cut: CutOptions,
    nmirror: u32,
    hooks: Hooks,
    help: &str,
) -> Result<Action, Refused> {
    // Only who runs it knows that an application is at rest.
    if cut.consistency == Consistency::App && hooks.pre.is_none() {
        return Err(Refusal::new(
            Kind::Usage,
            "hook.missing",
            "consistency=app",
            "needs a command that brings the application to rest",
            "give it by --pre, and by --post the one that has it go on",
        ));
    }
    let request = request(options.group(), volumes, cut, nmirror, help)?;
    Ok(if hooks.is_empty() {
        Action::ask(request, |answered| show(&answered))
    } else {
        Action::Hooked(HookedWork { hooks, request, show: Box::new(|answered| show(&answered)) })
    })
}

impl SnapshotArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names, counts and `-o` options.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let cut = CutOptions::parse(&self.options, HELP)?;
        let hooks = Hooks { pre: self.pre, post: self.post, limit_s: self.hook_timeout };
        let nmirror = words::plex_count(&self.nmirror)?;
        Ok(self.dry_run.over(action(options, &self.volumes, cut, nmirror, hooks, HELP)?))
    }
}

pub(in crate::cli) fn show(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Cut(cut) = &answered.reply else { return Err(Answered::unfitting()) };
    let made: Vec<&SnapshotRow> = answered
        .rows
        .iter()
        .filter_map(|row| if let Row::Snapshot(made) = row { Some(made) } else { None })
        .collect();
    let mut text = String::new();
    for row in &made {
        let device = clean(row.links.first().unwrap_or(&row.device).display());
        let frozen = row.frozen_ms.map(|ms| format!(", frozen {ms} ms")).unwrap_or_default();
        text +=
            &format!("{}: snapshot of {}, grade {}{frozen}, {device}\n", row.snapshot, row.volume, row.grade);
    }
    text += &format!(
        "writes held {}.{:03} ms, of these {}.{:03} ms to drain\n",
        cut.hold_us / 1000,
        cut.hold_us % 1000,
        cut.drain_us / 1000,
        cut.drain_us % 1000
    );
    let mut json = to_json(cut);
    json["snapshots"] = to_json(&made);
    Ok(Answer::done(json, text))
}
