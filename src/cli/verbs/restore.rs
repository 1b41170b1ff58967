//! `cleave restore`: overwrites a volume from one of its snapshots.

use clap::Args;
use serde_json::json;
use std::num::NonZeroU64;

use crate::base::Refused;
use crate::base::units::human_bytes;
use crate::cli::answer::{Answer, clean, to_json};
use crate::cli::plan::{Action, Options};
use crate::cli::progress::seconds;
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::Restore;
use crate::control::row::RestoringRow;
use crate::control::{Reply, Request, Row};

/// How a volume is overwritten.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct OverwritingArgs {
    /// The most bytes a second that are saved and copied, as 50m; a daemon that is started anew has no limit
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// Return as soon as it has begun
    #[arg(short, long)]
    pub background: bool,
    /// Tell what would be overwritten, and change nothing
    #[arg(long, visible_alias = "explain", conflicts_with = "background")]
    pub dry_run: bool,
}

impl OverwritingArgs {
    /// The limit in bytes a second.
    ///
    /// # Errors
    /// Those of [`words::size`].
    pub fn rate(&self) -> Result<Option<NonZeroU64>, Refused> {
        Ok(self.rate.as_deref().map(words::size).transpose()?.and_then(NonZeroU64::new))
    }
}

/// The words of `restore`.
#[derive(Args, Debug)]
#[command(after_help = "\
Neither of the two may be open or mounted. What differs is copied from the snapshot to its volume, which has
no device meanwhile; then the snapshot's plex goes back as with snapback. What is overwritten is kept in an
undo archive in the state directory first: cleave undo puts it back.")]
pub struct RestoreArgs {
    /// The snapshot volume
    snapshot: String,
    /// How many of its plexes go back afterwards
    #[arg(short, long, value_name = "N", default_value = "1")]
    nmirror: String,
    /// Give all its plexes back afterwards
    #[arg(short, long, conflicts_with = "nmirror")]
    all: bool,
    /// Keep the snapshot volume as it is
    #[arg(short, long, conflicts_with_all = ["nmirror", "all"])]
    keep: bool,
    /// Keep no undo archive: what is overwritten is lost
    #[arg(long)]
    no_safety: bool,
    #[command(flatten)]
    overwriting: OverwritingArgs,
}

impl RestoreArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names, counts and rates.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let nmirror = match (self.all, self.keep) {
            (true, _) => None,
            (false, true) => Some(0),
            (false, false) => Some(words::plex_count(&self.nmirror)?),
        };
        let request = Restore {
            group: options.group(),
            snapshot: words::name(&self.snapshot)?,
            nmirror,
            safety: !self.no_safety,
            dry_run: self.overwriting.dry_run,
            bytes_per_second: self.overwriting.rate()?,
            background: self.overwriting.background,
        };
        Ok(Action::ask(Request::Restore(request), |answered| show(&answered)))
    }
}

/// What is about to be overwritten, in one line.
pub(in crate::cli) fn announced(row: &RestoringRow) -> String {
    let what = format!(
        "{}: {} of {} regions ({}) are overwritten",
        row.volume,
        row.overwritten_regions,
        row.regions,
        human_bytes(row.overwritten_bytes)
    );
    let archive = row.archive.as_ref().map(|path| clean(path.display()));
    match (&row.snapshot, archive) {
        (Some(snapshot), Some(archive)) => {
            format!("{what} from {snapshot}; what they hold is kept in {archive}")
        }
        (Some(snapshot), None) => format!("{what} from {snapshot}; there is no way back"),
        (None, archive) => {
            let from = archive.unwrap_or_else(|| "an undo archive".to_owned());
            let since = match row.since_bytes {
                0 => String::new(),
                bytes => format!("; {} written since the restore are given up", human_bytes(bytes)),
            };
            format!("{what} from {from}{since}")
        }
    }
}

/// The row that came before anything was done.
fn restoring(answered: &Answered) -> Option<&RestoringRow> {
    answered.rows.iter().find_map(|row| if let Row::Restoring(row) = row { Some(row) } else { None })
}

pub(in crate::cli) fn show(answered: &Answered) -> Result<Answer, Refused> {
    let plan = restoring(answered);
    let reply = match (&answered.reply, plan) {
        (Reply::Restored(reply), _) => reply,
        // Told only.
        (Reply::Changed(_), Some(plan)) => {
            return Ok(Answer::listing(to_json(plan), format!("{}; nothing was changed\n", announced(plan))));
        }
        _ => return Err(Answered::unfitting()),
    };
    let name = &reply.volume;
    let mut text = match reply.task {
        Some(task) => format!("{name}: being overwritten by task {task}"),
        None => {
            format!("{name}: {} written in {}", human_bytes(reply.written_bytes), seconds(reply.elapsed_ms))
        }
    };
    if let Some(archive) = &reply.archive {
        text += &match plan.is_some_and(|plan| plan.snapshot.is_none()) {
            true => format!("; undo archive {archive} is kept"),
            false => format!("; back with: cleave undo {name} {archive}"),
        };
    }
    text.push('\n');
    let json = json!({ "plan": plan.map(to_json), "restored": to_json(reply) });
    Ok(Answer::done(json, text))
}
