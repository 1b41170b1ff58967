//! `cleave undo`: puts back what a restore has overwritten; lists and deletes undo archives.

use clap::Args;
use serde_json::json;

use super::dry_run;
use super::restore::{self, OverwritingArgs};
use crate::base::calendar::utc;
use crate::base::units::human_bytes;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, to_json};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::{Undo, UndoDelete, UndoList};
use crate::control::row::UndoRow;
use crate::control::{Reply, Request, Row};

/// The words of `undo`.
#[derive(Args, Debug)]
#[command(after_help = "\
The volume must not be open or mounted; it has no device until everything is put back. The archive is removed
then, unless it is to be kept. A volume that is half restored and whose restore does not go on goes back too.")]
pub struct UndoArgs {
    /// The volume
    #[arg(required_unless_present = "list")]
    volume: Option<String>,
    /// The undo archive; the newest when left out
    archive: Option<String>,
    /// List undo archives
    #[arg(short, long, conflicts_with_all = ["archive", "delete", "keep", "force", "background", "dry_run"])]
    list: bool,
    /// Give the undo archive up
    #[arg(short, long, requires = "archive", conflicts_with_all = ["keep", "force", "background"])]
    delete: bool,
    /// Keep the undo archive afterwards
    #[arg(short, long)]
    keep: bool,
    /// Put back what the archive holds even where other regions were written since, and stay as they are
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    overwriting: OverwritingArgs,
}

impl UndoArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and rates.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let group = options.group();
        let volume = self.volume.as_deref().map(words::name).transpose()?;
        if self.list {
            return Ok(Action::ask(Request::UndoList(UndoList { group, volume }), |answered| {
                listed(&answered)
            }));
        }
        let Some(volume) = volume else { return Err(missing()) };
        if self.delete {
            let request = UndoDelete { group, volume, archive: self.archive.ok_or_else(missing)? };
            let delete = Action::ask(Request::UndoDelete(request), |answered| deleted(&answered));
            return Ok(dry_run::over(self.overwriting.dry_run, delete));
        }
        let request = Undo {
            group,
            volume,
            archive: self.archive,
            keep: self.keep,
            force: self.force,
            dry_run: self.overwriting.dry_run,
            bytes_per_second: self.overwriting.rate()?,
            background: self.overwriting.background,
        };
        Ok(Action::ask(Request::Undo(request), |answered| restore::show(&answered)))
    }
}

fn missing() -> Refused {
    Refusal::new(Kind::Usage, "argument.missing", "VOLUME", "is missing", "see --help")
}

fn deleted(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Changed(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    Ok(Answer::done(to_json(reply), "undo archive deleted\n"))
}

fn listed(answered: &Answered) -> Result<Answer, Refused> {
    let rows: Vec<&UndoRow> = answered
        .rows
        .iter()
        .filter_map(|row| if let Row::Undo(row) = row { Some(row) } else { None })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let since = match row.written_since_bytes {
            Some(bytes) => format!("{} written since", human_bytes(bytes)),
            None => "not known what was written since".to_owned(),
        };
        text += &format!(
            "{} {} {}: {} kept, {since}\n",
            row.volume,
            row.archive,
            utc(row.taken_ms),
            human_bytes(row.bytes)
        );
    }
    if rows.is_empty() {
        text += "there are no undo archives\n";
    }
    Ok(Answer::listing(json!({ "undo_archives": to_json(&rows) }), text))
}
