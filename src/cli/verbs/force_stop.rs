//! `cleave force-stop`: ends a volume whatever hangs.

use crate::base::Refused;
use crate::cli::answer::{Answer, clean, to_json};
use crate::cli::plan::{Action, Options};
use crate::cli::progress::seconds;
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::ForceStop;
use crate::control::{Reply, Request};
use clap::Args;

/// The words of `force-stop`.
#[derive(Args, Debug)]
#[command(
    after_help = "Whoever uses the volume gets EIO within half a minute, also where no daemon serves it; but a request \
                  whose own pages were lent to a disk that hangs (data=zero, or one plex) waits until that disk answers. \
                  Nothing that was acknowledged is lost; the record says that the volume was not stopped in good order, and its next start \
                  makes its plexes equal. A mounted file system has to be unmounted and checked afterwards."
)]
pub struct ForceStopArgs {
    /// The volume
    volume: String,
    /// Directory of the groups' state directories, without the daemon [default: the last daemon's, else /var/lib/cleave]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
}

impl ForceStopArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and paths.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let volume = words::name(&self.volume)?;
        let mut all = super::status::state_words(self.state.as_deref())?;
        all.push(volume.to_string());
        let request = Request::ForceStop(ForceStop { group: options.group(), volume });
        Ok(Action::Anyway {
            request,
            verb: "force-stop",
            words: all,
            show: Box::new(|answered| show(&answered)),
        })
    }
}

fn show(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Forced(forced) = &answered.reply else { return Err(Answered::unfitting()) };
    let mut text = format!("{}: stopped by force in {}\n", forced.volume, seconds(forced.elapsed_ms));
    for step in &forced.steps {
        text += &format!("  {}\n", clean(step));
    }
    Ok(Answer::done(to_json(forced), text))
}
