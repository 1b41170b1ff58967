//! Groups as they are shown: rows of `vxprint -ht`, and what `cleave list` and `cleave show` tell.

use serde::{Deserialize, Serialize};

use super::group::{Group, Plex, ReadPolicy, Volume};
use super::medium::MediumKind;
use super::plex::{KernelState, PlexMode, PlexState};
use super::snapshot::{Grade, Resync};
use super::volume::VolumeState;
use crate::base::limits::SECTOR_BYTES;
use crate::base::{Name, Refused, Uuid};

/// A line of a table, cell by cell; the first line of each kind is its heading.
pub type Row = Vec<String>;

/// The rows of `vxprint -ht`: headings, the group, its media, then each volume with its plexes and where they lie.
/// Lengths and offsets are in sectors of 512 bytes. `volumes` chooses some; empty is all.
///
/// # Errors
/// `volume.unknown`.
pub fn vxprint_ht(group: &Group, volumes: &[&str]) -> Result<Vec<Row>, Refused> {
    let mut rows = Vec::new();
    let chosen: Vec<&Volume> = if volumes.is_empty() {
        rows.push(row(&["DG", "NAME", "NCONFIG", "NLOG", "MINORS", "GROUP-ID"]));
        rows.push(row(&["DM", "NAME", "DEVICE", "TYPE", "PRIVLEN", "PUBLEN", "STATE"]));
        group.volumes().iter().collect()
    } else {
        volumes.iter().map(|name| group.volume(name)).collect::<Result<_, _>>()?
    };
    rows.push(row(&[
        "V",
        "NAME",
        "RVG/VSET/CO",
        "KSTATE",
        "STATE",
        "LENGTH",
        "READPOL",
        "PREFPLEX",
        "UTYPE",
    ]));
    rows.push(row(&["PL", "NAME", "VOLUME", "KSTATE", "STATE", "LENGTH", "LAYOUT", "NCOL/WID", "MODE"]));
    rows.push(row(&["SD", "NAME", "PLEX", "DISK", "DISKOFFS", "LENGTH", "[COL/]OFF", "DEVICE", "MODE"]));
    if volumes.is_empty() {
        let id = group.uuid().to_string();
        rows.push(row(&["dg", group.name().as_str(), "default", "default", "0", &id]));
        for medium in group.media() {
            let kind = if medium.block { "block" } else { "dir" };
            rows.push(row(&["dm", medium.path.file_name(), medium.path.as_str(), kind, "-", "-", "-"]));
        }
    }
    for volume in chosen {
        rows.push(volume_row(volume));
        for plex in volume.plexes() {
            rows.push(plex_row(volume, plex));
            rows.push(subdisk_row(volume, plex));
        }
    }
    Ok(rows)
}

fn row(cells: &[&str]) -> Row {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn volume_row(volume: &Volume) -> Row {
    let (policy, preferred) = match volume.read_policy() {
        ReadPolicy::Round => ("ROUND", "-"),
        ReadPolicy::Select => ("SELECT", "-"),
        ReadPolicy::Prefer(plex) => ("PREFER", plex.as_str()),
    };
    let state = volume.state();
    let length = (volume.length() / SECTOR_BYTES).to_string();
    let kernel = state.kernel().to_string();
    row(&["v", volume.name().as_str(), "-", &kernel, state.word(), &length, policy, preferred, "fsgen"])
}

fn plex_row(volume: &Volume, plex: &Plex) -> Row {
    let kernel = plex.kernel(volume.state().kernel()).to_string();
    let length = (volume.length() / SECTOR_BYTES).to_string();
    let (name, owner) = (plex.name().as_str(), volume.name().as_str());
    row(&["pl", name, owner, &kernel, plex.state().word(), &length, "CONCAT", "-", &plex.mode().to_string()])
}

/// A plex lies in one piece from offset 0 of its medium, so it has one subdisk.
fn subdisk_row(volume: &Volume, plex: &Plex) -> Row {
    let path = &plex.medium().path;
    let disk = match plex.medium().kind {
        MediumKind::Block => path.file_name(),
        MediumKind::Made | MediumKind::Foreign | MediumKind::Image => {
            path.as_str().rsplit('/').nth(1).unwrap_or_default()
        }
    };
    let name = format!("{}-sd", plex.name());
    let length = (volume.length() / SECTOR_BYTES).to_string();
    row(&["sd", &name, plex.name().as_str(), disk, "0", &length, "0", path.file_name(), "ENA"])
}

/// A volume as it is told to people and programs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Its name.
    pub name: Name,
    /// Its identity.
    pub uuid: Uuid,
    /// Its length in bytes.
    pub length: u64,
    /// Bytes a region of its change maps.
    pub region_bytes: u64,
    /// Logical block size in bytes.
    pub block_size: u32,
    /// Its kernel state.
    pub kernel: KernelState,
    /// Its state.
    pub state: VolumeState,
    /// N of its `/dev/ublkbN`, also while it is stopped.
    pub device: Option<u32>,
    /// Which plex serves reads.
    pub read_policy: ReadPolicy,
    /// The volume that it is a snapshot of.
    pub origin: Option<Name>,
    /// Whether its intent map was lost.
    pub intent_lost: bool,
    /// The resync under way, or waiting for the next start.
    pub resync: Option<Resync>,
    /// Its plexes, oldest first.
    pub plexes: Vec<PlexInfo>,
    /// Its snapshot volumes, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
}

/// A plex as it is told to people and programs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlexInfo {
    /// Its name.
    pub name: Name,
    /// Its identity.
    pub uuid: Uuid,
    /// Its kernel state.
    pub kernel: KernelState,
    /// Its state.
    pub state: PlexState,
    /// Its mode.
    pub mode: PlexMode,
    /// The file or block device that it lies on.
    pub path: String,
    /// What that is.
    pub kind: MediumKind,
    /// Whether its space is taken only as it is written.
    pub sparse: bool,
    /// The map of what it lacks.
    pub map: Option<Uuid>,
}

/// A snapshot volume as its origin tells of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: Name,
    /// Its identity.
    pub uuid: Uuid,
    /// The consistency reached.
    pub grade: Grade,
    /// When it was cut, in seconds since 1970-01-01 UTC.
    pub cut_unix_s: i64,
    /// How long writes were held, in nanoseconds.
    pub hold_ns: u64,
    /// How long the file system was frozen, in nanoseconds.
    pub frozen_ns: u64,
    /// The map of what the origin changed since.
    pub origin_map: Uuid,
    /// The map of what the snapshot volume changed since.
    pub snapshot_map: Uuid,
}

/// What there is to tell of `volume`.
#[must_use]
pub fn describe(group: &Group, volume: &Volume) -> VolumeInfo {
    let kernel = volume.state().kernel();
    let plexes = volume.plexes().iter().map(|plex| PlexInfo {
        name: plex.name().clone(),
        uuid: plex.uuid(),
        kernel: plex.kernel(kernel),
        state: plex.state(),
        mode: plex.mode(),
        path: plex.medium().path.as_str().to_owned(),
        kind: plex.medium().kind,
        sparse: plex.medium().sparse,
        map: plex.map(),
    });
    let snapshots = volume.snapshots().iter().filter_map(|link| {
        let snapshot = group.volume_by_id(link.volume)?;
        Some(SnapshotInfo {
            name: snapshot.name().clone(),
            uuid: link.volume,
            grade: link.grade,
            cut_unix_s: link.cut_unix_s,
            hold_ns: link.hold_ns,
            frozen_ns: link.frozen_ns,
            origin_map: link.origin_map,
            snapshot_map: link.snapshot_map,
        })
    });
    VolumeInfo {
        name: volume.name().clone(),
        uuid: volume.uuid(),
        length: volume.length(),
        region_bytes: volume.region_size().bytes(),
        block_size: volume.block_size(),
        kernel,
        state: volume.state(),
        device: volume.device(),
        read_policy: volume.read_policy().clone(),
        origin: volume.origin().and_then(|uuid| group.volume_by_id(uuid)).map(|origin| origin.name().clone()),
        intent_lost: volume.is_intent_lost(),
        resync: volume.resync().cloned(),
        plexes: plexes.collect(),
        snapshots: snapshots.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::tests::{cut, ready_to_cut};
    use super::*;

    fn lines(group: &Group, volumes: &[&str]) -> Vec<String> {
        vxprint_ht(group, volumes).unwrap().iter().map(|row| row.join(" ")).collect()
    }

    #[test]
    fn vxprint_shows_volume_plex_and_subdisk_as_vxvm_does() {
        let group = ready_to_cut(10);
        let seen = lines(&group, &["v"]);
        let files: Vec<_> =
            group.volume("v").unwrap().plexes().iter().map(|plex| plex.medium().path.file_name()).collect();
        assert_eq!(
            seen,
            [
                "V NAME RVG/VSET/CO KSTATE STATE LENGTH READPOL PREFPLEX UTYPE",
                "PL NAME VOLUME KSTATE STATE LENGTH LAYOUT NCOL/WID MODE",
                "SD NAME PLEX DISK DISKOFFS LENGTH [COL/]OFF DEVICE MODE",
                "v v - ENABLED ACTIVE 204800 SELECT - fsgen",
                "pl v-01 v ENABLED ACTIVE 204800 CONCAT - RW",
                &format!("sd v-01-sd v-01 a 0 204800 0 {} ENA", files[0]),
                "pl v-02 v ENABLED SNAPDONE 204800 CONCAT - WO",
                &format!("sd v-02-sd v-02 b 0 204800 0 {} ENA", files[1]),
            ]
        );
        let all = lines(&group, &[]);
        assert!(all[0].starts_with("DG NAME"));
        assert!(all.iter().any(|line| line == "dm a /a dir - - -"), "{all:?}");
        assert_eq!(vxprint_ht(&group, &["w"]).unwrap_err().id, "volume.unknown");
    }

    #[test]
    fn a_stopped_volume_and_its_plexes_read_disabled() {
        let group = super::super::change::tests::empty_group();
        let group = super::super::change::tests::make(
            &group,
            "v",
            &[super::super::change::tests::below("/a"), super::super::change::tests::below("/b")],
        );
        let seen = lines(&group, &["v"]);
        assert_eq!(seen[3], "v v - DISABLED CLEAN 204800 SELECT - fsgen");
        assert_eq!(seen[4], "pl v-01 v DISABLED CLEAN 204800 CONCAT - RW");
    }

    #[test]
    fn a_description_names_both_sides_of_a_snapshot() {
        let group = cut(&ready_to_cut(10), "v", Some("tmp"), 20);
        let origin = describe(&group, group.volume("v").unwrap());
        assert_eq!(origin.snapshots[0].name.as_str(), "tmp");
        assert_eq!((origin.snapshots[0].grade, origin.snapshots[0].cut_unix_s), (Grade::Fs, 1_700_000_000));
        let snapshot = describe(&group, group.volume("tmp").unwrap());
        assert_eq!(snapshot.origin.unwrap().as_str(), "v");
        assert_eq!(snapshot.plexes[0].kernel, KernelState::Enabled);
        let text = serde_json::to_string(&origin).unwrap();
        assert_eq!(serde_json::from_str::<VolumeInfo>(&text).unwrap(), origin);
    }
}
