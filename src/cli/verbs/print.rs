//! `cleave print` and `vxprint`: records in VxVM's columns, at length, for vxmake, or as the words want them. Lengths are in
//! sectors of 512 bytes.

mod attributes;
mod long;
pub(in crate::cli) mod own;

use super::group::{groups, groups_json};
use crate::base::limits::SECTOR_BYTES;
use crate::base::{Name, Refused};
use crate::cli::answer::{Answer, VolumeWithPlexes, clean, volume_json, volumes};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::Request;
use crate::control::request::Query;
use crate::control::row::{GroupRow, MediumRow, PlexRow, VolumeRow};
use crate::control::words::PlexState;
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;

/// The words of `print`.
#[derive(Args, Debug)]
pub struct PrintArgs {
    /// Only these volumes or plexes [default: all of the group]
    objects: Vec<String>,
}

impl PrintArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let format = Format { hierarchy: true, typed: true, header: true, groups: true, ..Format::default() };
        action(options, &self.objects, false, format)
    }
}

/// What is printed of each record, and of which.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::cli) struct Format {
    /// `-h`: with a named object, what belongs to it.
    pub hierarchy: bool,
    /// `-t`: columns of each type of record.
    pub typed: bool,
    /// Without `-q`: heads of columns.
    pub header: bool,
    /// Without `-Q`: whether the name of the group stands above its records where none was named.
    pub groups: bool,
    /// Whether it stands there.
    pub group_line: bool,
    /// What is told of each record, and how.
    pub style: Style,
    /// The types of record, of `G` group, `d` medium, `v` volume, `p` plex, `s` subdisk; all when empty.
    pub kinds: String,
    /// The objects named; all when empty.
    pub objects: Vec<Name>,
}

/// What is told of a record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::cli) enum Style {
    /// A line of columns.
    #[default]
    Columns,
    /// `-n`: its name.
    Names,
    /// `-l`: all of it, on several lines.
    Long,
    /// `-m`: its attributes as vxmake reads them, a line each.
    Make,
    /// `-F`: what was asked for.
    Own(Vec<own::Own>),
}

impl Style {
    fn of(&self, record: Record<'_>, typed: bool) -> String {
        match self {
            Self::Columns => line(&record.columns(typed)),
            Self::Names => format!("{}\n", record.name()),
            Self::Long => long::block(record),
            Self::Make => attributes::description(record),
            Self::Own(formats) => own::line(formats, record),
        }
    }
}

/// A record of the listing.
#[derive(Clone, Copy)]
enum Record<'a> {
    Group(&'a GroupRow),
    Medium(&'a MediumRow),
    Volume(&'a VolumeRow, &'a [&'a PlexRow]),
    Plex(&'a PlexRow),
    /// A plex of Cleave is one piece of its medium, which VxVM's listings show as its one subdisk.
    Subdisk(&'a PlexRow),
}

impl Record<'_> {
    /// As in [`Format::kinds`].
    const fn kind(self) -> char {
        match self {
            Self::Group(_) => 'G',
            Self::Medium(_) => 'd',
            Self::Volume(..) => 'v',
            Self::Plex(_) => 'p',
            Self::Subdisk(_) => 's',
        }
    }

    fn name(self) -> String {
        match self {
            Self::Group(group) => group.group.to_string(),
            Self::Medium(medium) => medium.medium.to_string(),
            Self::Volume(volume, _) => volume.volume.to_string(),
            Self::Plex(plex) => plex.plex.to_string(),
            Self::Subdisk(plex) => subdisk(plex),
        }
    }

    fn columns(self, typed: bool) -> Vec<String> {
        match self {
            Self::Group(group) => group_record(group, typed),
            Self::Medium(medium) => medium_record(medium, typed),
            Self::Volume(volume, _) => volume_record(volume, typed),
            Self::Plex(plex) => plex_record(plex, typed),
            Self::Subdisk(plex) => subdisk_record(plex, typed),
        }
    }
}

impl Format {
    fn wants(&self, kind: char) -> bool {
        if self.kinds.is_empty() {
            self.objects.is_empty() || !matches!(kind, 'G' | 'd')
        } else {
            self.kinds.contains(kind)
        }
    }
}

/// Asks for `objects`, of all groups or of the one that is meant.
pub(in crate::cli) fn action(
    options: &Options,
    objects: &[String],
    all_groups: bool,
    mut format: Format,
) -> Result<Action, Refused> {
    let objects = words::names(objects)?;
    let group = if all_groups { None } else { Some(options.group()) };
    format.group_line = format.groups && options.group.is_none();
    format.objects.clone_from(&objects);
    let request = Query { group, media: objects.is_empty(), objects, tasks: false };
    Ok(Action::ask(Request::Query(request), move |answered| Ok(show(&answered, &format))))
}

fn show(answered: &Answered, format: &Format) -> Answer {
    let json = json!({
        "groups": groups_json(&answered.rows),
        "volumes": volumes(&answered.rows).iter().map(volume_json).collect::<Value>(),
    });
    Answer::listing(json, text(answered, format))
}

/// The records of an answer as text.
pub(in crate::cli) fn text(answered: &Answered, format: &Format) -> String {
    let groups = groups(&answered.rows);
    let volumes = volumes(&answered.rows);
    let mut names: Vec<&Name> = groups.iter().map(|(group, _)| &group.group).collect();
    for (volume, _) in &volumes {
        if !names.contains(&&volume.group) {
            names.push(&volume.group);
        }
    }
    let sections = names.into_iter().map(|name| {
        let group = groups.iter().find(|(group, _)| group.group == *name);
        let own: Vec<&VolumeWithPlexes<'_>> =
            volumes.iter().filter(|(volume, _)| volume.group == *name).collect();
        section(name, group, &own, format)
    });
    // What a script reads has no blank lines.
    let between = if format.header || format.style == Style::Columns { "\n" } else { "" };
    sections.collect::<Vec<_>>().join(between)
}

fn section(
    name: &Name,
    group: Option<&(&GroupRow, Vec<&MediumRow>)>,
    volumes: &[&VolumeWithPlexes<'_>],
    format: &Format,
) -> String {
    let mut head = Vec::new();
    if format.header {
        if format.group_line {
            head.push(format!("Disk group: {name}\n"));
        }
        if format.style == Style::Columns {
            head.push(heads(format));
        }
    }
    let mut blocks: Vec<Vec<Record<'_>>> = Vec::new();
    if let Some((group, media)) = group {
        if format.wants('G') {
            blocks.push(vec![Record::Group(group)]);
        }
        if format.wants('d') {
            blocks.push(media.iter().map(|medium| Record::Medium(medium)).collect());
        }
    }
    blocks.extend(volumes.iter().map(|(volume, plexes)| of_volume(volume, plexes, format)));
    blocks.retain(|block| !block.is_empty());
    // A blank line parts what belongs together from the next, or a long record from the next; plain lists have none.
    let (inside, between) = match &format.style {
        Style::Columns if format.hierarchy => ("", "\n"),
        Style::Long => ("\n", "\n"),
        _ => ("", ""),
    };
    let text = |record: &Record<'_>| format.style.of(*record, format.typed);
    let blocks = blocks.iter().map(|block| block.iter().map(text).collect::<Vec<_>>().join(inside));
    head.push(blocks.collect::<Vec<_>>().join(between));
    head.join("\n")
}

/// What of a volume is shown.
fn of_volume<'a>(volume: &'a VolumeRow, plexes: &'a [&'a PlexRow], format: &Format) -> Vec<Record<'a>> {
    let named = |name: &Name| format.objects.contains(name);
    let all = format.objects.is_empty();
    let mut records = Vec::new();
    let whole = all || (named(&volume.volume) && format.hierarchy);
    if format.wants('v') && (all || named(&volume.volume)) {
        records.push(Record::Volume(volume, plexes));
    }
    for plex in plexes {
        if format.wants('p') && (whole || named(&plex.plex)) {
            records.push(Record::Plex(plex));
        }
        if format.wants('s') && (whole || (named(&plex.plex) && format.hierarchy)) {
            records.push(Record::Subdisk(plex));
        }
    }
    records
}

const HEAD_ANY: [&str; 9] =
    ["TY", "NAME", "ASSOC", "KSTATE", "LENGTH", "PLOFFS", "STATE", "TUTIL0", "PUTIL0"];
const HEAD_GROUP: [&str; 6] = ["DG", "NAME", "NCONFIG", "NLOG", "MINORS", "GROUP-ID"];
const HEAD_MEDIUM: [&str; 7] = ["DM", "NAME", "DEVICE", "TYPE", "PRIVLEN", "PUBLEN", "STATE"];
const HEAD_VOLUME: [&str; 9] =
    ["V", "NAME", "RVG/VSET/CO", "KSTATE", "STATE", "LENGTH", "READPOL", "PREFPLEX", "UTYPE"];
const HEAD_PLEX: [&str; 9] =
    ["PL", "NAME", "VOLUME", "KSTATE", "STATE", "LENGTH", "LAYOUT", "NCOL/WID", "MODE"];
const HEAD_SUBDISK: [&str; 9] =
    ["SD", "NAME", "PLEX", "DISK", "DISKOFFS", "LENGTH", "[COL/]OFF", "DEVICE", "MODE"];

/// Widths of VxVM's columns, the last one open.
const WIDTHS: [usize; 8] = [2, 12, 12, 8, 8, 8, 9, 8];

fn heads(format: &Format) -> String {
    let own = |cells: &[&str]| line(&cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    if !format.typed {
        return own(&HEAD_ANY);
    }
    let heads: [(char, &[&str]); 5] = [
        ('G', &HEAD_GROUP),
        ('d', &HEAD_MEDIUM),
        ('v', &HEAD_VOLUME),
        ('p', &HEAD_PLEX),
        ('s', &HEAD_SUBDISK),
    ];
    heads.iter().filter(|(kind, _)| format.wants(*kind)).map(|(_, cells)| own(cells)).collect()
}

fn line(cells: &[String]) -> String {
    let mut text = String::new();
    for (at, cell) in cells.iter().enumerate() {
        let width = WIDTHS.get(at).copied().unwrap_or(0);
        text += &format!("{cell:<width$} ");
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn record<const N: usize>(cells: [&dyn std::fmt::Display; N]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

fn sectors(bytes: u64) -> u64 {
    bytes / SECTOR_BYTES
}

fn last_part(path: &Path) -> String {
    clean(path.file_name().unwrap_or(path.as_os_str()).display())
}

/// The public length of a medium: not known of a directory, which has as much as its file system gives.
fn public_length(medium: &MediumRow) -> Option<u64> {
    (medium.length_bytes > 0).then(|| sectors(medium.length_bytes))
}

fn or_dash(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn subdisk(plex: &PlexRow) -> String {
    format!("{}-sd", plex.plex)
}

fn group_record(group: &GroupRow, typed: bool) -> Vec<String> {
    if typed {
        record([&"dg", &group.group, &"default", &"default", &0, &group.uuid])
    } else {
        record([&"dg", &group.group, &group.group, &"-", &"-", &"-", &"-", &"-", &"-"])
    }
}

fn medium_record(medium: &MediumRow, typed: bool) -> Vec<String> {
    let (device, length) = (last_part(&medium.path), or_dash(public_length(medium)));
    let state = if medium.online { "-" } else { "NODEVICE" };
    if typed {
        record([&"dm", &medium.medium, &device, &"auto", &"-", &length, &state])
    } else {
        record([&"dm", &medium.medium, &device, &"-", &length, &"-", &state, &"-", &"-"])
    }
}

fn volume_record(volume: &VolumeRow, typed: bool) -> Vec<String> {
    let (name, kernel, state) = (&volume.volume, volume.kernel_state, volume.state);
    let length = sectors(volume.length_bytes);
    if !typed {
        return record([&"v", name, &"fsgen", &kernel, &length, &"-", &state, &"-", &"-"]);
    }
    let preferred = volume.preferred_plex.as_ref().map_or("-", Name::as_str);
    record([&"v", name, &"-", &kernel, &state, &length, &volume.read_policy, &preferred, &"fsgen"])
}

fn plex_record(plex: &PlexRow, typed: bool) -> Vec<String> {
    let volume = plex.volume.as_ref().map_or("-", Name::as_str);
    let (kernel, state, length) = (plex.kernel_state, plex.state, sectors(plex.length_bytes));
    if typed {
        record([&"pl", &plex.plex, &volume, &kernel, &state, &length, &"CONCAT", &"-", &plex.mode])
    } else {
        record([&"pl", &plex.plex, &volume, &kernel, &length, &"-", &state, &"-", &"-"])
    }
}

fn subdisk_record(plex: &PlexRow, typed: bool) -> Vec<String> {
    let name = subdisk(plex);
    let length = sectors(plex.length_bytes);
    if !typed {
        return record([&"sd", &name, &plex.plex, &plex.kernel_state, &length, &0, &"-", &"-", &"-"]);
    }
    let medium = plex.medium.as_ref().map_or("-", Name::as_str);
    let mode = if plex.state == PlexState::Iofail { "FAIL" } else { "ENA" };
    record([&"sd", &name, &plex.plex, &medium, &0, &length, &0, &last_part(&plex.path), &mode])
}
