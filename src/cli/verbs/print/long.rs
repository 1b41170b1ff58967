//! `vxprint -l`: all of a record, on lines that each begin with what they tell of, in VxVM's words as far as they are remembered.

use super::{Record, last_part, or_dash, public_length, sectors, subdisk};
use crate::base::calendar::utc;
use crate::cli::answer::clean;
use crate::control::row::{GroupRow, MediumRow, PlexRow, SnapshotOf, VolumeRow};
use crate::control::words::{PlexMode, PlexState};
use std::path::Path;

/// The lines of a record.
pub(super) fn block(record: Record<'_>) -> String {
    let lines = match record {
        Record::Group(group) => of_group(group),
        Record::Medium(medium) => of_medium(medium),
        Record::Volume(volume, plexes) => of_volume(volume, plexes),
        Record::Plex(plex) => of_plex(plex),
        Record::Subdisk(plex) => of_subdisk(plex),
    };
    lines.iter().map(|(what, text)| format!("{:<9} {text}\n", format!("{what}:"))).collect()
}

type Line = (&'static str, String);

fn of_group(group: &GroupRow) -> Vec<Line> {
    vec![
        ("Group", group.group.to_string()),
        ("info", format!("dgid={}", group.uuid)),
        ("state", format!("volumes={} generation={}", group.volumes, group.generation)),
        ("path", clean(group.state_directory.display())),
    ]
}

fn of_medium(medium: &MediumRow) -> Vec<Line> {
    let state = if medium.online { "online" } else { "nodevice" };
    vec![
        ("Disk", medium.medium.to_string()),
        ("assoc", format!("device={} type=auto", last_part(&medium.path))),
        ("flags", state.to_owned()),
        ("device", format!("path={}", clean(medium.path.display()))),
        ("devinfo", format!("publen={} free={}", or_dash(public_length(medium)), sectors(medium.free_bytes))),
    ]
}

fn of_volume(volume: &VolumeRow, plexes: &[&PlexRow]) -> Vec<Line> {
    let names: Vec<&str> = plexes.iter().map(|plex| plex.plex.as_str()).collect();
    let prefer = volume.preferred_plex.as_ref().map_or_else(String::new, |plex| format!(" ({plex})"));
    let device = match &volume.device {
        Some(device) => format!(
            "bdev={} cdev={} path={}",
            link(volume, "/dev/vx/dsk"),
            link(volume, "/dev/vx/rdsk"),
            clean(device.display())
        ),
        None => "-".to_owned(),
    };
    let mut lines = vec![
        ("Volume", volume.volume.to_string()),
        ("info", format!("len={}", sectors(volume.length_bytes))),
        ("type", "usetype=fsgen".to_owned()),
        ("state", format!("state={} kernel={}", volume.state, volume.kernel_state)),
        ("assoc", format!("plexes={}", if names.is_empty() { "-".to_owned() } else { names.join(",") })),
        ("policies", format!("read={}{prefer}", volume.read_policy)),
        ("logging", "type=REGION".to_owned()),
        ("device", device),
        ("guid", volume.uuid.to_string()),
    ];
    lines.extend(volume.snapshot.as_ref().map(|snapshot| ("snapshot", of_snapshot(volume, snapshot))));
    lines.extend(volume.notes.iter().map(|note| ("note", clean(note))));
    lines
}

fn of_snapshot(volume: &VolumeRow, snapshot: &SnapshotOf) -> String {
    format!(
        "source={} grade={} dirty={} taken={}",
        snapshot.source,
        snapshot.grade,
        sectors(snapshot.dirty_regions.saturating_mul(volume.region_bytes)),
        utc(snapshot.taken_ms)
    )
}

fn link(volume: &VolumeRow, tree: &str) -> String {
    let found = volume.links.iter().find(|link| link.starts_with(Path::new(tree)));
    or_dash(found.map(|link| clean(link.display())))
}

fn of_plex(plex: &PlexRow) -> Vec<Line> {
    let io = match plex.mode {
        PlexMode::ReadWrite => "read-write",
        PlexMode::WriteOnly => "write-only",
        PlexMode::ReadOnly => "read-only",
    };
    let complete = matches!(plex.state, PlexState::Active | PlexState::Clean | PlexState::Snapdone);
    let mut lines = vec![
        ("Plex", plex.plex.to_string()),
        ("info", format!("len={}", sectors(plex.length_bytes))),
        ("type", "layout=CONCAT".to_owned()),
        ("state", format!("state={} kernel={} io={io}", plex.state, plex.kernel_state)),
        ("assoc", format!("vol={} sd={}", or_dash(plex.volume.as_ref()), subdisk(plex))),
        ("flags", if complete { "complete" } else { "incomplete" }.to_owned()),
        ("guid", plex.uuid.to_string()),
    ];
    lines.extend(plex.fault.as_ref().map(|fault| ("fault", clean(fault))));
    lines
}

fn of_subdisk(plex: &PlexRow) -> Vec<Line> {
    let failed = plex.state == PlexState::Iofail;
    vec![
        ("Subdisk", subdisk(plex)),
        (
            "info",
            format!("disk={} offset=0 len={}", or_dash(plex.medium.as_ref()), sectors(plex.length_bytes)),
        ),
        ("assoc", format!("vol={} plex={} (offset=0)", or_dash(plex.volume.as_ref()), plex.plex)),
        ("flags", if failed { "failed" } else { "enabled" }.to_owned()),
        ("device", format!("device={} path={}", last_part(&plex.path), clean(plex.path.display()))),
    ]
}
