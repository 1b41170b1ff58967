//! `cleave force-stop` while no daemon runs: the device that waits is ended, and what waits for it gets EIO.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::{Kind, Refusal, Refused};
use crate::catalog::{group_directories, look};
use crate::control::reply::Forced;
use crate::control::{Reply, request};
use crate::daemon::{links, udev};
use crate::export::ublk;
use crate::state::refuse;

use super::{Question, Told, status, unreadable};

/// How long the kernel may take to end the device.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn force_stop(question: &Question, state: &Path) -> Result<Told, Refused> {
    let began = Instant::now();
    let name = question.object.as_deref().unwrap_or_default();
    if let Some(pid) = super::daemon(&question.socket) {
        return Err(Refusal::new(
            Kind::Busy,
            "daemon.running",
            name,
            format!("a daemon runs (process {pid}) and does not answer"),
            format!("end it first with: kill -9 {pid}"),
        ));
    }
    let of = question.group.as_deref().map(super::name).transpose()?.unwrap_or_else(request::default_group);
    for directory in group_directories(state)? {
        let texts = look::texts(&directory).map_err(|error| unreadable(&directory, &error))?;
        let Some((_, group)) = look::best(&texts) else { continue };
        if *group.name() != of {
            continue;
        }
        let volume = group.volume(name)?;
        let devices = ublk::existing();
        let Some(device) = status::device_of(volume, &devices) else {
            devices.as_ref().map_err(ublk::ExportError::refusal)?;
            return Err(refuse::volume_not_started(volume.name()));
        };
        if !volume.state().is_started() {
            // Its number went to somebody else meanwhile.
            return Err(refuse::volume_not_started(volume.name()));
        }
        let id = device.id;
        ublk::delete(id, LIMIT).map_err(Refused::from)?;
        let mut steps = vec![format!(
            "/dev/ublkb{id}, which waited for a daemon, was removed: what waited for it got EIO"
        )];
        if let Err(error) = udev::forget(Path::new(udev::DIRECTORY), id) {
            steps.push(format!("what udev is told of it could not be removed: {error}"));
        }
        match links::remove(Path::new("/dev"), group.name(), volume.name()) {
            Ok(_) => steps.push("its links in /dev were removed".to_owned()),
            Err(refused) => steps.push(format!("its links in /dev could not be removed: {refused}")),
        }
        steps.push(format!(
            "its record still says {}, and was not touched: the next daemon finds that it was not stopped in good order, \
             and its next start makes its plexes equal",
            volume.state()
        ));
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let forced = Forced { volume: volume.name().clone(), steps, elapsed_ms };
        return Ok((Vec::new(), Reply::Forced(forced)));
    }
    Err(refuse::group_unknown(of.as_str()))
}
