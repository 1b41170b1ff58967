//! Restores whose archive cannot be made or believed, and those that stop half way.

use std::os::unix::fs::FileExt;

use super::*;
use crate::base::ByteRange;
use crate::control::words::Consistency;
use crate::control::{Reply, Request, request};
use crate::daemon::testing::*;

#[test]
fn an_archive_that_cannot_be_written_leaves_the_volume_as_it_was() {
    let range = ByteRange::new(0, 4096);
    let full = MoverError::Write { range, errno: Errno::NO_SPACE };
    refused::<()>(Err(not_saved(&name("v"), &full)), "restore.not-saved", Kind::NoSpace);
    let broken = MoverError::Flush { errno: Errno::IO };
    let told = refused::<()>(Err(not_saved(&name("v"), &broken)), "restore.not-saved", Kind::Io);
    assert!(told.reason.ends_with("nothing was overwritten"), "{told}");
}

/// Volume `v` with a snapshot `s`, and volume `w`.
async fn with_snapshot(owner: &Daemon) {
    make(owner, "v", 1).await;
    make(owner, "w", 1).await;
    ask(owner, snapstarting("v", false)).await.unwrap();
    let cut = request::Snapshot {
        group: request::default_group(),
        members: vec![request::CutMember { volume: name("v"), snapshot: Some(name("s")) }],
        pattern: None,
        consistency: Consistency::Crash,
        nmirror: 1,
    };
    ask(owner, Request::Snapshot(cut)).await.unwrap();
}

#[test]
fn a_snapshot_is_of_one_volume() {
    with_daemon(async |owner, _| {
        with_snapshot(&owner).await;
        let clear = |other: &str| {
            Request::SnapClear(request::SnapClear {
                group: request::default_group(),
                snapshot: name("s"),
                other: Some(name(other)),
            })
        };
        refused(ask(&owner, clear("w")).await, "snapshot.of-another", Kind::InvalidState);
        ask(&owner, clear("v")).await.unwrap();
    });
}

#[test]
fn a_damaged_archive_is_not_put_back_and_a_half_done_copy_says_how_to_go_on() {
    with_daemon(async |owner, _| {
        with_snapshot(&owner).await;
        let group = owner.group(&request::default_group()).unwrap();
        let restore = request::Restore {
            group: request::default_group(),
            snapshot: name("s"),
            nmirror: None,
            safety: true,
            dry_run: false,
            bytes_per_second: None,
            background: false,
        };
        ask(&owner, Request::Restore(restore)).await.unwrap();
        let undo = request::Undo {
            group: request::default_group(),
            volume: name("v"),
            archive: None,
            keep: false,
            force: false,
            dry_run: false,
            bytes_per_second: None,
            background: false,
        };
        let file = group.record().volume("v").unwrap().undos()[0].archive.file.clone();
        let archive = std::fs::File::options().read(true).write(true).open(group.file(&file)).unwrap();
        let mut good = [0; 16];
        archive.read_exact_at(&mut good, 0).unwrap();
        archive.write_all_at(&[0; 16], 0).unwrap();
        refused(ask(&owner, Request::Undo(undo.clone())).await, "undo.damaged", Kind::Damaged);
        archive.write_all_at(&good, 0).unwrap();
        ask(&owner, Request::Undo(undo)).await.unwrap();

        let live = owner.live(uuids(&group, "v").0).unwrap();
        let error = MoverError::Write { range: ByteRange::new(0, 4096), errno: Errno::IO };
        let told = owner.overwritten(&live, Ok(Some((Ended::Failed(error), 4096))));
        let told = refused(told, "restore.failed", Kind::Io);
        assert!(told.way_out.contains("cleave start v") && told.way_out.contains("cleave undo v"), "{told}");
    });
}

#[test]
fn the_snapshots_of_an_origin_that_is_removed_are_named() {
    with_daemon(async |owner, _| {
        with_snapshot(&owner).await;
        let remove = |force| {
            Request::Remove(request::Remove {
                group: request::default_group(),
                object: name("v"),
                recursive: true,
                force,
            })
        };
        refused(ask(&owner, remove(false)).await, "volume.started", Kind::Started);
        let told = foretold(&owner, remove(true)).await.unwrap();
        assert!(
            told.contains(&"s: is no snapshot of v any more: no snapback, no restore".to_owned()),
            "{told:?}"
        );
        let Reply::Removed(removed) = ask(&owner, remove(true)).await.unwrap() else { panic!() };
        assert_eq!((removed.volume, removed.independent), (Some(name("v")), vec![name("s")]));
    });
}
