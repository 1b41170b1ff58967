//! Scrubs that cannot go on.

use super::*;
use crate::base::{ByteRange, Errno};
use crate::daemon::testing::*;
use crate::mover::MoverError;
use crate::state::PlexState;

#[test]
fn a_scrub_whose_plexes_left_before_it_went_on_is_ended() {
    with_daemon(async |owner, _| {
        let group = make(&owner, "v", 2).await;
        let (volume, plexes) = uuids(&group, "v");
        let live = owner.live(volume).unwrap();
        let begin = |group: &Group| {
            change::scrub_begin(group, "v", Repair::Source(plexes[1]), Limits::default(), false, 1)
        };
        owner.transact_quietly(&group, begin).await.unwrap();
        let run = group.record().volume("v").unwrap().scrub().run.unwrap();
        owner.give_up(&group, plexes[1], Loss::Failed).await;
        let control = Control::within(crate::mover::Limits::default(), live.volume.latency());
        let ended = owner.scrub_to_the_end(&group, &live, run, control).await.map(|ended| ended.in_step);
        refused(ended, "scrub.plexes", Kind::InvalidState);
        assert!(group.record().volume("v").unwrap().scrub().run.is_none());
    });
}

#[test]
fn a_plex_that_cannot_be_repaired_leaves_and_the_scrub_ends() {
    with_daemon(async |owner, _| {
        let group = make(&owner, "v", 3).await;
        let (volume, plexes) = uuids(&group, "v");
        let live = owner.live(volume).unwrap();
        let error = MoverError::Write { range: ByteRange::new(0, 4096), errno: Errno::IO };
        let report = ScrubReport {
            ended: Ended::Failed(error),
            tally: Tally::default(),
            flaws: Vec::new(),
            more: false,
            failed: Some(2),
        };
        let names = ["v-01", "v-02", "v-03"].map(name).to_vec();
        let ended = owner.scrub_ended(&group, &live, &plexes, names, report).await;
        let told = refused(ended.map(|ended| ended.in_step), "scrub.failed", Kind::Io);
        assert_eq!(told.object, "v-03");
        assert_eq!(group.record().volume("v").unwrap().plexes()[2].state(), PlexState::Stale);
    });
}
