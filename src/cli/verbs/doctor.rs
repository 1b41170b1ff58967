//! `cleave doctor`: whether this host and Cleave on it are as they should be, and what to do where they are not.
//!
//! It looks by itself and asks the daemon; what it cannot look at it tells as a note. Nothing is changed by it.

pub mod finding;
mod judge;

pub use finding::{Check, Finding, Level};
pub use judge::judge;

use super::make::count;
use super::mount::device;
use super::status::{DEGRADED, FAILED};
use crate::base::{Refusal, Refused};
use crate::cli::answer::{Answer, clean, to_json, volumes};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::client::{Heard, Limits};
use crate::control::reply::Overview;
use crate::control::request::{Overview as AskOverview, Query};
use crate::control::{Client, Reply, Request, Row, STATE_DIRECTORY, last_state, socket_path};
use crate::probe::{Host, LockedMemory, Place, Unseen, View, leads_to, look};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The words of `doctor`.
#[derive(Args, Debug)]
#[command(after_help = help())]
pub struct DoctorArgs {
    /// Directory of the groups' state directories [default: the last daemon's, else /var/lib/cleave]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
}

fn help() -> String {
    format!(
        "A line a check: ok, note, warn or fail, the id, the object, what was found and, unless it is ok, the way out. Without \
         the daemon, or not as root, some things cannot be looked at: a note says so. With -g only volumes of that group are \
         looked at.\n\n\
         With --json: {{\"level\": the worst of all, \"checks\": [{{\"id\", \"level\", \"object\", \"found\", \"way_out\"}}]}}; \
         way_out is left out where the level is ok.\n\n\
         Exit codes: 0 nothing is worse than a note; {DEGRADED} something should be better; {FAILED} something does not work. \
         Any other code is that of an error.\n\n\
         Checks:\n{}",
        finding::table().lines().map(|line| format!("  {line}\n")).collect::<String>()
    )
}

/// A host to be looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DoctorWork {
    /// What the daemon is asked: how everything is, and where the groups have their state.
    pub requests: [Request; 2],
    /// The directory of the groups' state directories, when it was named.
    pub state: Option<PathBuf>,
}

/// What a daemon that answers told.
#[derive(Clone, PartialEq, Debug)]
pub struct Answering {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How everything is.
    pub overview: Overview,
    /// Volumes, each followed by its plexes and its health.
    pub rows: Vec<Row>,
    /// The state directories of the groups.
    pub groups: Vec<PathBuf>,
}

/// The links below one directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkTree {
    /// The directory.
    pub path: PathBuf,
    /// Whether it is there.
    pub there: bool,
    /// How many links started volumes should have below it.
    pub expected: usize,
    /// Those that do not lead to the device of their volume, with the name of that.
    pub wrong: Vec<(PathBuf, String)>,
}

/// All that was seen.
#[derive(Clone, PartialEq, Debug)]
pub struct Facts {
    /// This host.
    pub host: Host,
    /// The daemon, or why it does not answer.
    pub daemon: Result<Answering, Refusal>,
    /// The locked memory of the daemon, or of this process when no daemon answers.
    pub memory: LockedMemory,
    /// The directory of state directories, and those that lie elsewhere.
    pub state: Vec<(PathBuf, Result<Place, Unseen>)>,
    /// The links.
    pub links: Vec<LinkTree>,
    /// The files and disks of plexes.
    pub plexes: BTreeMap<PathBuf, Result<Place, Unseen>>,
}

impl DoctorArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of paths.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let group = options.group.clone();
        let overview = AskOverview { group: group.clone(), volume: None, events: 0 };
        let query = Query { group, objects: Vec::new(), media: true, tasks: false };
        Ok(Action::Doctor(DoctorWork {
            requests: [Request::Overview(overview), Request::Query(query)],
            state: self.state.as_deref().map(words::path).transpose()?,
        }))
    }
}

impl DoctorWork {
    /// Look, and tell what was found.
    #[must_use]
    pub fn run(&self, options: &Options) -> Answer {
        show(&judge(&self.look(options)))
    }

    fn look(&self, options: &Options) -> Facts {
        let socket = socket_path(options.socket.as_deref());
        let daemon = self.ask(&socket).map_err(|refused| *refused);
        let base = self.state.clone().or_else(|| last_state(&socket));
        let base = base.unwrap_or_else(|| STATE_DIRECTORY.into());
        let answering = daemon.as_ref().ok();
        let mut state = vec![base.clone()];
        // What lies below the first directory can be a mount of its own; that is rare, and `plex.*` tells of its media.
        let groups = answering.iter().flat_map(|daemon| &daemon.groups);
        state.extend(groups.filter(|directory| !directory.starts_with(&base)).cloned());
        let rows = answering.map(|daemon| daemon.rows.as_slice()).unwrap_or_default();
        let of_plexes = volumes(rows).into_iter().flat_map(|(_, plexes)| plexes);
        Facts {
            host: Host::probe(),
            memory: View::host().locked_memory(answering.map(|daemon| daemon.pid)),
            state: state.into_iter().map(|path| (path.clone(), look(&path))).collect(),
            links: ["/dev/cleave", "/dev/vx"].map(|path| tree(Path::new(path), rows)).into(),
            plexes: of_plexes.map(|plex| (plex.path.clone(), look(&plex.path))).collect(),
            daemon,
        }
    }

    fn ask(&self, socket: &Path) -> Result<Answering, Refused> {
        let mut client = Client::connect(socket, Limits::default())?;
        let mut answering = None;
        for request in &self.requests {
            let mut rows = Vec::new();
            let reply = client.call(request, |heard| {
                if let Heard::Row(row) = heard {
                    rows.push(row);
                }
            })?;
            match (&mut answering, reply) {
                (None, Reply::Overview(overview)) => {
                    let (version, pid) = (client.daemon_version().to_owned(), client.daemon_pid());
                    answering = Some(Answering { version, pid, overview, rows, groups: Vec::new() });
                }
                (Some(answering), Reply::Listed(_)) => {
                    answering.groups.extend(rows.into_iter().filter_map(|row| match row {
                        Row::Group(group) => Some(group.state_directory),
                        _ => None,
                    }));
                }
                (_, _) => return Err(Answered::unfitting()),
            }
        }
        answering.ok_or_else(Answered::unfitting)
    }
}

/// The links below `path` that started volumes among `rows` should have.
fn tree(path: &Path, rows: &[Row]) -> LinkTree {
    let mut tree = LinkTree { path: path.to_owned(), there: path.is_dir(), expected: 0, wrong: Vec::new() };
    for (volume, _) in volumes(rows) {
        let Some(node) = &volume.device else { continue };
        let (group, name) = (&volume.group, &volume.volume);
        let long = ["dsk", "rdsk"].map(|kind| PathBuf::from(format!("/dev/vx/{kind}/{group}/{name}")));
        let mut links = vec![device(group, name)];
        links.extend(long.into_iter().chain(volume.links.iter().cloned()));
        links.retain(|link| link.starts_with(path));
        links.sort_unstable();
        links.dedup();
        tree.expected += links.len();
        links.retain(|link| !leads_to(link, node));
        tree.wrong.extend(links.into_iter().map(|link| (link, format!("{group}/{name}"))));
    }
    tree
}

/// The findings as the result.
#[must_use]
pub fn show(findings: &[Finding]) -> Answer {
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let mut text = String::new();
    for Finding { id, level, object, found, way_out } in findings {
        let way_out = if way_out.is_empty() { String::new() } else { format!("; {way_out}") };
        let line = format!("{level:<4}  {:<16}  {object}: {found}{way_out}", id.id());
        text += &format!("{}\n", clean(line));
    }
    let many = |level, noun| count(findings.iter().filter(|finding| finding.level == level).count(), noun);
    text += &format!(
        "{}, {}, {}, {}\n",
        many(Level::Fail, "failure"),
        many(Level::Warn, "warning"),
        many(Level::Note, "note"),
        many(Level::Ok, "good check")
    );
    let mut answer = Answer::listing(json!({ "level": to_json(&worst), "checks": to_json(&findings) }), text);
    answer.code = match worst {
        Level::Ok | Level::Note => 0,
        Level::Warn => DEGRADED,
        Level::Fail => FAILED,
    };
    answer
}
