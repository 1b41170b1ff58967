//! `cleave make`: makes a volume and starts it.

use super::dry_run::DryRunArgs;
use super::placement::PlacementArgs;
use super::task;
use crate::base::units::{counted, human_bytes};
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, clean, volume_json, volumes};
use crate::cli::plan::{Action, Options, Watch};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::{Make, TaskWatch};
use crate::control::words::{DataPath, Init};
use crate::control::{Reply, Request};
use clap::Args;
use serde_json::json;

/// The words of `make`.
#[derive(Args, Debug)]
pub struct MakeArgs {
    /// The new volume
    volume: String,
    /// Its length, as 10g
    #[arg(allow_hyphen_values = true)]
    length: String,
    /// How many plexes it has [default: 1, or the number of --plex]
    #[arg(short, long, value_name = "N")]
    nmirror: Option<String>,
    #[command(flatten)]
    placement: PlacementArgs,
    /// Bytes that one bit of a change map stands for [default: 64k, larger above 1t]
    #[arg(long, value_name = "SIZE")]
    region: Option<String>,
    /// How the plexes become equal: sync copies the first one, zero zeroes all, active believes that they are
    #[arg(long, value_name = "HOW", default_value = "sync", value_parser = ["sync", "zero", "active"])]
    init: String,
    /// How data travel: auto, copy through memory of the daemon, or zero, from the requests' own pages; see cleave set --help
    #[arg(long, value_name = "WAY", default_value = "auto", value_parser = ["auto", "copy", "zero"])]
    data: String,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl MakeArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names, sizes, counts and paths.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let placement = self.placement.placement()?;
        let named = u32::try_from(placement.plexes.len()).unwrap_or(u32::MAX);
        let request = Make {
            group: options.group(),
            volume: words::name(&self.volume)?,
            length_bytes: words::size(&self.length)?,
            nmirror: plexes(self.nmirror.as_deref(), named)?,
            media: placement.media,
            plexes: placement.plexes,
            sparse: placement.sparse,
            region: self.region.as_deref().map(words::region).transpose()?,
            init: Init::from_word(&self.init).expect("clap has checked the word"),
            data: DataPath::from_word(&self.data).expect("clap has checked the word"),
            force: placement.force,
        };
        Ok(self.dry_run.over(Action::ask(Request::Make(request), show)))
    }
}

/// How many plexes are meant when `named` of them are named by path.
pub(in crate::cli) fn plexes(count: Option<&str>, named: u32) -> Result<u32, Refused> {
    let Some(count) = count else { return words::plex_count(&named.max(1).to_string()) };
    let count = words::plex_count(count)?;
    if count < named {
        return Err(Refusal::new(
            Kind::Usage,
            "nmirror.fewer",
            count,
            format!("is fewer than the {named} plexes named by path"),
            "name fewer paths or raise the count",
        ));
    }
    Ok(count)
}

pub(in crate::cli) fn show(answered: Answered) -> Result<Answer, Refused> {
    let volumes = volumes(&answered.rows);
    let (Reply::Made(made), [volume]) = (&answered.reply, volumes.as_slice()) else {
        return Err(Answered::unfitting());
    };
    let mut text =
        format!("{}: {}, {}", made.volume, human_bytes(volume.0.length_bytes), count(volume.1.len(), "plex"));
    if let Some(device) = &volume.0.device {
        text += &format!(", {}", clean(volume.0.links.first().unwrap_or(device).display()));
    }
    if let Some(task) = made.task {
        text += &format!("; task {task} makes the plexes equal");
    }
    text.push('\n');
    Ok(Answer::done(json!({ "volume": volume_json(volume), "task": made.task }), text))
}

/// Makes a volume as VxVM does: returns when its plexes are equal.
pub(in crate::cli) fn until_equal(request: Make) -> Action {
    let (group, volume) = (request.group.clone(), Some(request.volume.clone()));
    let watch = Request::TaskWatch(TaskWatch { task: None, group, volume });
    let show = |answers: Vec<Answered>| {
        let [made, ended] = <[Answered; 2]>::try_from(answers).map_err(|_| Answered::unfitting())?;
        let Answer { failures, .. } = task::watched(&ended)?;
        Ok(Answer { failures, ..show(made)? })
    };
    let requests = vec![Request::Make(request), watch];
    Action::Ask { requests, watch: Watch::Progress, show: Box::new(show) }
}

/// `count` things, in words.
pub(super) fn count(count: usize, noun: &str) -> String {
    counted(count, noun)
}
