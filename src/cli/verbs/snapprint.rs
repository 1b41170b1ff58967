//! `cleave snapprint` and `vxassist snapprint`: volumes, their snapshots, and how far they have gone apart.

use crate::base::limits::SECTOR_BYTES;
use crate::base::{Kind, Name, Refusal, Refused};
use crate::cli::answer::{Answer, VolumeWithPlexes, to_json, volumes};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::Request;
use crate::control::request::Query;
use crate::control::row::{PlexRow, VolumeRow};
use clap::Args;
use serde::Serialize;
use serde_json::json;

/// The words of `snapprint`.
#[derive(Args, Debug)]
#[command(after_help = "\
v is a volume, ss a snapshot of it or the volume that it is a snapshot of, dp a plex that was taken
out or fell behind. %DIRTY is the part of the volume's own side that changed since they parted, of
a plex what it lacks: full regions count, however little of them was written.")]
pub struct SnapPrintArgs {
    /// Only this volume and its snapshots [default: all of the group]
    volume: Option<String>,
}

impl SnapPrintArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        action(options, self.volume.as_deref())
    }
}

/// Asks for `volume` and its snapshots, or for all.
pub(in crate::cli) fn action(options: &Options, volume: Option<&str>) -> Result<Action, Refused> {
    let volume = volume.map(words::name).transpose()?;
    let group = options.group();
    // Who its snapshots are is told by their own rows.
    let request = Query { group: Some(group.clone()), media: false, objects: Vec::new(), tasks: false };
    Ok(Action::ask(Request::Query(request), move |answered| show(&answered, &group, volume.as_ref())))
}

/// A line below a volume.
#[derive(Serialize)]
struct Part<'a> {
    /// `snapshot`, `origin` or `plex`.
    kind: &'static str,
    /// Its object in VxVM's listing.
    object: String,
    /// The volume at its other end, or of the plex.
    volume: &'a Name,
    /// The length of the volume.
    length_bytes: u64,
    /// Regions that count: changed on this side since the cut, or missing in the plex.
    dirty_regions: u64,
    /// Regions of the volume.
    regions: u64,
}

impl Part<'_> {
    /// Whole per cent, rounded up: what changed at all is not shown as nothing.
    fn percent(&self) -> u64 {
        let share = u128::from(self.dirty_regions) * 100;
        u64::try_from(share.div_ceil(u128::from(self.regions.max(1)))).unwrap_or(100)
    }
}

fn show(answered: &Answered, group: &Name, wanted: Option<&Name>) -> Result<Answer, Refused> {
    let all = volumes(&answered.rows);
    if let Some(name) = wanted
        && !all.iter().any(|(volume, _)| volume.volume == *name)
    {
        let reason = format!("group {group} has no volume of that name");
        return Err(Refusal::new(
            Kind::NotFound,
            "volume.unknown",
            name,
            reason,
            "list them with: cleave list",
        ));
    }
    let is_shown = |volume: &VolumeRow| {
        wanted.is_none_or(|name| {
            volume.volume == *name || volume.snapshot.as_ref().is_some_and(|of| of.source == *name)
        })
    };
    let shown: Vec<_> = all
        .iter()
        .filter(|(volume, _)| is_shown(volume))
        .map(|(volume, plexes)| (*volume, parts(volume, plexes, &all)))
        .collect();
    let json = shown.iter().map(|(volume, parts)| {
        json!({ "volume": volume.volume, "length_bytes": volume.length_bytes, "parts": to_json(parts) })
    });
    Ok(Answer::listing(json!({ "volumes": json.collect::<Vec<_>>() }), text(&shown)))
}

fn parts<'a>(volume: &'a VolumeRow, plexes: &[&'a PlexRow], all: &[VolumeWithPlexes<'a>]) -> Vec<Part<'a>> {
    let length_bytes = volume.length_bytes;
    let regions = length_bytes.div_ceil(volume.region_bytes.max(1));
    let related = |kind, name: &'a Name, dirty_regions| Part {
        kind,
        object: format!("{name}_snp"),
        volume: name,
        length_bytes,
        dirty_regions,
        regions,
    };
    let mut parts: Vec<_> = all
        .iter()
        .filter_map(|(other, _)| Some((*other, other.snapshot.as_ref()?)))
        .filter(|(_, of)| of.source == volume.volume)
        .map(|(snapshot, of)| related("snapshot", &snapshot.volume, of.source_regions))
        .collect();
    parts.extend(volume.snapshot.iter().map(|of| related("origin", &of.source, of.own_regions)));
    parts.extend(plexes.iter().filter(|plex| plex.dirty_regions > 0).map(|plex| Part {
        kind: "plex",
        object: plex.plex.to_string(),
        volume: &volume.volume,
        length_bytes,
        dirty_regions: plex.dirty_regions,
        regions,
    }));
    parts
}

fn text(shown: &[(&VolumeRow, Vec<Part<'_>>)]) -> String {
    let mut text = String::from(
        "V  NAME         USETYPE      LENGTH\n\
         SS SNAPOBJ      NAME         LENGTH       %DIRTY\n\
         DP NAME         VOLUME       LENGTH       %DIRTY\n",
    );
    for (volume, parts) in shown {
        let sectors = volume.length_bytes / SECTOR_BYTES;
        text += &format!("\nv  {:<12} {:<12} {sectors}\n", volume.volume, "fsgen");
        for part in parts {
            let kind = if part.kind == "plex" { "dp" } else { "ss" };
            text +=
                &format!("{kind} {:<12} {:<12} {sectors:<12} {}\n", part.object, part.volume, part.percent());
        }
    }
    text
}
