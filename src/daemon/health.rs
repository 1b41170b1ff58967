//! How a volume is, for who looks after it: from its record and what is known of it. Pure.

use std::time::Duration;

use crate::control::words::Health;
use crate::state::{Plex, PlexState, Volume, VolumeState};

use super::rows;

/// After a failed request on its last plex a volume counts as failed for so long; one that still fails tells again.
const FAILURE_COUNTS: Duration = Duration::from_secs(600);

/// What is known of the device of a started volume that this process does not serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Face {
    /// It is served.
    Served,
    /// It waits for a daemon, and whoever uses it waits with it.
    Waits,
    /// There is none.
    Gone,
    /// The kernel cannot be asked.
    Unknown,
}

/// What is known of a volume beyond its record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Its device.
    pub face: Face,
    /// What is waited for before it can serve.
    pub waits: Vec<String>,
    /// Why it could not be taken over, with a way out.
    pub unrecovered: Option<String>,
    /// How long ago its last plex failed a request.
    pub failed_ago: Option<Duration>,
    /// What is known of its media, a line each.
    pub media: Vec<String>,
}

/// How `volume` is, and why it is not well, the worst first.
#[must_use]
pub fn judge(volume: &Volume, facts: &Facts) -> (Health, Vec<String>) {
    let mut found: Vec<(Health, String)> = Vec::new();
    let mut tell = |health, reason: String| found.push((health, reason));
    let started = volume.state().is_started();
    if started {
        match (facts.face, &facts.unrecovered) {
            (Face::Served, _) => {}
            (_, Some(why)) => tell(Health::Failed, why.clone()),
            (Face::Waits, None) if !facts.waits.is_empty() => {}
            (Face::Waits, None) => {
                tell(Health::Failed, "its device waits for a daemon, and so does whoever uses it".to_owned());
            }
            (Face::Gone, None) => tell(
                Health::Degraded,
                "it ran and has no device any more: its plexes are made equal after its next start"
                    .to_owned(),
            ),
            (Face::Unknown, None) => {
                tell(Health::Degraded, "it ran, and the kernel cannot be asked for its device".to_owned());
            }
        }
    }
    if let Some(ago) = facts.failed_ago.filter(|ago| *ago < FAILURE_COUNTS) {
        tell(Health::Failed, format!("a request failed on its last plex {} s ago", ago.as_secs()));
    }
    match volume.state() {
        VolumeState::Empty => tell(Health::Degraded, "it is being made, or was only half made".to_owned()),
        VolumeState::NeedSync => tell(
            Health::Degraded,
            "it was not stopped in good order: its plexes are made equal after its next start".to_owned(),
        ),
        VolumeState::Sync => tell(Health::Degraded, "its plexes are being made equal".to_owned()),
        VolumeState::Clean | VolumeState::Active => {}
    }
    if volume.state() != VolumeState::Empty && volume.complete_plexes().next().is_none() {
        tell(Health::Failed, "no plex of it is complete".to_owned());
    }
    for wait in &facts.waits {
        tell(Health::Degraded, wait.clone());
    }
    for plex in volume.plexes().iter().filter(|plex| rows::is_degraded(plex)) {
        tell(Health::Degraded, about(plex));
    }
    if volume.is_intent_lost() {
        tell(
            Health::Degraded,
            "its intent map cannot be written: after a crash all of it is made equal".to_owned(),
        );
    }
    for line in &facts.media {
        tell(Health::Degraded, line.clone());
    }
    found.sort_by_key(|(health, _)| *health != Health::Failed);
    let health = found.iter().fold(Health::Ok, |worst, (health, _)| worst.and(*health));
    (health, found.into_iter().map(|(_, reason)| reason).collect())
}

fn about(plex: &Plex) -> String {
    let why = match plex.state() {
        PlexState::Stale if plex.is_attached() => ": it is copied what it misses",
        PlexState::Stale => ": it left the volume and misses writes",
        PlexState::IoFail => ": it failed, and what it misses is not tracked",
        PlexState::Offline => ": it was taken out by hand",
        PlexState::Empty
        | PlexState::Clean
        | PlexState::Active
        | PlexState::SnapAtt
        | PlexState::SnapDone
        | PlexState::SnapTmp
        | PlexState::Temp => "",
    };
    format!("plex {} is {}{why}", plex.name(), plex.state())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Uuid;
    use crate::state::change::{
        Loss, Made, MakeArgs, Presence, Site, StartArgs, after_restart, create_group, finish_make, lose_plex,
        make_volume, set_intent_lost, start,
    };
    use crate::state::{Group, Ids, MediumPath, PoolMedium};

    fn facts(face: Face) -> Facts {
        Facts { face, waits: Vec::new(), unrecovered: None, failed_ago: None, media: Vec::new() }
    }

    fn volume(group: &Group) -> &Volume {
        &group.volumes()[0]
    }

    /// A volume of two plexes, stopped and started.
    fn groups() -> (Group, Group, Ids) {
        let ids = &mut Ids::from_seed([5; 32]);
        let path = MediumPath::new("/m").unwrap();
        let media = [PoolMedium { path: path.clone(), block: false, name: None }];
        let group = create_group("default", &media, ids).unwrap();
        let sites = [0, 1].map(|_| Site::Below { directory: path.clone(), sparse: true });
        let args = MakeArgs { name: "v", length: 4 << 20, region_size: None, sites: &sites };
        let group = make_volume(&group, &args, ids).unwrap().group;
        assert_eq!(judge(volume(&group), &facts(Face::Gone)).0, Health::Degraded, "half made");
        let plexes: Vec<Uuid> = volume(&group).plexes().iter().map(Plex::uuid).collect();
        let made: Vec<_> = plexes
            .iter()
            .map(|plex| Made { plex: *plex, bytes: 1 << 30, block_size: 512, memory_alignment: 1 })
            .collect();
        let stopped = finish_make(&group, volume(&group).uuid(), &made, false, ids).unwrap().group;
        let here: Vec<_> = plexes.iter().map(|plex| (*plex, Presence::Present(None))).collect();
        let args = StartArgs { volume: "v", media: &here, source: None, unix_s: 0 };
        let started = start(&stopped, &args, ids).unwrap().group;
        (stopped, started, Ids::from_seed([6; 32]))
    }

    #[test]
    fn what_serves_or_is_stopped_in_good_order_is_well() {
        let (stopped, started, _) = groups();
        for (group, face) in [(&stopped, Face::Gone), (&stopped, Face::Unknown), (&started, Face::Served)] {
            assert_eq!(judge(volume(group), &facts(face)), (Health::Ok, Vec::new()));
        }
    }

    #[test]
    fn what_should_serve_and_does_not_has_failed_and_what_is_on_its_way_is_degraded() {
        let (_, started, mut ids) = groups();
        let judged = |facts: &Facts| judge(volume(&started), facts);
        assert_eq!(judged(&facts(Face::Waits)).0, Health::Failed);
        let waiting = Facts { waits: vec!["waiting for fence: v-01".to_owned()], ..facts(Face::Waits) };
        assert_eq!(judged(&waiting), (Health::Degraded, vec!["waiting for fence: v-01".to_owned()]));
        let given_up = Facts { unrecovered: Some("given up".to_owned()), ..waiting };
        let (health, reasons) = judged(&given_up);
        assert_eq!((health, reasons[0].as_str(), reasons.len()), (Health::Failed, "given up", 2));
        assert_eq!(judged(&facts(Face::Gone)).0, Health::Degraded);
        let crashed = after_restart(&started, &[], &mut ids).unwrap().group;
        assert_eq!(judge(volume(&crashed), &facts(Face::Gone)).0, Health::Degraded);
    }

    #[test]
    fn a_failed_request_counts_for_a_while_and_lost_plexes_until_they_are_back() {
        let (_, started, mut ids) = groups();
        let failed = |ago| Facts { failed_ago: Some(Duration::from_secs(ago)), ..facts(Face::Served) };
        assert_eq!(judge(volume(&started), &failed(599)).0, Health::Failed);
        assert_eq!(judge(volume(&started), &failed(600)).0, Health::Ok);
        let second = volume(&started).plexes()[1].uuid();
        let lost = lose_plex(&started, second, Loss::Failed, None, &mut ids).unwrap().group;
        let (health, reasons) = judge(volume(&lost), &facts(Face::Served));
        assert_eq!(
            (health, reasons),
            (Health::Degraded, vec!["plex v-02 is STALE: it left the volume and misses writes".to_owned()])
        );
        let blind = set_intent_lost(&lost, volume(&lost).uuid(), true).unwrap().group;
        let both = judge(volume(&blind), &failed(1));
        assert_eq!((both.0, both.1.len()), (Health::Failed, 3));
        assert!(both.1[0].contains("last plex"), "the worst comes first: {:?}", both.1);
    }
}
