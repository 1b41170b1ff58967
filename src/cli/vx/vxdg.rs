//! `vxdg`: makes, lists and removes groups.

use super::Applet;
use super::elsewhere;
use super::words::{Words, missing, too_many};
use crate::base::Refused;
use crate::cli::answer::Answer;
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::verbs::group::{changed, exported, groups, groups_json, import, medium};
use crate::cli::words::name;
use crate::control::Request;
use crate::control::request::{
    GroupAdd, GroupCreate, GroupDestroy, GroupExport, GroupRemove, MediumSpec, Query,
};
use serde_json::json;

pub(super) const FLAGS: &str = "qg:n:";

pub(super) const HELP: &str = "\
vxdg init GROUP [[NAME=]DISK ...]   make a group on disks or directories; sdb is /dev/sdb
vxdg -g GROUP adddisk [NAME=]DISK ...   give it further ones
vxdg [-q] list [GROUP]              list groups; -q without a head
vxdg -g GROUP rmdisk NAME ...       give disks of it up on which no plex lies
vxdg destroy GROUP                  remove a group that has no volumes
vxdg deport GROUP                   give a group up here; all its volumes are stopped
vxdg [-n NEW] import GROUP          take it in from the disks of this host, perhaps by another name
  a group on files, or whose disks bear no labels: see cleave group import, cleave group restore
  also --json, --socket PATH, --help
";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let (keyword, rest) = words.operands.split_first().ok_or_else(|| missing("keyword", Applet::Vxdg))?;
    match (keyword.as_str(), rest) {
        ("init" | "destroy" | "deport" | "import", []) => Err(missing("group", Applet::Vxdg)),
        ("init", [group, media @ ..]) => {
            let request = GroupCreate { group: name(group)?, media: disks(media)? };
            Ok(Action::ask(Request::GroupCreate(request), |answered| changed(&answered, "")))
        }
        ("adddisk" | "rmdisk", []) => Err(missing("disk", Applet::Vxdg)),
        ("adddisk", media) => {
            let request = GroupAdd { group: options.group(), media: disks(media)? };
            Ok(Action::ask(Request::GroupAdd(request), |answered| changed(&answered, "")))
        }
        ("rmdisk", media) => {
            let remove = |medium: &String| {
                Ok(Request::GroupRemove(GroupRemove { group: options.group(), medium: name(medium)? }))
            };
            let requests = media.iter().map(remove).collect::<Result<_, Refused>>()?;
            Ok(Action::ask_each(requests, |answered| changed(&answered, "")))
        }
        ("deport", [group]) => {
            let request = GroupExport { group: name(group)? };
            Ok(Action::ask(Request::GroupExport(request), |answered| exported(&answered)))
        }
        ("import", [group]) => import(&[], name(group)?, words.value('n')),
        ("destroy", [group]) => {
            let request = GroupDestroy { group: name(group)? };
            Ok(Action::ask(Request::GroupDestroy(request), |answered| changed(&answered, "")))
        }
        ("list", [] | [_]) => {
            let request = match rest.first() {
                None => Request::GroupList,
                Some(group) => {
                    let group = Some(name(group)?);
                    Request::Query(Query { group, media: true, objects: Vec::new(), tasks: false })
                }
            };
            let head = !words.has('q');
            Ok(Action::ask(request, move |answered| Ok(show(&answered, head))))
        }
        ("destroy" | "deport" | "import" | "list", [_, word, ..]) => Err(too_many(word, Applet::Vxdg)),
        (other, _) => {
            let known = ["init", "adddisk", "rmdisk", "list", "destroy", "deport", "import"];
            Err(elsewhere::keyword(Applet::Vxdg, other, known))
        }
    }
}

/// Disks as VxVM names them: a word without a slash is a device's name in `/dev`.
fn disks(words: &[String]) -> Result<Vec<MediumSpec>, Refused> {
    let in_dev = |word: &String| match word.rsplit_once('=') {
        _ if word.contains('/') => word.clone(),
        Some((_, "")) => word.clone(),
        Some((name, device)) => format!("{name}=/dev/{device}"),
        None => format!("/dev/{word}"),
    };
    words.iter().map(|word| medium(&in_dev(word))).collect()
}

fn show(answered: &Answered, head: bool) -> Answer {
    let mut text = String::from(if head { "NAME         STATE           ID\n" } else { "" });
    for (group, _) in groups(&answered.rows) {
        text += &format!("{:<12} {:<15} {}\n", group.group, "enabled", group.uuid);
    }
    Answer::listing(json!({ "groups": groups_json(&answered.rows) }), text)
}
