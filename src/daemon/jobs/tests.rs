//! Copies and comparisons that do not come to a good end, and verbs that meet them.

use super::*;
use crate::base::limits::MIB;
use crate::control::words::DataPath;
use crate::control::{Event, Request, ServerMessage, request};
use crate::daemon::server::Answer;
use crate::daemon::testing::*;
use crate::state::PlexState;
use crate::volume::VolumeQueue;

fn verify(volume: &str) -> Request {
    Request::Verify(request::Verify { group: request::default_group(), volume: name(volume) })
}

fn remove_mirror(plex: &str) -> Request {
    Request::RemoveMirror(request::RemoveMirror {
        group: request::default_group(),
        volume: Some(name("v")),
        plex: Some(name(plex)),
    })
}

fn mirror(background: bool) -> Request {
    mirroring("v", background)
}

#[test]
fn a_verb_that_copies_tells_of_its_own_volume_alone() {
    with_daemon(async |owner, _| {
        make(&owner, "v", 1).await;
        make(&owner, "w", 1).await;
        let (own, _) = paused(&owner, mirroring("v", false)).await;
        let (other, _) = paused(&owner, mirroring("w", false)).await;
        let (messages, mut told) = tokio::sync::mpsc::channel(64);
        let answer = Answer::new(messages);
        let steer = |owner: Daemon| async move {
            for task in [other, own, other] {
                owner.tasks.throttle(task, None).unwrap();
            }
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        owner.watched(&answer, Some((request::default_group(), name("v"))), steer).await;
        drop(answer);
        let mut tasks = Vec::new();
        while let Some(ServerMessage::Event(Event::Progress(row))) = told.recv().await {
            tasks.push(row.task);
        }
        assert_eq!(tasks, [own]);
        for task in [own, other] {
            owner.tasks.abort(task).unwrap();
        }
        while owner.tasks.list(None).iter().any(|row| !row.state.ended()) {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_comparison_ends_when_it_is_told_to_and_when_a_plex_leaves() {
    with_daemon(async |owner, _| {
        make(&owner, "v", 3).await;
        let (task, answer) = paused(&owner, verify("v")).await;
        let length = request::Length::GrowBy(MIB);
        let resize =
            request::Resize { group: request::default_group(), volume: name("v"), length, force: false };
        refused(ask(&owner, Request::Resize(resize)).await, "resize.task", Kind::Busy);
        owner.tasks.abort(task).unwrap();
        refused(answer.await.unwrap(), "task.aborted", Kind::Aborted);

        let (task, answer) = paused(&owner, verify("v")).await;
        ask(&owner, remove_mirror("v-03")).await.unwrap();
        owner.tasks.resume(task).unwrap();
        refused(answer.await.unwrap(), "verify.plex-left", Kind::Changed);
        ask(&owner, verify("v")).await.unwrap();
    });
}

#[test]
fn a_plex_that_cannot_be_read_ends_a_comparison() {
    with_daemon(async |owner, _| {
        let group = make(&owner, "v", 2).await;
        let path = group.record().volume("v").unwrap().plexes()[1].medium().path.as_path().to_owned();
        let (task, answer) = paused(&owner, verify("v")).await;
        std::fs::File::options().write(true).open(path).unwrap().set_len(MIB).unwrap();
        owner.tasks.resume(task).unwrap();
        refused(answer.await.unwrap(), "verify.unreadable", Kind::Io);
    });
}

#[test]
fn a_copy_that_fails_leaves_a_plex_of_before_stale_and_the_volume_unharmed() {
    with_daemon(async |owner, _| {
        let group = make(&owner, "v", 2).await;
        let (volume, plexes) = uuids(&group, "v");
        let purpose = Purpose { kind: TaskKind::Resync, fresh: false, limits: limits(None, None) };
        let error = MoverError::Write { range: ByteRange::new(0, 4096), errno: Errno::IO };
        let told = owner.copy_failed(&group, plexes[1], purpose, &error, &name("v-02")).await;
        refused::<()>(Err(told), "plex.copy-failed", Kind::Io);
        let record = group.record();
        let states: Vec<_> = record.volume("v").unwrap().plexes().iter().map(|plex| plex.state()).collect();
        assert_eq!(states, [PlexState::Active, PlexState::Stale]);
        let live = owner.live(volume).unwrap();
        let nobody = Uuid::from_random([9; 16]);
        let job = owner.copy_to(&group, &live, nobody, purpose).map(|job| job.task);
        refused(job, "plex.gone", Kind::Changed);
    });
}

#[test]
fn whoever_waits_for_a_job_is_told_that_the_daemon_ends() {
    with_daemon(async |_, _| {
        let (tell, outcome) = oneshot::channel();
        drop(tell);
        refused(Job { task: 1, outcome }.ended().await, "daemon.ending", Kind::Aborted);
    });
}

#[test]
fn a_volume_that_is_being_stopped_begins_no_job() {
    with_daemon(async |owner, _| {
        let group = make(&owner, "v", 2).await;
        let live = owner.live(uuids(&group, "v").0).unwrap();
        live.stopping.set(true);
        refused(ask(&owner, verify("v")).await, "volume.stopping", Kind::Busy);
        live.stopping.set(false);
        ask(&owner, verify("v")).await.unwrap();
    });
}

#[test]
fn more_jobs_than_a_volume_has_ways_into_it_are_refused() {
    with_daemon(async |owner, _| {
        let group = make(&owner, "v", 1).await;
        let volume = Arc::clone(&owner.live(uuids(&group, "v").0).unwrap().volume);
        let ((told, all_taken), (release, released)) = (oneshot::channel(), oneshot::channel::<()>());
        let taken = owner.movers.run(move |host| async move {
            let queue = || VolumeQueue::new(host.clone(), Arc::clone(&volume));
            let all: Vec<_> = std::iter::from_fn(queue).collect();
            let _ = told.send(all.len());
            let _ = released.await;
        });
        assert!(all_taken.await.unwrap() > 10);
        refused(ask(&owner, mirror(false)).await, "volume.too-many-jobs", Kind::Busy);
        drop(release);
        taken.await.unwrap();
    });
}

#[test]
fn a_plex_with_a_request_from_before_it_left_is_not_taken_in_for_now() {
    with_daemon(async |owner, _| {
        let group = make(&owner, "v", 2).await;
        let (volume, plexes) = uuids(&group, "v");
        let live = owner.live(volume).unwrap();
        let record = group.record();
        let plex = record.volume("v").unwrap().plex("v-02").unwrap();
        let at_work = live.at_work(plexes[1], Control::within(limits(None, None), live.volume.latency()));
        let limit = std::time::Duration::from_millis(50);
        refused(owner.wait_for(&live, plex, limit).await, "plex.request-in-flight", Kind::TimedOut);
        drop(at_work);
        owner.wait_for(&live, plex, limit).await.unwrap();
    });
}

#[test]
fn who_waits_for_a_mirror_and_goes_is_not_waited_for() {
    with_daemon(async |owner, _| {
        make(&owner, "v", 1).await;
        let held = held_mover(&owner);
        ask(&owner, snapstarting("v", true)).await.unwrap();
        let (messages, gone) = tokio::sync::mpsc::channel(1);
        drop(gone);
        let wait = request::SnapWait { group: request::default_group(), volume: name("v"), nmirror: 1 };
        let waited = owner.snapwait(wait.clone(), &Answer::new(messages)).await;
        refused(waited, "client.gone", Kind::Aborted);
        drop(held);
        ask(&owner, Request::SnapWait(wait)).await.unwrap();
    });
}

#[test]
fn a_plex_that_was_taken_offline_is_not_attached() {
    with_daemon(async |owner, _| {
        make(&owner, "v", 2).await;
        let plex = request::PlexRef { group: request::default_group(), plex: name("v-02") };
        ask(&owner, Request::PlexOffline(plex)).await.unwrap();
        let attach = request::PlexAttach {
            group: request::default_group(),
            volume: None,
            plex: name("v-02"),
            bytes_per_second: None,
            latency_us: None,
            background: false,
        };
        refused(ask(&owner, Request::PlexAttach(attach.clone())).await, "plex.offline", Kind::InvalidState);
        ask(&owner, Request::PlexOnline(attach)).await.unwrap();
        ask(&owner, verify("v")).await.unwrap();
    });
}

#[test]
fn pages_that_the_kernel_does_not_lend_are_not_asked_for() {
    with_daemon(async |owner, _| {
        let zero = request::Make { data: DataPath::Zero, ..making("v", 1) };
        refused(ask(&owner, Request::Make(zero)).await, "volume.data-path", Kind::System);
    });
}

#[test]
fn a_group_that_waits_for_its_state_directory_is_not_changed() {
    with_daemon(async |owner, _| {
        let group = make(&owner, "v", 1).await;
        group.set_waiting(Some("state: cannot be written".to_owned()));
        refused(ask(&owner, mirror(false)).await, "group.waits", Kind::System);
        group.set_waiting(None);
        ask(&owner, mirror(false)).await.unwrap();
    });
}
