//! `cleave group`: groups and their media.

use super::dry_run::DryRunArgs;
use super::make::count;
use super::status::state_words;
use crate::base::units::human_bytes;
use crate::base::{Kind, Name, Refusal, Refused};
use crate::cli::answer::{Answer, VolumeWithPlexes, clean, table, to_json, volume_json, volumes};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::reply::MovedPlex;
use crate::control::request::{
    GroupAdd, GroupCreate, GroupDestroy, GroupExport, GroupImport, GroupMoved, GroupRemove, GroupRestore,
    MediumSpec,
};
use crate::control::row::{GroupRow, MediumRow};
use crate::control::{Reply, Request, Row};
use clap::Subcommand;
use serde_json::{Value, json};

/// What is done with groups.
#[derive(Subcommand, Debug)]
pub enum GroupVerb {
    /// Make a group
    Create {
        /// The new group
        #[arg(value_name = "GROUP")]
        name: String,
        /// Directories or block devices for its plexes, each as PATH or NAME=PATH
        /// [default: a directory of the group's own below /var/lib/cleave]
        #[arg(value_name = "MEDIUM")]
        media: Vec<String>,
    },
    /// Give a group further directories or block devices for plexes
    Add {
        /// The group
        #[arg(value_name = "GROUP")]
        name: String,
        /// What is added, each as PATH or NAME=PATH
        #[arg(value_name = "MEDIUM", required = true)]
        media: Vec<String>,
    },
    /// Have a group put no more plexes on a medium; none may lie there
    Remove {
        /// The group
        #[arg(value_name = "GROUP")]
        name: String,
        /// The medium, by its name in the group
        medium: String,
    },
    /// Remove a group that has no volumes
    Destroy {
        /// The group
        #[arg(value_name = "GROUP")]
        name: String,
        /// Whether it is told only
        #[command(flatten)]
        dry_run: DryRunArgs,
    },
    /// Give a group up here, to take it in on another host or later
    #[command(after_help = "\
All its volumes must be stopped. The labels of their plexes are told that the group goes; it is taken
in with cleave group import, and what is whole then need not be copied again. What comes from
snapshots goes back by a full copy there: which regions changed is not known elsewhere.")]
    Export {
        /// The group
        #[arg(value_name = "GROUP")]
        name: String,
        /// Whether it is told only
        #[command(flatten)]
        dry_run: DryRunArgs,
    },
    /// Take a group in that was exported, whose state directory is lost, or that comes from another host
    #[command(after_help = "\
Without media the disks of this host are looked at for labels of the group that -g names. A group
that was not exported is made equal again when its volumes are started.")]
    Import {
        /// The files and block devices that carry its plexes, all there are
        #[arg(value_name = "MEDIUM")]
        media: Vec<String>,
        /// What the group is to be called here
        #[arg(long, value_name = "GROUP")]
        name: Option<String>,
    },
    /// Tell a group that media of its plexes are at other places
    #[command(after_help = "\
A medium is known by its label, so it does not matter what it was called. A plex that its volume uses
at this moment is at its place. A directory for plexes that moved is given with group add.")]
    Moved {
        /// The group
        #[arg(value_name = "GROUP")]
        name: String,
        /// Where they are [default: all disks of this host are looked at]
        #[arg(value_name = "MEDIUM")]
        media: Vec<String>,
    },
    /// Print the configuration of a group, for cleave group restore
    #[command(after_help = "\
It is what the labels of its media carry too, and is good for the day on which these are lost as
well: cleave group save GROUP >FILE. Works without the daemon, for root.")]
    Save {
        /// The group
        #[arg(value_name = "GROUP")]
        name: String,
        /// Directory of the groups' state directories [default: the last daemon's, else /var/lib/cleave]
        #[arg(long, value_name = "DIR")]
        state: Option<String>,
    },
    /// Take a group in from what cleave group save printed, when its labels are lost too
    #[command(after_help = "\
A medium with a label is believed by it. One without is taken for the plex that the file names there
only with --force, and only where no other plex of its volume has a label. All volumes are made equal
when they are started.")]
    Restore {
        /// The file
        file: String,
        /// Write labels on media that have none
        #[arg(short, long)]
        force: bool,
        /// Whether it is told only
        #[command(flatten)]
        dry_run: DryRunArgs,
    },
    /// List groups and their media
    List,
}

impl GroupVerb {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and paths.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        Ok(match self {
            Self::Create { name, media } => {
                let group = words::name(&name)?;
                let media = media.iter().map(|word| medium(word)).collect::<Result<_, _>>()?;
                let text = format!("{group}: made");
                Action::ask(Request::GroupCreate(GroupCreate { group, media }), move |a| changed(&a, &text))
            }
            Self::Add { name, media } => {
                let group = words::name(&name)?;
                let media = media.iter().map(|word| medium(word)).collect::<Result<_, _>>()?;
                let text = format!("{group}: has them");
                Action::ask(Request::GroupAdd(GroupAdd { group, media }), move |a| changed(&a, &text))
            }
            Self::Destroy { name, dry_run } => {
                let group = words::name(&name)?;
                let text = format!("{group}: removed");
                let request = Request::GroupDestroy(GroupDestroy { group });
                dry_run.over(Action::ask(request, move |a| changed(&a, &text)))
            }
            Self::Remove { name, medium } => {
                let (group, medium) = (words::name(&name)?, words::name(&medium)?);
                let text = format!("{group}: does without {medium}");
                Action::ask(Request::GroupRemove(GroupRemove { group, medium }), move |a| changed(&a, &text))
            }
            Self::Export { name, dry_run } => {
                let request = GroupExport { group: words::name(&name)? };
                dry_run.over(Action::ask(Request::GroupExport(request), |answered| exported(&answered)))
            }
            Self::Import { media, name } => import(&media, options.group(), name.as_deref())?,
            Self::Moved { name, media } => {
                let request = GroupMoved { group: words::name(&name)?, media: words::paths(&media)? };
                Action::ask(Request::GroupMoved(request), |answered| moved(&answered))
            }
            Self::Save { name, state } => {
                let mut all = state_words(state.as_deref())?;
                all.push(words::name(&name)?.to_string());
                Action::Offline { verb: "save", words: all }
            }
            Self::Restore { file, force, dry_run } => {
                let request = GroupRestore { path: words::path(&file)?, force };
                dry_run.over(Action::ask(Request::GroupRestore(request), |answered| imported(&answered)))
            }
            Self::List => Action::ask(Request::GroupList, |answered| Ok(show(&answered))),
        })
    }
}

/// Take in what is on `media`, or what the disks have of `group`.
pub(in crate::cli) fn import(media: &[String], group: Name, name: Option<&str>) -> Result<Action, Refused> {
    let media = words::paths(media)?;
    let group = media.is_empty().then_some(group);
    let request = GroupImport { media, group, name: name.map(words::name).transpose()? };
    Ok(Action::ask(Request::GroupImport(request), |answered| imported(&answered)))
}

/// The answer to an export: what has to be carried along, as a command for the other host.
pub(in crate::cli) fn exported(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Exported(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let mut text = format!("{}: exported; ", reply.group);
    match reply.media.as_slice() {
        [] => text += "it had no volumes\n",
        media => {
            text += "to take it in, where its media then are:\n  cleave group import";
            media.iter().for_each(|path| text += &format!(" {}", clean(path.display())));
            text.push('\n');
        }
    }
    for plex in &reply.left_out {
        text += &format!("  {plex} was behind or missing: it stays out of it\n");
    }
    Ok(Answer::done(to_json(reply), text))
}

fn moved(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Moved(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let line = |plex: &MovedPlex| {
        format!("{}: now at {}, was {}\n", plex.plex, clean(plex.now.display()), clean(plex.before.display()))
    };
    let text: String = reply.plexes.iter().map(line).collect();
    let none = || format!("{}: all media that were found are where they were\n", reply.group);
    Ok(Answer::done(to_json(reply), if text.is_empty() { none() } else { text }))
}

fn imported(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Changed(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let volumes = volumes(&answered.rows);
    let mut json = to_json(reply);
    json["volumes"] = volumes.iter().map(volume_json).collect::<Value>();
    let line = |(volume, plexes): &VolumeWithPlexes<'_>| {
        let plexes = count(plexes.len(), "plex");
        format!("{} of group {}: taken in, {} with {plexes}\n", volume.volume, volume.group, volume.state)
    };
    let text: String = volumes.iter().map(line).collect();
    Ok(Answer::done(json, if text.is_empty() { "taken in, without volumes\n".to_owned() } else { text }))
}

/// A medium as typed: PATH or NAME=PATH.
pub(in crate::cli) fn medium(word: &str) -> Result<MediumSpec, Refused> {
    let (name, path) = match word.split_once('=') {
        Some((name, path)) if !name.contains('/') => (Some(words::name(name)?), path),
        _ => (None, word),
    };
    if path.is_empty() {
        return Err(Refusal::new(Kind::Syntax, "medium.no-path", word, "names no path", "write NAME=PATH"));
    }
    Ok(MediumSpec { name, path: words::path(path)? })
}

/// The answer to a request that is done or was done already.
pub(in crate::cli) fn changed(answered: &Answered, text: &str) -> Result<Answer, Refused> {
    let Reply::Changed(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let already = if reply.changed { "" } else { " already" };
    Ok(Answer::done(to_json(reply), format!("{text}{already}\n")))
}

/// Groups as JSON, each with its media inside.
pub(in crate::cli) fn groups_json(rows: &[Row]) -> Value {
    let documents = groups(rows).into_iter().map(|(group, media)| {
        let mut document = to_json(group);
        document["media"] = to_json(&media);
        document
    });
    documents.collect()
}

pub(in crate::cli) fn groups(rows: &[Row]) -> Vec<(&GroupRow, Vec<&MediumRow>)> {
    let mut found: Vec<(&GroupRow, Vec<&MediumRow>)> = Vec::new();
    for row in rows {
        match (row, found.last_mut()) {
            (Row::Group(group), _) => found.push((group, Vec::new())),
            (Row::Medium(medium), Some((_, media))) => media.push(medium),
            _ => {}
        }
    }
    found
}

fn show(answered: &Answered) -> Answer {
    let head = ["GROUP", "VOLUMES", "MEDIUM", "LENGTH", "FREE", "STATE", "PATH"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (group, media) in groups(&answered.rows) {
        for medium in &media {
            lines.push(vec![
                group.group.to_string(),
                group.volumes.to_string(),
                medium.medium.to_string(),
                human_bytes(medium.length_bytes),
                human_bytes(medium.free_bytes),
                if medium.online { "online" } else { "offline" }.to_owned(),
                clean(medium.path.display()),
            ]);
        }
        if media.is_empty() {
            let dash = || "-".to_owned();
            lines.push(vec![
                group.group.to_string(),
                group.volumes.to_string(),
                dash(),
                dash(),
                dash(),
                dash(),
                dash(),
            ]);
        }
    }
    Answer::listing(json!({ "groups": groups_json(&answered.rows) }), table(&lines))
}
