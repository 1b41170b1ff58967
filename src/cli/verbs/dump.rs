//! `cleave dump`: what can be read of the state directory.

use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use clap::Args;

/// The words of `dump`.
#[derive(Args, Debug)]
pub struct DumpArgs {
    /// Only this volume
    volume: Option<String>,
    /// Show the labels of this medium alone, and the configuration in them
    #[arg(long, value_name = "PATH", conflicts_with = "volume")]
    medium: Option<String>,
    /// Directory of the groups' state directories [default: the last daemon's, else /var/lib/cleave]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
}

impl DumpArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and paths.
    pub fn action(self, _: &Options) -> Result<Action, Refused> {
        let mut all = super::status::state_words(self.state.as_deref())?;
        if let Some(medium) = &self.medium {
            all.extend(["--medium".to_owned(), words::path(medium)?.display().to_string()]);
        }
        if let Some(volume) = &self.volume {
            all.push(words::name(volume)?.to_string());
        }
        Ok(Action::Offline { verb: "dump", words: all })
    }
}
