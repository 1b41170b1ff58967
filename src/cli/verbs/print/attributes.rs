//! The attributes of records by VxVM's names, as far as they are remembered: `vxprint -m` prints them as vxmake reads them, `vxprint -F`
//! one by one.

use super::{Record, last_part, or_dash, public_length, sectors, subdisk};
use crate::base::Name;
use crate::cli::answer::clean;

/// Where an attribute is shown beside `-F`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// In `-m` as it is.
    Plain,
    /// In `-m` behind a quote, which no other one ends: it goes to the end of the line.
    Text,
    /// Not in `-m`: another attribute says it there, or no vxmake could make it so.
    Apart,
}

use Shown::{Apart, Plain, Text};

/// All of them, of whatever record.
pub(super) const NAMES: [&str; 30] = [
    "assoc",
    "da_name",
    "device",
    "device_tag",
    "dgid",
    "dm_name",
    "dm_offset",
    "guid",
    "kstate",
    "layout",
    "len",
    "mode",
    "name",
    "path",
    "pl_name",
    "pl_num",
    "pl_offset",
    "plex",
    "pref_name",
    "pub_len",
    "read_pol",
    "sd",
    "sd_num",
    "state",
    "type",
    "use_type",
    "usetype",
    "v_name",
    "vol_num",
    "ncolumn",
];

type Attribute = (&'static str, Shown, String);

/// The attributes of a record in the order of `-m`; one that it has not is a dash.
fn attributes(record: Record<'_>) -> Vec<Attribute> {
    let mut all = vec![("name", Apart, record.name())];
    all.extend(match record {
        Record::Group(group) => vec![
            ("type", Apart, "dg".to_owned()),
            ("assoc", Apart, group.group.to_string()),
            ("dgid", Plain, group.uuid.to_string()),
            ("vol_num", Apart, group.volumes.to_string()),
        ],
        Record::Medium(medium) => vec![
            ("type", Apart, "dm".to_owned()),
            ("assoc", Apart, last_part(&medium.path)),
            ("da_name", Plain, last_part(&medium.path)),
            ("device_tag", Apart, last_part(&medium.path)),
            ("path", Text, clean(medium.path.display())),
            ("pub_len", Plain, or_dash(public_length(medium))),
            ("len", Apart, or_dash(public_length(medium))),
            ("state", Text, if medium.online { "-" } else { "NODEVICE" }.to_owned()),
        ],
        Record::Volume(volume, plexes) => vec![
            ("type", Apart, "v".to_owned()),
            ("assoc", Apart, "fsgen".to_owned()),
            ("use_type", Plain, "fsgen".to_owned()),
            ("usetype", Apart, "fsgen".to_owned()),
            ("kstate", Apart, volume.kernel_state.to_string()),
            ("state", Text, volume.state.to_string()),
            ("len", Plain, sectors(volume.length_bytes).to_string()),
            ("read_pol", Plain, volume.read_policy.to_string()),
            ("pref_name", Plain, or_dash(volume.preferred_plex.as_ref())),
            ("pl_num", Plain, plexes.len().to_string()),
            ("plex", Plain, names(plexes.iter().map(|plex| &plex.plex))),
            ("guid", Plain, volume.uuid.to_string()),
            ("device", Apart, or_dash(volume.device.as_ref().map(|device| clean(device.display())))),
        ],
        Record::Plex(plex) => vec![
            ("type", Apart, "pl".to_owned()),
            ("assoc", Apart, or_dash(plex.volume.as_ref())),
            ("v_name", Plain, or_dash(plex.volume.as_ref())),
            ("layout", Plain, "CONCAT".to_owned()),
            ("ncolumn", Apart, "0".to_owned()),
            ("kstate", Apart, plex.kernel_state.to_string()),
            ("state", Text, plex.state.to_string()),
            ("mode", Apart, plex.mode.to_string()),
            ("len", Plain, sectors(plex.length_bytes).to_string()),
            ("sd_num", Plain, "1".to_owned()),
            ("sd", Plain, subdisk(plex)),
            ("guid", Plain, plex.uuid.to_string()),
        ],
        Record::Subdisk(plex) => vec![
            ("type", Apart, "sd".to_owned()),
            ("assoc", Apart, plex.plex.to_string()),
            ("pl_name", Plain, plex.plex.to_string()),
            ("v_name", Apart, or_dash(plex.volume.as_ref())),
            ("kstate", Apart, plex.kernel_state.to_string()),
            ("dm_name", Plain, or_dash(plex.medium.as_ref())),
            ("dm_offset", Plain, "0".to_owned()),
            ("pl_offset", Plain, "0".to_owned()),
            ("len", Plain, sectors(plex.length_bytes).to_string()),
            ("da_name", Apart, last_part(&plex.path)),
            ("device_tag", Apart, last_part(&plex.path)),
            ("path", Text, clean(plex.path.display())),
        ],
    });
    all
}

fn names<'a>(names: impl Iterator<Item = &'a Name>) -> String {
    let names: Vec<&str> = names.map(Name::as_str).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(",") }
}

/// The value of the attribute `name`, a dash where the record has none.
pub(super) fn value(record: Record<'_>, name: &str) -> String {
    let all = attributes(record);
    or_dash(all.into_iter().find(|(own, ..)| *own == name).map(|(.., value)| value))
}

/// The record as a description for vxmake.
pub(super) fn description(record: Record<'_>) -> String {
    let word = match record {
        Record::Group(_) => "dg",
        Record::Medium(_) => "dm",
        Record::Volume(..) => "vol",
        Record::Plex(_) => "plex",
        Record::Subdisk(_) => "sd",
    };
    let mut text = format!("{word} {}\n", record.name());
    for (name, shown, value) in attributes(record) {
        match shown {
            Apart => {}
            Plain | Text if value == "-" => {}
            Plain => text += &format!("\t{name}={value}\n"),
            Text => text += &format!("\t{name}=\"{value}\n"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Uuid;
    use crate::control::row::{GroupRow, MediumRow, PlexRow, VolumeRow};
    use crate::control::words::{DataPath, KernelState, PlexMode, PlexState, ReadPolicy, VolumeState};
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_an_attribute_of_some_record_and_every_attribute_has_its_name_there() {
        let name = |text| Name::new(text).unwrap();
        let group = GroupRow {
            group: name("dg"),
            uuid: Uuid::NIL,
            state_directory: "/s".into(),
            volumes: 1,
            generation: 1,
        };
        let medium = MediumRow {
            group: name("dg"),
            medium: name("m"),
            path: "/m".into(),
            length_bytes: 0,
            free_bytes: 0,
            online: true,
        };
        let plex = PlexRow {
            group: name("dg"),
            volume: None,
            plex: name("v-01"),
            uuid: Uuid::NIL,
            kernel_state: KernelState::Enabled,
            state: PlexState::Active,
            mode: PlexMode::ReadWrite,
            length_bytes: 1 << 20,
            medium: None,
            path: "/m/v-01\n.img".into(),
            label_file: None,
            sparse: false,
            dirty_regions: 0,
            fault: None,
        };
        let volume = VolumeRow {
            group: name("dg"),
            volume: name("v"),
            uuid: Uuid::NIL,
            kernel_state: KernelState::Disabled,
            state: VolumeState::Clean,
            length_bytes: 1 << 20,
            block_bytes: 512,
            region_bytes: 1 << 16,
            read_policy: ReadPolicy::Select,
            plex_timeout_s: 30,
            dirty_extents: 1,
            data: DataPath::Auto,
            queues: 0,
            affinity: Box::default(),
            autostart: true,
            preferred_plex: None,
            device: None,
            links: Vec::new(),
            snapshot: None,
            data_path: None,
            device_queues: None,
            scrub: None,
            notes: Vec::new(),
        };
        let plexes = [&plex];
        let records = [
            Record::Group(&group),
            Record::Medium(&medium),
            Record::Volume(&volume, &plexes),
            Record::Plex(&plex),
            Record::Subdisk(&plex),
        ];
        let of_records: BTreeSet<&str> =
            records.iter().flat_map(|record| attributes(*record)).map(|(name, ..)| name).collect();
        assert_eq!(of_records, NAMES.into_iter().collect());
        assert_eq!(value(records[2], "dm_name"), "-", "of another record");
        assert_eq!(value(records[1], "pub_len"), "-", "of a directory");
        for record in records {
            let text = description(record);
            assert_eq!(text.lines().filter(|line| !line.starts_with('\t')).count(), 1, "{text}");
        }
    }
}
