//! `cleave snapwait`: waits until snapshot mirrors are ready.

use super::mirror::attached;
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use crate::control::Request;
use crate::control::request::SnapWait;
use clap::Args;

/// The words of `snapwait`.
#[derive(Args, Debug)]
pub struct SnapWaitArgs {
    /// The volume
    volume: String,
    /// How many snapshot mirrors must be ready
    #[arg(short, long, value_name = "N", default_value = "1")]
    nmirror: String,
}

impl SnapWaitArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and counts.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let request = SnapWait {
            group: options.group(),
            volume: words::name(&self.volume)?,
            nmirror: words::plex_count(&self.nmirror)?,
        };
        Ok(Action::ask(Request::SnapWait(request), |answered| attached(&answered, "SNAPDONE")))
    }
}
