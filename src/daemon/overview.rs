//! `cleave status`: everything on one screen, at any time, also while the daemon comes up.

use std::rc::Rc;

use crate::base::Refused;
use crate::control::reply::Overview;
use crate::control::row::HealthRow;
use crate::control::words::Health;
use crate::control::{Happening, Reply, Row, request};
use crate::state::{Volume, refuse};

use super::health::{self, Face, Facts};
use super::machine::Machine;
use super::owner::{GroupHandle, Owner};
use super::server::Answer;

impl<M: Machine> Owner<M> {
    pub(super) async fn overview(
        self: &Rc<Self>,
        request: request::Overview,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let groups = match &request.group {
            Some(name) => vec![self.group(name)?],
            None => self.all_groups(),
        };
        let mut worst = Health::Ok;
        let mut found = false;
        for group in &groups {
            let record = group.record();
            let wanted = |volume: &&Volume| request.volume.as_ref().is_none_or(|name| name == volume.name());
            for volume in record.volumes().iter().filter(wanted) {
                found = true;
                for row in self.volume_rows(group, &record, volume) {
                    answer.row(row).await;
                }
                let row = self.health_row(group, volume);
                worst = worst.and(row.health);
                answer.row(Row::Health(row)).await;
                for task in self.tasks.of_volume(volume.uuid()) {
                    answer.row(Row::Task(task)).await;
                }
            }
        }
        // What one volume is asked after for has nothing to do with the others' media.
        if request.volume.is_none() {
            for row in self.space().await {
                if row.warning.is_some() {
                    worst = worst.and(Health::Degraded);
                }
                answer.row(Row::Space(row)).await;
            }
        }
        if let (Some(name), false) = (&request.volume, found) {
            let group = request.group.clone().unwrap_or_else(request::default_group);
            return Err(refuse::volume_unknown(name.as_str(), &group));
        }
        let about = |happening: &Happening| {
            (request.group.is_none() || request.group == happening.group)
                && (request.volume.is_none() || request.volume == happening.volume)
        };
        let mut told: Vec<_> = self.events.since(0).into_iter().filter(about).collect();
        let last = usize::try_from(request.events).unwrap_or(usize::MAX);
        told.drain(..told.len().saturating_sub(last));
        for happening in told {
            answer.row(Row::Happened(happening)).await;
        }
        let notes = self.waiting.lines();
        if !notes.is_empty() {
            worst = Health::Failed;
        }
        Ok(Reply::Overview(Overview { health: worst, daemon: Some(self.daemon_status()), notes }))
    }

    fn health_row(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, volume: &Volume) -> HealthRow {
        let live = self.live(volume.uuid());
        let mut waits = self.events.waits(&group.name, volume.name());
        let busy = |verb: &std::sync::Arc<tokio::sync::Mutex<()>>| verb.try_lock().is_err();
        if live.is_none() && waits.is_empty() && self.verbs.borrow().get(&volume.uuid()).is_some_and(busy) {
            waits.push("it is on its way".to_owned());
        }
        let facts = Facts {
            face: if live.is_some() { Face::Served } else { Face::Waits },
            waits,
            unrecovered: self.recovery.why(volume.uuid()),
            failed_ago: live
                .and_then(|live| live.failed.get())
                .map(|failed| self.machine.now().since(failed)),
            media: Vec::new(),
        };
        let (health, reasons) = health::judge(volume, &facts);
        HealthRow { group: group.name.clone(), volume: volume.name().clone(), health, reasons }
    }
}
