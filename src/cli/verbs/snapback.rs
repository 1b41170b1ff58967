//! `cleave snapback`: gives plexes of snapshot volumes back.

use super::copying::CopyingArgs;
use super::dry_run::DryRunArgs;
use crate::base::Refused;
use crate::base::units::human_bytes;
use crate::cli::answer::{Answer, to_json};
use crate::cli::in_turn::InTurnWork;
use crate::cli::plan::{Action, Options};
use crate::cli::progress::seconds;
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::SnapBack;
use crate::control::{Reply, Request};
use clap::Args;

/// The words of `snapback`.
#[derive(Args, Debug)]
#[command(after_help = "The snapshot volume's own changes are given up. It must not be open.
Several are checked before the first goes back, and then go one after the other, until one is refused.")]
pub struct SnapBackArgs {
    /// The snapshot volumes
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// How many plexes of each go back
    #[arg(short, long, value_name = "N", default_value = "1")]
    nmirror: String,
    /// Give all plexes back
    #[arg(short, long, conflicts_with = "nmirror")]
    all: bool,
    #[command(flatten)]
    copying: CopyingArgs,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl SnapBackArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names, counts and rates.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let nmirror = if self.all { None } else { Some(words::plex_count(&self.nmirror)?) };
        let first = SnapBack {
            group: options.group(),
            snapshot: words::name(self.snapshots.first().map_or("", String::as_str))?,
            nmirror,
            bytes_per_second: self.copying.rate()?,
            latency_us: self.copying.latency()?,
            background: self.copying.background,
        };
        Ok(self.dry_run.over(in_turn(&self.snapshots, &first)?))
    }
}

/// What `first` asks for, for each of `snapshots`.
///
/// # Errors
/// Those of names; `object.twice`.
pub(in crate::cli) fn in_turn(snapshots: &[String], first: &SnapBack) -> Result<Action, Refused> {
    let request = |snapshot| Request::SnapBack(SnapBack { snapshot, ..first.clone() });
    Ok(Action::InTurn(InTurnWork::new(words::names(snapshots)?, request, show)?))
}

pub(in crate::cli) fn show(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Returned(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let plexes = reply.plexes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let whole = human_bytes(reply.regions.saturating_mul(reply.region_bytes));
    let dirty = human_bytes(reply.dirty_regions.saturating_mul(reply.region_bytes));
    let mut text = format!(
        "{}: {plexes} given back, {} of {} regions differ ({dirty} of {whole})",
        reply.volume, reply.dirty_regions, reply.regions
    );
    if reply.tasks.is_empty() {
        text += &format!(
            "; copied {} in {}, SNAPDONE",
            human_bytes(reply.copied_bytes),
            seconds(reply.elapsed_ms)
        );
    } else {
        let tasks = reply.tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        text += &format!("; being copied by task {tasks}");
    }
    if reply.lost_bytes > 0 {
        text += &format!(
            "; {} changed in the snapshot since its cut are given up",
            human_bytes(reply.lost_bytes)
        );
    }
    if !reply.snapshot_removed {
        text += "; the snapshot volume keeps its other plexes";
    }
    text.push('\n');
    Ok(Answer::done(to_json(reply), text))
}
