//! `vxmend`: takes plexes offline and online.

use super::Applet;
use super::vxplex::each;
use super::words::{Words, missing};
use crate::base::{Kind, Refusal, Refused};
use crate::cli::plan::{Action, Options};
use crate::cli::verbs::mirror;
use crate::cli::words::{names, unknown};
use crate::control::Request;
use crate::control::request::{PlexAttach, PlexRef};

pub(super) const FLAGS: &str = "g:";

pub(super) const HELP: &str = "\
vxmend [-g GROUP] off PLEX ...   take plexes out and forget what they miss
vxmend [-g GROUP] on PLEX ...    take them in again: all of them is copied, in the background
  which plex is right after a crash is said with: cleave start VOLUME --source PLEX
  also --json, --socket PATH, --help
";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let (keyword, plexes) = words.operands.split_first().ok_or_else(|| missing("keyword", Applet::Vxmend))?;
    let group = options.group();
    match (keyword.as_str(), plexes) {
        ("off" | "on", []) => Err(missing("plex", Applet::Vxmend)),
        ("off", plexes) => {
            Ok(each(names(plexes)?, |plex| Request::PlexOffline(PlexRef { group: group.clone(), plex })))
        }
        ("on", plexes) => {
            let online = |plex| {
                Request::PlexOnline(PlexAttach {
                    group: group.clone(),
                    volume: None,
                    plex,
                    bytes_per_second: None,
                    latency_us: None,
                    background: true,
                })
            };
            let requests = names(plexes)?.into_iter().map(online).collect();
            Ok(Action::ask_each(requests, |answered| mirror::attached(&answered, "online")))
        }
        ("fix", _) => Err(Refusal::new(
            Kind::Usage,
            "keyword.not-needed",
            "fix",
            "the states of plexes follow from what is known of them and are not set by hand",
            "say which plex is right with: cleave start VOLUME --source PLEX",
        )),
        (other, _) => Err(unknown("keyword", other, ["off", "on"], "vxmend --help")),
    }
}
