//! `cleave snapclear`: ends the relation of a snapshot to its origin.

use super::dry_run::DryRunArgs;
use super::group::changed;
use crate::base::{Name, Refused};
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use crate::control::Request;
use crate::control::request::SnapClear;
use clap::Args;

/// The words of `snapclear`.
#[derive(Args, Debug)]
#[command(after_help = "\
Both go on as volumes of their own. What either changes is not tracked any more: snapback is not
possible after it.")]
pub struct SnapClearArgs {
    /// The snapshot volume
    snapshot: String,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl SnapClearArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        Ok(self.dry_run.over(clear(options, words::name(&self.snapshot)?, None)))
    }
}

/// Asks to end the relation of `snapshot` to its origin, or that between it and `other`.
pub(in crate::cli) fn clear(options: &Options, snapshot: Name, other: Option<Name>) -> Action {
    let text = format!("{snapshot}: no snapshot any more, a volume of its own");
    let request = SnapClear { group: options.group(), snapshot, other };
    Action::ask(Request::SnapClear(request), move |answered| changed(&answered, &text))
}
