//! `cleave group`: make, remove and list groups.

use super::make::count;
use crate::base::units::human_bytes;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, VolumeWithPlexes, clean, table, to_json, volume_json, volumes};
use crate::cli::plan::Action;
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::{GroupAdd, GroupCreate, GroupDestroy, GroupImport, MediumSpec};
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
    /// Remove a group that has no volumes
    Destroy {
        /// The group
        #[arg(value_name = "GROUP")]
        name: String,
    },
    /// Take a group in whose state directory is lost, or that comes from another host
    Import {
        /// The files and block devices that carry its plexes, all there are
        #[arg(value_name = "MEDIUM", required = true)]
        media: Vec<String>,
    },
    /// List groups and their media
    List,
}

impl GroupVerb {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and paths.
    pub fn action(self) -> Result<Action, Refused> {
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
            Self::Destroy { name } => {
                let group = words::name(&name)?;
                let text = format!("{group}: removed");
                Action::ask(Request::GroupDestroy(GroupDestroy { group }), move |a| changed(&a, &text))
            }
            Self::Import { media } => {
                let request = GroupImport { media: words::paths(&media)? };
                Action::ask(Request::GroupImport(request), |answered| imported(&answered))
            }
            Self::List => Action::ask(Request::GroupList, |answered| Ok(show(&answered))),
        })
    }
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
