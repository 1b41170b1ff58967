//! Where the maps of volumes have their marks: for `cleave top`.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::Refused;
use crate::bitmap::{ChangeMap, heat};
use crate::control::reply::Listed;
use crate::control::row::{HeatOf, HeatRow};
use crate::control::{Reply, Row, request};

use super::machine::Machine;
use super::owner::Owner;
use super::server::Answer;

/// The most columns of a strip: wider than any terminal.
const MAX_COLUMNS: u16 = 1024;

impl<M: Machine> Owner<M> {
    pub(super) async fn heat(
        self: &Rc<Self>,
        request: request::Heat,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let groups = match &request.group {
            Some(name) => vec![self.group(name)?],
            None => self.all_groups(),
        };
        let columns = request.columns.clamp(1, MAX_COLUMNS);
        let mut count = 0;
        for group in groups {
            let record = group.record();
            for volume in record.volumes() {
                let row = |map, strip| {
                    let (group, volume) = (group.name.clone(), volume.name().clone());
                    Row::Heat(HeatRow { group, volume, map, percent: strip })
                };
                if let Some(live) = self.live(volume.uuid()) {
                    let length = volume.length();
                    let ranges = live.volume.intent().durable().ranges();
                    answer.row(row(HeatOf::Written, heat(ranges, length, columns))).await;
                    count += 1;
                }
                let plexes = volume.plexes().iter();
                let behind =
                    plexes.filter_map(|plex| Some((HeatOf::Behind(plex.name().clone()), plex.map()?)));
                let links = volume.snapshots().iter().filter_map(|link| {
                    let snapshot = record.volume_by_id(link.volume)?.name().clone();
                    Some((HeatOf::Since(snapshot), link.origin_map))
                });
                let own = record.link_of(volume.uuid());
                let own = own.map(|(origin, link)| (HeatOf::Since(origin.name().clone()), link.snapshot_map));
                let maps: Vec<(HeatOf, Arc<ChangeMap>)> = {
                    let known = self.maps.borrow();
                    let wanted = behind.chain(links).chain(own);
                    wanted.filter_map(|(of, map)| Some((of, Arc::clone(known.get(&map)?)))).collect()
                };
                for (of, map) in maps {
                    let length = volume.length();
                    // A map with a run for every other region of a large volume takes a while.
                    let strip = self.machine.worker(move || heat(map.dirty_ranges(), length, columns)).await;
                    answer.row(row(of, strip)).await;
                    count += 1;
                }
            }
        }
        Ok(Reply::Listed(Listed { rows: count }))
    }
}
