//! Scrubs begin, come on, end, and are scheduled.

use super::super::group::{Group, Volume};
use super::super::plex::PlexState;
use super::super::refuse;
use super::super::scrub::{
    Limits, MAX_INTERVAL_S, MIN_INTERVAL_S, Repair, Schedule, Scrub, ScrubResult, ScrubRun, ScrubTally,
};
use super::super::volume::VolumeState;
use super::{Change, edit};
use crate::base::{Refused, Uuid};

/// What a person wants done with differences.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RepairWish<'a> {
    /// Tell them.
    Report,
    /// Repair them by what most plexes hold.
    Majority,
    /// Repair them from this plex.
    Source(&'a str),
}

/// Plexes of a volume that hold all of it, so that a scrub compares them.
fn in_step(volume: &Volume) -> usize {
    let good = |state| matches!(state, PlexState::Clean | PlexState::Active | PlexState::SnapDone);
    volume.plexes().iter().filter(|plex| good(plex.state())).count()
}

/// What becomes of differences on `volume`, by what a person wishes.
///
/// # Errors
/// `scrub.no-majority` for two plexes: neither is more right than the other; `plex.unknown`; `scrub.source-unfit`.
pub fn scrub_repair(volume: &Volume, wish: RepairWish) -> Result<Repair, Refused> {
    match wish {
        RepairWish::Report => Ok(Repair::Report),
        RepairWish::Majority => {
            let plexes = in_step(volume);
            if plexes < 3 {
                let first = volume.complete_plexes().next().map(|plex| plex.name().clone());
                return Err(refuse::scrub_no_majority(&volume.name, plexes, first.as_ref()));
            }
            Ok(Repair::Majority)
        }
        RepairWish::Source(name) => {
            let plex = volume.plex(name)?;
            if plex.state().is_complete() {
                Ok(Repair::Source(plex.uuid))
            } else {
                Err(refuse::scrub_source(plex))
            }
        }
    }
}

/// A scrub of a started volume begins at its first byte.
///
/// # Errors
/// `volume.unknown`, `volume.not-started`, `volume.resyncing`; `scrub.running`; `scrub.alone` for a volume with fewer than
/// two plexes in step; `scrub.source-unfit` when the source of the schedule is no complete plex any more.
pub fn scrub_begin(
    group: &Group,
    volume: &str,
    repair: Repair,
    limits: Limits,
    scheduled: bool,
    unix_s: i64,
) -> Result<Change, Refused> {
    let record = super::started_volume(group, volume)?;
    if record.state() == VolumeState::Sync {
        return Err(refuse::volume_resyncing(&record.name));
    }
    if record.scrub().run.is_some() {
        return Err(refuse::scrub_running(&record.name));
    }
    if in_step(record) < 2 {
        return Err(refuse::scrub_alone(&record.name));
    }
    if let Repair::Source(uuid) = repair {
        let plex = record.plex_by_id(uuid).ok_or_else(|| refuse::plex_gone(uuid))?;
        if !plex.state().is_complete() {
            return Err(refuse::scrub_source(plex));
        }
    }
    let (Limits { rate, latency_us }, tally) = (limits, ScrubTally::default());
    let run = ScrubRun { began_unix_s: unix_s, scheduled, repair, rate, latency_us, tally };
    edit_scrub(group, record.uuid, |scrub| {
        scrub.run = Some(run);
        scrub.since_unix_s = unix_s;
    })
}

/// A scrub has come so far.
///
/// # Errors
/// `volume.gone`.
pub fn scrub_progress(group: &Group, volume: Uuid, tally: ScrubTally) -> Result<Change, Refused> {
    edit_scrub(group, volume, |scrub| {
        if let Some(run) = &mut scrub.run {
            run.tally = tally;
        }
    })
}

/// A scrub has ended: with `plexes` compared to the end of the volume, or given up.
///
/// # Errors
/// `volume.gone`.
pub fn scrub_end(
    group: &Group,
    volume: Uuid,
    tally: ScrubTally,
    plexes: Option<u32>,
    unix_s: i64,
) -> Result<Change, Refused> {
    edit_scrub(group, volume, |scrub| {
        let Some(run) = scrub.run.take() else { return };
        if let Some(plexes) = plexes {
            let began_unix_s = run.began_unix_s;
            scrub.last = Some(ScrubResult { began_unix_s, ended_unix_s: unix_s, plexes, tally });
        }
    })
}

/// When the volume is scrubbed by itself; none for never. The interval counts from the last scrub, or from now where there
/// was none.
///
/// # Errors
/// `volume.unknown`; `scrub.interval` when it is shorter than an hour or longer than ten years.
pub fn scrub_schedule(
    group: &Group,
    volume: &str,
    schedule: Option<Schedule>,
    unix_s: i64,
) -> Result<Change, Refused> {
    let record = group.volume(volume)?;
    if let Some(schedule) = schedule
        && !(MIN_INTERVAL_S..=MAX_INTERVAL_S).contains(&schedule.every_s)
    {
        return Err(refuse::scrub_interval(&record.name));
    }
    edit_scrub(group, record.uuid, |scrub| {
        scrub.schedule = schedule;
        let last = scrub.run.map(|run| run.began_unix_s).or(scrub.last.map(|last| last.began_unix_s));
        scrub.since_unix_s = if schedule.is_some() { last.unwrap_or(unix_s) } else { 0 };
    })
}

/// The clock was set back: the interval of the schedule counts from now.
///
/// # Errors
/// `volume.gone`.
pub fn scrub_count_anew(group: &Group, volume: Uuid, unix_s: i64) -> Result<Change, Refused> {
    edit_scrub(group, volume, |scrub| scrub.since_unix_s = unix_s)
}

fn edit_scrub(group: &Group, volume: Uuid, change: impl FnOnce(&mut Scrub)) -> Result<Change, Refused> {
    edit(group, volume, |record| {
        change(&mut record.scrub);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{below, ids, pair, started};
    use super::super::{add_plexes, after_restart, lose_plex, plex_ready, synced_plex};
    use super::*;
    use crate::state::change::Loss;

    fn triple() -> Group {
        let group = add_plexes(&pair(), "v", &[below("/a")], &mut ids(20)).unwrap().group;
        let plex = group.volume("v").unwrap().plexes()[2].uuid();
        let made = super::super::tests::made_of(&group, plex);
        let group = plex_ready(&group, &made, &mut ids(21)).unwrap().group;
        synced_plex(&group, plex, &mut ids(22)).unwrap().group
    }

    fn begin(group: &Group, repair: Repair) -> Result<Group, Refused> {
        scrub_begin(group, "v", repair, Limits { rate: Some(1 << 20), latency_us: Some(5000) }, false, 1000)
            .map(|change| change.group)
    }

    fn id<T: std::fmt::Debug>(result: Result<T, Refused>) -> String {
        result.unwrap_err().id.clone()
    }

    #[test]
    fn a_scrub_begins_comes_on_and_ends_and_a_restart_keeps_it() {
        let group = begin(&pair(), Repair::Report).unwrap();
        let volume = group.volume("v").unwrap().uuid();
        assert_eq!(id(begin(&group, Repair::Report)), "scrub.running");
        let tally = ScrubTally { position: 4096, differing_bytes: 512, ..ScrubTally::default() };
        let group = scrub_progress(&group, volume, tally).unwrap().group;
        let again = started(&after_restart(&group, &[], &mut ids(5)).unwrap().group, "v");
        let run = again.volume("v").unwrap().scrub().run.unwrap();
        assert_eq!((run.tally, run.began_unix_s), (tally, 1000));
        assert_eq!((run.rate, run.latency_us), (Some(1 << 20), Some(5000)));
        let ended = scrub_end(&group, volume, tally, Some(2), 2000).unwrap().group;
        let scrub = ended.volume("v").unwrap().scrub();
        let last = ScrubResult { began_unix_s: 1000, ended_unix_s: 2000, plexes: 2, tally };
        assert_eq!((scrub.run, scrub.last), (None, Some(last)));
        // One that was given up leaves the result of the one before.
        let group =
            scrub_end(&begin(&ended, Repair::Report).unwrap(), volume, tally, None, 3000).unwrap().group;
        assert_eq!(group.volume("v").unwrap().scrub().last, Some(last));
        assert_eq!(scrub_end(&group, volume, tally, Some(2), 4000).unwrap().group, group, "twice is once");
    }

    #[test]
    fn who_is_right_is_a_majority_or_a_person_s_choice() {
        let (two, three) = (pair(), triple());
        let volume = two.volume("v").unwrap();
        assert_eq!(scrub_repair(volume, RepairWish::Report), Ok(Repair::Report));
        let refused = scrub_repair(volume, RepairWish::Majority).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "v: it has 2 plexes in step, so no majority can say which is right where they differ; \
             name the plex that counts: cleave scrub v --repair --source v-01"
        );
        let source = volume.plexes()[1].uuid();
        assert_eq!(scrub_repair(volume, RepairWish::Source("v-02")), Ok(Repair::Source(source)));
        assert_eq!(id(scrub_repair(volume, RepairWish::Source("v-09"))), "plex.unknown");
        assert_eq!(scrub_repair(three.volume("v").unwrap(), RepairWish::Majority), Ok(Repair::Majority));
        let lost = lose_plex(&three, source_of(&three, 1), Loss::Failed, None, &mut ids(30)).unwrap().group;
        let volume = lost.volume("v").unwrap();
        assert_eq!(id(scrub_repair(volume, RepairWish::Majority)), "scrub.no-majority");
        let refused = scrub_repair(volume, RepairWish::Source("v-02")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "v-02: cannot be the source of a repair: it is STALE; name an ACTIVE plex"
        );
        let scheduled = Repair::Source(source_of(&three, 1));
        assert_eq!(id(scrub_begin(&lost, "v", scheduled, Limits::default(), true, 5)), "scrub.source-unfit");
        let alone = lose_plex(&lost, source_of(&three, 2), Loss::Failed, None, &mut ids(31)).unwrap().group;
        assert_eq!(id(begin(&alone, Repair::Report)), "scrub.alone");
        let stopped = after_restart(&two, &[], &mut ids(5)).unwrap().group;
        assert_eq!(id(begin(&stopped, Repair::Report)), "volume.not-started");
        assert_eq!(id(begin(&started(&stopped, "v"), Repair::Report)), "volume.resyncing");
    }

    fn source_of(group: &Group, at: usize) -> Uuid {
        group.volume("v").unwrap().plexes()[at].uuid()
    }

    #[test]
    fn a_schedule_counts_from_the_last_scrub_or_from_now() {
        let group = pair();
        let schedule =
            Schedule { every_s: 86_400, hours: None, repair: Repair::Report, rate: None, latency_us: None };
        let scrub = |group: &Group| group.volume("v").unwrap().scrub().clone();
        let set = scrub_schedule(&group, "v", Some(schedule), 777).unwrap().group;
        assert_eq!((scrub(&set).schedule, scrub(&set).since_unix_s), (Some(schedule), 777));
        let again =
            scrub_schedule(&begin(&set, Repair::Report).unwrap(), "v", Some(schedule), 5000).unwrap().group;
        assert_eq!(scrub(&again).since_unix_s, 1000);
        let volume = group.volume("v").unwrap().uuid();
        assert_eq!(scrub(&scrub_count_anew(&set, volume, 9).unwrap().group).since_unix_s, 9);
        assert!(scrub(&scrub_schedule(&set, "v", None, 1).unwrap().group).is_empty());
        for every_s in [0, MIN_INTERVAL_S - 1, MAX_INTERVAL_S + 1] {
            let bad = Schedule { every_s, ..schedule };
            assert_eq!(id(scrub_schedule(&group, "v", Some(bad), 1)), "scrub.interval");
        }
    }
}
