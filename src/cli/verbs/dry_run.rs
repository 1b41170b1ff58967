//! `--dry-run` of the verbs that overwrite something or give it up.

use crate::base::Refused;
use crate::cli::answer::{Answer, clean, to_json};
use crate::cli::plan::{Action, Watch};
use crate::cli::session::Answered;
use crate::control::row::ForeseenRow;
use crate::control::{Reply, Request, Row};
use clap::Args;
use serde_json::json;

/// Whether it is told only.
#[derive(Args, Clone, Copy, PartialEq, Eq, Debug)]
pub struct DryRunArgs {
    /// Tell what would be done, by all the checks that it has to pass, and change nothing
    #[arg(long, visible_alias = "explain")]
    dry_run: bool,
}

impl DryRunArgs {
    /// `action`, or what tells of it.
    pub fn over(self, action: Action) -> Action {
        over(self.dry_run, action)
    }
}

/// `action`, or what tells of it on a `dry_run`.
pub fn over(dry_run: bool, action: Action) -> Action {
    let requests = match action {
        Action::Ask { requests, .. } if dry_run => requests,
        Action::InTurn(work) if dry_run => work.requests,
        Action::Hooked(work) if dry_run => vec![work.request],
        action => return action,
    };
    Action::Ask {
        requests: requests.into_iter().map(|request| Request::Explain(Box::new(request))).collect(),
        watch: Watch::Progress,
        show: Box::new(|answers| show(&answers)),
    }
}

fn show(answers: &[Answered]) -> Result<Answer, Refused> {
    let mut told: Vec<&ForeseenRow> = Vec::new();
    for answered in answers {
        let Reply::Changed(_) = answered.reply else { return Err(Answered::unfitting()) };
        told.extend(answered.rows.iter().filter_map(|row| match row {
            Row::Foreseen(row) => Some(row),
            _ => None,
        }));
    }
    let mut text = String::new();
    for row in &told {
        text += &format!("{}: {}\n", clean(&row.object), row.text);
    }
    text += "nothing was changed\n";
    Ok(Answer::listing(json!({ "foreseen": to_json(&told), "changed": false }), text))
}
