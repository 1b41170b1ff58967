//! `cleave status` while no daemon answers: from the configurations, the labels and the kernel's devices.

use std::path::Path;

use crate::base::Refused;
use crate::catalog::files::recovery_attempts;
use crate::catalog::{group_directories, look};
use crate::control::reply::Overview;
use crate::control::row::HealthRow;
use crate::control::words::Health;
use crate::control::{Reply, Row, request};
use crate::daemon::health::{self, Face, Facts};
use crate::daemon::rows::{self, LiveFacts};
use crate::daemon::takeover::ATTEMPTS;
use crate::export::ublk::{self, DeviceState, Existing, ExportError};
use crate::state::{Plex, Volume, refuse};

use super::{Question, Told, media, unreadable};

pub(super) fn status(question: &Question, state: &Path) -> Result<Told, Refused> {
    let devices = ublk::existing();
    let daemon = super::daemon(&question.socket);
    let mut rows_told = Vec::new();
    let mut worst = Health::Ok;
    let mut notes = Vec::new();
    notes.push(match &daemon {
        Some(pid) => {
            format!("a daemon runs (process {pid}) and does not answer; this is what can be seen without it")
        }
        None => "the daemon does not run; this is what can be seen without it".to_owned(),
    });
    if let Err(error) = &devices {
        notes.push(format!("the kernel cannot be asked for its devices: {error}"));
    }
    let (mut found, mut elsewhere) = (false, Vec::new());
    for directory in group_directories(state)? {
        let texts = look::texts(&directory).map_err(|error| unreadable(&directory, &error))?;
        let Some((generation, group)) = look::best(&texts) else {
            worst = Health::Failed;
            notes.push(format!(
                "{}: no configuration in it can be read; look at it with: cleave dump",
                directory.display()
            ));
            continue;
        };
        if question.group.as_deref().is_some_and(|name| name != group.name().as_str()) {
            if question.object.as_deref().is_some_and(|name| group.volume(name).is_ok()) {
                elsewhere.push(group.name().clone());
            }
            continue;
        }
        for text in &texts {
            if let Err(why) = &text.read {
                notes.push(format!("{}/{}: {why}", directory.display(), text.name));
            }
        }
        let wanted =
            |volume: &&Volume| question.object.as_deref().is_none_or(|name| name == volume.name().as_str());
        for volume in group.volumes().iter().filter(wanted) {
            found = true;
            let device = device_of(volume, &devices);
            let live = LiveFacts { device: device.map(|device| device.id), ..LiveFacts::default() };
            rows_told.push(Row::Volume(rows::volume(group.name(), group, volume, &live)));
            let plexes = volume.plexes().iter();
            rows_told
                .extend(plexes.map(|plex| Row::Plex(rows::plex(group.name(), group, volume, plex, &live))));
            let attempts = recovery_attempts(&directory, volume.uuid());
            let facts = Facts {
                face: face(volume, device, &devices, daemon.is_some()),
                waits: Vec::new(),
                unrecovered: (attempts >= ATTEMPTS && device.is_some()).then(|| {
                    format!(
                        "it could not be taken over {attempts} times in a row, and no daemon tries again by itself; \
                         end the waiting with: cleave force-stop {}",
                        volume.name()
                    )
                }),
                failed_ago: None,
                media: volume.plexes().iter().filter_map(|plex| medium(volume, plex, generation.0)).collect(),
            };
            let (health, reasons) = health::judge(volume, &facts);
            worst = worst.and(health);
            let (group, volume) = (group.name().clone(), volume.name().clone());
            rows_told.push(Row::Health(HealthRow { group, volume, health, reasons }));
        }
    }
    if let (Some(name), false) = (&question.object, found) {
        let group = question.group.as_deref().map(super::name).transpose()?;
        let unknown = refuse::volume_unknown(name, &group.unwrap_or_else(request::default_group));
        return Err(refuse::volume_elsewhere(unknown, &elsewhere));
    }
    Ok((rows_told, Reply::Overview(Overview { health: worst, daemon: None, notes })))
}

/// The device of `volume`, if the kernel has it.
pub(super) fn device_of<'a>(
    volume: &Volume,
    devices: &'a Result<Vec<Existing>, ExportError>,
) -> Option<&'a Existing> {
    let all = devices.as_ref().ok()?;
    let mark = Some(ublk::DeviceMark::of(volume.uuid()));
    all.iter().find(|device| device.mark == mark && device.length == volume.length())
}

fn face(
    volume: &Volume,
    device: Option<&Existing>,
    devices: &Result<Vec<Existing>, ExportError>,
    daemon: bool,
) -> Face {
    match device.map(|device| device.state) {
        // A daemon that does not answer may serve all the same.
        Some(DeviceState::Live) if daemon => Face::Served,
        Some(_) => Face::Waits,
        None if volume.state().is_started() && devices.is_err() => Face::Unknown,
        None => Face::Gone,
    }
}

/// What is wrong with the medium of `plex`, as far as can be seen without its lock.
fn medium(volume: &Volume, plex: &Plex, generation: u64) -> Option<String> {
    let path = plex.medium().labels().as_path();
    let copies = match media::copies(path, Some(volume.length())) {
        Ok(copies) => copies,
        Err(error) => {
            let why = crate::base::Errno::from_raw(error.raw_os_error().unwrap_or(5));
            return Some(format!(
                "the medium of plex {} cannot be looked at: {}: {why}",
                plex.name(),
                path.display()
            ));
        }
    };
    match media::newest(&copies) {
        None => Some(format!("plex {} has no label that can be read", plex.name())),
        Some(label) if label.plex != plex.uuid() => {
            Some(format!("the medium of plex {} bears the label of another plex", plex.name()))
        }
        Some(label) if label.config_generation.0 > generation => Some(format!(
            "the label of plex {} is newer (generation {}) than the catalogue (generation {generation})",
            plex.name(),
            label.config_generation
        )),
        Some(_) => None,
    }
}
