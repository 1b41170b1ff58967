//! `cleave show`: all about volumes.

use crate::base::units::human_bytes;
use crate::base::{Affinity, Refused};
use crate::cli::answer::{Answer, VolumeWithPlexes, clean, to_json, volume_json, volumes};
use crate::cli::plan::{Action, Options};
use crate::cli::progress::Step;
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::Query;
use crate::control::row::{PlexRow, TaskRow};
use crate::control::words::DataPath;
use crate::control::{Request, Row};
use clap::Args;
use serde_json::{Value, json};

/// The words of `show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The volumes
    #[arg(required = true)]
    volumes: Vec<String>,
}

impl ShowArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let objects = words::names(&self.volumes)?;
        let request = Query { group: Some(options.group()), objects, media: false, tasks: true };
        Ok(Action::ask(Request::Query(request), |answered| Ok(show(&answered))))
    }
}

fn show(answered: &Answered) -> Answer {
    let volumes = volumes(&answered.rows);
    let tasks: Vec<&TaskRow> = answered
        .rows
        .iter()
        .filter_map(|row| if let Row::Task(task) = row { Some(task) } else { None })
        .collect();
    let texts: Vec<String> = volumes.iter().map(|volume| about(volume, &tasks)).collect();
    let json =
        json!({ "volumes": volumes.iter().map(volume_json).collect::<Value>(), "tasks": to_json(&tasks) });
    Answer::listing(json, texts.join("\n"))
}

fn about((volume, plexes): &VolumeWithPlexes<'_>, tasks: &[&TaskRow]) -> String {
    let mut lines = vec![
        format!("volume   {} of group {}", volume.volume, volume.group),
        format!("uuid     {}", volume.uuid),
        format!("state    {} {}", volume.kernel_state, volume.state),
        format!("length   {} ({} bytes)", human_bytes(volume.length_bytes), volume.length_bytes),
        format!(
            "units    blocks of {} bytes, regions of {}",
            volume.block_bytes,
            human_bytes(volume.region_bytes)
        ),
    ];
    let prefer = volume.preferred_plex.as_ref().map(|plex| format!(" {plex}")).unwrap_or_default();
    lines.push(format!("reads    {}{prefer}", volume.read_policy));
    lines.push(format!("data     {}", data(volume.data, volume.data_path, plexes.len() > 1)));
    lines.push(format!("waits    {}", patience(volume.plex_timeout_s, volume.data, volume.data_path)));
    lines.push(format!("dirty    at most {} extents of 4 MiB at once", volume.dirty_extents));
    lines.push(format!("queues   {}", queues(volume.queues, volume.device_queues, *volume.affinity)));
    if !volume.autostart {
        lines.push("boot     not started with the host".to_owned());
    }
    if let Some(from) = &volume.snapshot {
        let changed = human_bytes(from.dirty_regions.saturating_mul(volume.region_bytes));
        lines.push(format!("taken    of {}, grade {}, {changed} changed since", from.source, from.grade));
    }
    if let Some(device) = &volume.device {
        lines.push(format!("device   {}", clean(device.display())));
    }
    lines.extend(volume.links.iter().map(|link| format!("link     {}", clean(link.display()))));
    lines.extend(plexes.iter().map(|plex| about_plex(plex, volume.region_bytes)));
    lines.extend(volume.scrub.iter().flat_map(|scrub| super::scrub::about(scrub, volume.length_bytes)));
    let own = tasks.iter().filter(|task| task.volume == volume.volume && task.group == volume.group);
    lines.extend(own.map(|task| format!("task {:<4}{}", task.task, Step::of_task(task).line())));
    lines.extend(volume.notes.iter().map(|note| format!("note     {}", clean(note))));
    lines.join("\n") + "\n"
}

/// How data travel, and what was asked for, of a volume that has `several` plexes or one.
fn data(asked: DataPath, used: Option<DataPath>, several: bool) -> String {
    let Some(used) = used else { return asked.word().to_owned() };
    let way = match (used, asked) {
        (DataPath::Zero, DataPath::Zero) => "zero copy",
        (DataPath::Zero, DataPath::Auto) if !several => "zero copy",
        (_, DataPath::Auto) if several => "copied, as it has several plexes",
        (DataPath::Zero, _) if several => "copied",
        (DataPath::Zero, _) => "zero copy; copied from its next start on",
        (_, DataPath::Copy) => "copied",
        (_, _) => "copied; zero copy from its next start on, where this host has it",
    };
    format!("{asked}: {way}")
}

/// How many queues were asked for and are there, and where their threads run.
fn queues(asked: u16, there: Option<u16>, affinity: Affinity) -> String {
    let asked = if asked == 0 { "auto".to_owned() } else { asked.to_string() };
    let there = there.map(|there| format!(": {there} in use")).unwrap_or_default();
    let place = match affinity {
        Affinity::Auto => String::new(),
        Affinity::Any => ", on any processor".to_owned(),
        Affinity::On(cpus) => format!(", on processors {cpus}"),
    };
    asked + &there + &place
}

/// How long a plex that does not answer is waited for, and what that frees.
fn patience(seconds: u32, asked: DataPath, used: Option<DataPath>) -> String {
    let after = match (used, asked) {
        (Some(DataPath::Zero), DataPath::Zero) => "; requests under way wait for its medium",
        (_, _) => ", then goes on without it",
    };
    match seconds {
        0 => "for ever for a plex that does not answer".to_owned(),
        _ => format!("{seconds} s for a plex that does not answer{after}"),
    }
}

fn about_plex(plex: &PlexRow, region_bytes: u64) -> String {
    let mut line =
        format!("plex     {} {} {} {}", plex.plex, plex.state, plex.mode, clean(plex.path.display()));
    if let Some(file) = &plex.label_file {
        line += &format!(", labels in {}", clean(file.display()));
    }
    if plex.sparse {
        line += ", sparse";
    }
    if plex.dirty_regions > 0 {
        line += &format!(", lacks up to {}", human_bytes(plex.dirty_regions.saturating_mul(region_bytes)));
    }
    if let Some(fault) = &plex.fault {
        line += &format!(", left: {}", clean(fault));
    }
    line
}
