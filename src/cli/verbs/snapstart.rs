//! `cleave snapstart`: adds a snapshot mirror and copies it.

use super::copying::CopyingArgs;
use super::dry_run::DryRunArgs;
use super::mirror::attached;
use super::placement::PlacementArgs;
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use crate::control::Request;
use crate::control::request::SnapStart;
use clap::Args;

/// The words of `snapstart`.
#[derive(Args, Debug)]
pub struct SnapStartArgs {
    /// The volume
    volume: String,
    /// How many snapshot mirrors are added [default: 1, or the number of --plex]
    #[arg(short, long, value_name = "N")]
    nmirror: Option<String>,
    #[command(flatten)]
    placement: PlacementArgs,
    #[command(flatten)]
    copying: CopyingArgs,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl SnapStartArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names, counts and paths.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let placement = self.placement.placement()?;
        let named = u32::try_from(placement.plexes.len()).unwrap_or(u32::MAX);
        let request = SnapStart {
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
            .over(Action::ask(Request::SnapStart(request), |answered| attached(&answered, "SNAPDONE"))))
    }
}
