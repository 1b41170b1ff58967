//! `cleave mirror`: adds mirrors to a volume.

use super::copying::CopyingArgs;
use super::dry_run::DryRunArgs;
use super::placement::PlacementArgs;
use crate::base::Refused;
use crate::base::units::human_bytes;
use crate::cli::answer::{Answer, to_json};
use crate::cli::plan::{Action, Options};
use crate::cli::progress::seconds;
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::Mirror;
use crate::control::{Reply, Request};
use clap::Args;

/// The words of `mirror`.
#[derive(Args, Debug)]
pub struct MirrorArgs {
    /// The volume
    volume: String,
    /// How many plexes are added [default: 1, or the number of --plex]
    #[arg(short, long, value_name = "N")]
    nmirror: Option<String>,
    #[command(flatten)]
    placement: PlacementArgs,
    #[command(flatten)]
    copying: CopyingArgs,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl MirrorArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names, counts and paths.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let placement = self.placement.placement()?;
        let named = u32::try_from(placement.plexes.len()).unwrap_or(u32::MAX);
        let request = Mirror {
            group: options.group(),
            volume: words::name(&self.volume)?,
            nmirror: super::make::plexes(self.nmirror.as_deref(), named)?,
            media: placement.media,
            plexes: placement.plexes,
            sparse: placement.sparse,
            bytes_per_second: self.copying.rate()?,
            latency_us: self.copying.latency()?,
            background: self.copying.background,
            force: placement.force,
        };
        Ok(self
            .dry_run
            .over(Action::ask(Request::Mirror(request), |answered| attached(&answered, "in step"))))
    }
}

/// Plexes that were added or waited for; `ready` says what they are when nothing copies any more.
pub(in crate::cli) fn attached(answered: &Answered, ready: &str) -> Result<Answer, Refused> {
    let Reply::Attached(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let list = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(", ");
    let plexes = list(&mut reply.plexes.iter().map(ToString::to_string));
    let text = if reply.tasks.is_empty() && reply.copied_bytes == 0 {
        format!("{}: {plexes} {ready}\n", reply.volume)
    } else if reply.tasks.is_empty() {
        let (copied, time) = (human_bytes(reply.copied_bytes), seconds(reply.elapsed_ms));
        format!("{}: {plexes} {ready}; copied {copied} in {time}\n", reply.volume)
    } else {
        let tasks = list(&mut reply.tasks.iter().map(ToString::to_string));
        format!("{}: {plexes} being copied by task {tasks}\n", reply.volume)
    };
    Ok(Answer::done(to_json(reply), text))
}
