//! `vxassist`: makes volumes, mirrors and snapshots.

use super::Applet;
use super::elsewhere;
use super::words::{Words, attributes, missing, too_many, value};
use crate::base::{Kind, Refusal, Refused};
use crate::cli::hooks::{HOOK_LIMIT_S, Hooks};
use crate::cli::plan::{Action, Options};
use crate::cli::verbs::placement::Placement;
use crate::cli::verbs::{make, mirror, resize, restore, rm, snapback, snapclear, snapprint, snapshot};
use crate::cli::words::{clip, name, names, path, plex_count, region, size, unknown};
use crate::control::Request;
use crate::control::request::{
    Make, Mirror, Remove, RemoveMirror, Restore, SnapAbort, SnapBack, SnapStart, SnapWait,
};
use crate::control::words::{DataPath, Init};

pub(super) const FLAGS: &str = "bfg:o:";

pub(super) const HELP: &str = "\
vxassist [-g GROUP] [-b] [-f] [-o OPTION,...] KEYWORD ...
  make VOLUME LENGTH [layout=mirror] [nmirror=N] [MEDIUM|PATH ...]   make a volume, start it, make its plexes equal
  mirror VOLUME [nmirror=N] [MEDIUM|PATH ...]                        add mirrors
  snapstart VOLUME [nmirror=N] [MEDIUM|PATH ...]                     add a snapshot mirror and copy it
  snapwait VOLUME [nmirror=N]                                        wait until it is SNAPDONE
  snapshot VOLUME [SNAPVOLUME] [nmirror=N]                           break it off as a volume
  snapshot VOLUME VOLUME VOLUME ...                                  several at one cut; two need -o name=
  snapshot ... pre=COMMAND post=COMMAND                              run before the cut, and always behind it
  snapback SNAPVOLUME ... [nmirror=N]                                give its plex back; all are checked before the first goes
  snapabort VOLUME [nmirror=N]                                       remove a snapshot mirror
  snapclear SNAPVOLUME | snapclear VOLUME SNAPOBJECT                 end its relation to its origin
  snapprint [VOLUME]                                                 list snapshots and what has changed since
  growto|growby VOLUME LENGTH                                        make it longer, also while it is in use
  shrinkto|shrinkby VOLUME LENGTH                                    make it shorter while it is stopped
  remove volume VOLUME ... | remove mirror VOLUME [PLEX]             remove a stopped volume, or a plex
  -b in the background; -f also where a foreign file system is found, or what is cut off is not known
  -o for snapshot: consistency=crash|fs|app, name=PATTERN (%v volume, %d number), allvols; for snapback: allplexes,
     resyncfromreplica (overwrite the origin from the snapshot), nosafety (keep no undo archive then)
  more attributes of make, mirror and snapstart: alloc=MEDIUM,... sparse=yes|no
  more attributes of make: regionsize=SIZE init=sync|zero|active data=auto|copy|zero usetype=fsgen
  also --json, --socket PATH, --help
";

const KEYWORDS: [&str; 14] = [
    "make",
    "mirror",
    "snapstart",
    "snapwait",
    "snapshot",
    "snapback",
    "snapabort",
    "snapclear",
    "snapprint",
    "growto",
    "growby",
    "shrinkto",
    "shrinkby",
    "remove",
];

const HELP_COMMAND: &str = "vxassist --help";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let Some((keyword, rest)) = words.operands.split_first() else {
        return Err(missing("keyword", Applet::Vxassist));
    };
    if !words.options.is_empty() && !matches!(keyword.as_str(), "snapshot" | "snapback") {
        return Err(unknown("option", &words.options[0], [], HELP_COMMAND));
    }
    let asked = Asked { options, words };
    match keyword.as_str() {
        "make" => asked.make(rest),
        "mirror" => asked.mirror(rest),
        "snapstart" => asked.snapstart(rest),
        "snapwait" => asked.snapwait(rest),
        "snapshot" => asked.snapshot(rest),
        "snapback" => asked.snapback(rest),
        "snapabort" => asked.snapabort(rest),
        "snapclear" => asked.snapclear(rest),
        "snapprint" => match rest {
            [] => snapprint::action(options, None),
            [volume] => snapprint::action(options, Some(volume)),
            [_, word, ..] => Err(too_many(word, Applet::Vxassist)),
        },
        "growto" | "growby" | "shrinkto" | "shrinkby" => asked.resize(keyword, rest),
        "remove" => asked.remove(rest),
        _ => Err(elsewhere::keyword(Applet::Vxassist, keyword, KEYWORDS)),
    }
}

struct Asked<'a> {
    options: &'a Options,
    words: &'a Words,
}

/// How many plexes, and where.
type Placed = (u32, Placement);

impl Asked<'_> {
    fn make(&self, rest: &[String]) -> Result<Action, Refused> {
        let known = ["nmirror", "layout", "alloc", "sparse", "regionsize", "init", "data", "usetype"];
        let (operands, found) = attributes(rest, &known, HELP_COMMAND)?;
        let [volume, length, media @ ..] = operands.as_slice() else {
            let what = if operands.is_empty() { "volume" } else { "length" };
            return Err(missing(what, Applet::Vxassist));
        };
        let choose = |key: &str, choices: &[&str]| match value(&found, key) {
            None => Ok(choices[0].to_owned()),
            Some(word) if choices.contains(&word) => Ok(word.to_owned()),
            Some(word) => {
                Err(unknown(&format!("value of {key}"), word, choices.iter().copied(), HELP_COMMAND))
            }
        };
        choose("usetype", &["fsgen"])?;
        let (nmirror, placement) = self.placed(&found, media, mirrored(&found)?)?;
        let request = Make {
            group: self.options.group(),
            volume: name(volume)?,
            length_bytes: size(length)?,
            nmirror,
            media: placement.media,
            plexes: placement.plexes,
            sparse: placement.sparse,
            region: value(&found, "regionsize").map(region).transpose()?,
            init: Init::from_word(&choose("init", &["sync", "zero", "active"])?).unwrap_or(Init::Sync),
            data: DataPath::from_word(&choose("data", &["auto", "copy", "zero"])?).unwrap_or(DataPath::Auto),
            force: placement.force,
        };
        Ok(match self.words.has('b') {
            true => Action::ask(Request::Make(request), make::show),
            false => make::until_equal(request),
        })
    }

    fn mirror(&self, rest: &[String]) -> Result<Action, Refused> {
        let (volume, (nmirror, placement)) = self.attached(rest)?;
        let request = Mirror {
            group: self.options.group(),
            volume: name(&volume)?,
            nmirror,
            media: placement.media,
            plexes: placement.plexes,
            sparse: placement.sparse,
            bytes_per_second: None,
            latency_us: None,
            background: self.words.has('b'),
            force: placement.force,
        };
        Ok(Action::ask(Request::Mirror(request), |answered| mirror::attached(&answered, "in step")))
    }

    fn snapstart(&self, rest: &[String]) -> Result<Action, Refused> {
        let (volume, (nmirror, placement)) = self.attached(rest)?;
        let request = SnapStart {
            group: self.options.group(),
            volume: name(&volume)?,
            nmirror,
            media: placement.media,
            plexes: placement.plexes,
            sparse: placement.sparse,
            bytes_per_second: None,
            latency_us: None,
            background: self.words.has('b'),
            force: placement.force,
        };
        Ok(Action::ask(Request::SnapStart(request), |answered| mirror::attached(&answered, "SNAPDONE")))
    }

    fn snapwait(&self, rest: &[String]) -> Result<Action, Refused> {
        let (volume, nmirror) = one_and_count(rest)?;
        let request =
            SnapWait { group: self.options.group(), volume: name(&volume)?, nmirror: nmirror.unwrap_or(1) };
        Ok(Action::ask(Request::SnapWait(request), |answered| mirror::attached(&answered, "SNAPDONE")))
    }

    fn snapshot(&self, rest: &[String]) -> Result<Action, Refused> {
        let (volumes, found) = attributes(rest, &["nmirror", "pre", "post"], HELP_COMMAND)?;
        let nmirror = value(&found, "nmirror").map_or(Ok(1), plex_count)?;
        let cut = snapshot::CutOptions::parse(&self.words.options, HELP_COMMAND)?;
        let command = |key| value(&found, key).map(str::to_owned);
        let hooks = Hooks { pre: command("pre"), post: command("post"), limit_s: HOOK_LIMIT_S };
        snapshot::action(self.options, &volumes, cut, nmirror, hooks, HELP_COMMAND)
    }

    fn snapback(&self, rest: &[String]) -> Result<Action, Refused> {
        let (snapshots, found) = attributes(rest, &["nmirror"], HELP_COMMAND)?;
        let Some(snapshot) = snapshots.first() else { return Err(missing("volume", Applet::Vxassist)) };
        let count = value(&found, "nmirror").map(plex_count).transpose()?;
        let (mut all, mut restores, mut safety) = (false, false, true);
        for option in &self.words.options {
            match option.as_str() {
                "allplexes" => all = true,
                "resyncfromreplica" => restores = true,
                "nosafety" => safety = false,
                other => {
                    let known = ["allplexes", "resyncfromreplica", "nosafety"];
                    return Err(unknown("option of snapback", other, known, HELP_COMMAND));
                }
            }
        }
        let conflict = |word: &str, reason: &str| {
            Err(Refusal::new(Kind::Usage, "argument.conflict", word, reason, "give one of both"))
        };
        if all && count.is_some() {
            return conflict("allplexes", "cannot stand with nmirror=");
        }
        if !safety && !restores {
            return conflict("nosafety", "stands with resyncfromreplica alone");
        }
        let nmirror = if all { None } else { Some(count.unwrap_or(1)) };
        if restores {
            if let Some(word) = snapshots.get(1) {
                return Err(too_many(word, Applet::Vxassist));
            }
            let request = Restore {
                group: self.options.group(),
                snapshot: name(snapshot)?,
                nmirror,
                safety,
                dry_run: false,
                bytes_per_second: None,
                background: self.words.has('b'),
            };
            return Ok(Action::ask(Request::Restore(request), |answered| restore::show(&answered)));
        }
        let first = SnapBack {
            group: self.options.group(),
            snapshot: name(snapshot)?,
            nmirror,
            bytes_per_second: None,
            latency_us: None,
            background: self.words.has('b'),
        };
        snapback::in_turn(&snapshots, &first)
    }

    fn snapabort(&self, rest: &[String]) -> Result<Action, Refused> {
        let (volume, nmirror) = one_and_count(rest)?;
        let request =
            SnapAbort { group: self.options.group(), volume: name(&volume)?, nmirror: nmirror.unwrap_or(1) };
        Ok(Action::ask(Request::SnapAbort(request), |answered| rm::removed(&answered)))
    }

    fn snapclear(&self, rest: &[String]) -> Result<Action, Refused> {
        let (snapshot, other) = match rest {
            [] => return Err(missing("volume", Applet::Vxassist)),
            [snapshot] => (name(snapshot)?, None),
            // An object of the relation bears the name of the volume at its other end.
            [volume, object] => (name(object.strip_suffix("_snp").unwrap_or(object))?, Some(name(volume)?)),
            [_, _, word, ..] => return Err(too_many(word, Applet::Vxassist)),
        };
        Ok(snapclear::clear(self.options, snapshot, other))
    }

    fn resize(&self, keyword: &str, rest: &[String]) -> Result<Action, Refused> {
        match rest {
            [] => Err(missing("volume", Applet::Vxassist)),
            [_] => Err(missing("length", Applet::Vxassist)),
            [volume, length] => {
                let length = resize::of_keyword(keyword, length)?;
                resize::action(self.options, volume, length, self.words.has('f'))
            }
            [_, _, word, ..] => Err(too_many(word, Applet::Vxassist)),
        }
    }

    fn remove(&self, rest: &[String]) -> Result<Action, Refused> {
        let Some((what, objects)) = rest.split_first() else {
            return Err(missing("volume or mirror", Applet::Vxassist));
        };
        let group = self.options.group();
        match (what.as_str(), objects) {
            (_, []) => Err(missing("volume", Applet::Vxassist)),
            ("volume", volumes) => {
                let requests = names(volumes)?.into_iter().map(|object| {
                    let force = self.words.has('f');
                    Request::Remove(Remove { group: group.clone(), object, recursive: true, force })
                });
                Ok(Action::ask_each(requests.collect(), |answered| rm::removed(&answered)))
            }
            ("mirror", [volume, plex @ ..]) => {
                if let Some(word) = plex.get(1) {
                    return Err(too_many(word, Applet::Vxassist));
                }
                let plex = plex.first().map(|plex| name(plex)).transpose()?;
                let request = RemoveMirror { group, volume: Some(name(volume)?), plex };
                Ok(Action::ask(Request::RemoveMirror(request), |answered| rm::removed(&answered)))
            }
            (other, _) => Err(unknown("object to remove", other, ["volume", "mirror"], HELP_COMMAND)),
        }
    }

    /// The volume, and the plexes that `mirror` and `snapstart` add to it.
    fn attached(&self, rest: &[String]) -> Result<(String, Placed), Refused> {
        let (operands, found) = attributes(rest, &["nmirror", "alloc", "sparse"], HELP_COMMAND)?;
        let Some((volume, media)) = operands.split_first() else {
            return Err(missing("volume", Applet::Vxassist));
        };
        Ok((volume.clone(), self.placed(&found, media, None)?))
    }

    /// How many plexes and where: words with a slash are paths of plexes, others names of media.
    fn placed(
        &self,
        found: &[(String, String)],
        words: &[String],
        layout: Option<u32>,
    ) -> Result<Placed, Refused> {
        let mut placement = Placement { force: self.words.has('f'), ..Placement::default() };
        let alloc = value(found, "alloc").unwrap_or_default();
        let listed = alloc.split([',', ' ']).filter(|word| !word.is_empty());
        for word in words.iter().map(String::as_str).chain(listed) {
            if word.contains('/') {
                placement.plexes.push(path(word)?);
            } else {
                placement.media.push(name(word)?);
            }
        }
        placement.sparse = match value(found, "sparse") {
            None | Some("no") => false,
            Some("yes") => true,
            Some(other) => return Err(unknown("value of sparse", other, ["yes", "no"], HELP_COMMAND)),
        };
        let count =
            value(found, "nmirror").map(str::to_owned).or_else(|| layout.map(|count| count.to_string()));
        let named = u32::try_from(placement.plexes.len()).unwrap_or(u32::MAX);
        Ok((make::plexes(count.as_deref(), named)?, placement))
    }
}

/// The number of plexes that `layout=` stands for, when it says one.
fn mirrored(found: &[(String, String)]) -> Result<Option<u32>, Refused> {
    let mut count = None;
    for word in value(found, "layout").unwrap_or_default().split(',').filter(|word| !word.is_empty()) {
        match word {
            "mirror" => count = Some(2),
            "nomirror" => count = Some(1),
            "concat" | "span" | "nostripe" | "nolog" => {}
            other => {
                return Err(unknown("layout", other, ["mirror", "nomirror", "concat", "span"], HELP_COMMAND));
            }
        }
    }
    match (count, value(found, "nmirror")) {
        (Some(1), Some(number)) if number != "1" => Err(Refusal::new(
            Kind::Usage,
            "argument.conflict",
            "layout=nomirror",
            format!("cannot stand with nmirror={}", clip(number)),
            "give one of both",
        )),
        _ => Ok(count),
    }
}

/// One volume, and the value of `nmirror=`.
fn one_and_count(rest: &[String]) -> Result<(String, Option<u32>), Refused> {
    let (operands, found) = attributes(rest, &["nmirror"], HELP_COMMAND)?;
    match operands.as_slice() {
        [] => Err(missing("volume", Applet::Vxassist)),
        [volume] => Ok((volume.clone(), value(&found, "nmirror").map(plex_count).transpose()?)),
        [_, word, ..] => Err(too_many(word, Applet::Vxassist)),
    }
}
