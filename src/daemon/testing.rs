//! A daemon over real files and without devices, and its verbs as a client asks for them.

use std::fmt::Debug;
use std::path::Path;
use std::rc::Rc;

use super::offline::{Deviceless, with_owner};
use super::owner::{GroupHandle, Owner};
use super::server::{Answer, Peer, Service};
use crate::base::limits::MIB;
use crate::base::{Kind, Name, Refused, Uuid};
use crate::control::words::{DataPath, Init};
use crate::control::{Reply, Request, Row, ServerMessage, request};

pub(super) type Daemon = Rc<Owner<Deviceless>>;

/// `work` with a daemon and a directory for what is beside its state.
pub(super) fn with_daemon(work: impl AsyncFnOnce(Daemon, &Path)) {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let worked = with_owner(&state, async |owner| {
        work(owner, root.path()).await;
        Ok(())
    });
    worked.unwrap();
}

pub(super) async fn ask(owner: &Daemon, request: Request) -> Result<Reply, Refused> {
    let (messages, _kept) = tokio::sync::mpsc::channel(4096);
    Rc::clone(owner).serve(Peer { uid: 0, pid: 1 }, request, Answer::new(messages)).await
}

/// As [`ask`], with the rows that came before the end.
pub(super) async fn ask_for_rows(owner: &Daemon, request: Request) -> (Vec<Row>, Result<Reply, Refused>) {
    let (messages, mut told) = tokio::sync::mpsc::channel(4096);
    let reply = Rc::clone(owner).serve(Peer { uid: 0, pid: 1 }, request, Answer::new(messages)).await;
    let mut rows = Vec::new();
    while let Ok(message) = told.try_recv() {
        if let ServerMessage::Row(row) = message {
            rows.push(row);
        }
    }
    (rows, reply)
}

/// What is foretold of `request`, a line each.
pub(super) async fn foretold(owner: &Daemon, request: Request) -> Result<Vec<String>, Refused> {
    let (rows, reply) = ask_for_rows(owner, Request::Explain(Box::new(request))).await;
    reply?;
    let line = |row: &Row| match row {
        Row::Foreseen(row) => format!("{}: {}", row.object, row.text),
        other => panic!("{other:?} is not foretold"),
    };
    Ok(rows.iter().map(line).collect())
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn making(volume: &str, nmirror: u32) -> request::Make {
    request::Make {
        group: request::default_group(),
        volume: name(volume),
        length_bytes: 8 * MIB,
        nmirror,
        media: Vec::new(),
        plexes: Vec::new(),
        sparse: false,
        region: None,
        init: Init::Active,
        data: DataPath::Auto,
        force: false,
    }
}

pub(super) fn mirroring(volume: &str, background: bool) -> Request {
    Request::Mirror(request::Mirror {
        group: request::default_group(),
        volume: name(volume),
        nmirror: 1,
        media: Vec::new(),
        plexes: Vec::new(),
        sparse: false,
        bytes_per_second: None,
        latency_us: None,
        background,
        force: false,
    })
}

pub(super) fn snapstarting(volume: &str, background: bool) -> Request {
    Request::SnapStart(request::SnapStart {
        group: request::default_group(),
        volume: name(volume),
        nmirror: 1,
        media: Vec::new(),
        plexes: Vec::new(),
        sparse: false,
        bytes_per_second: None,
        latency_us: None,
        background,
        force: false,
    })
}

/// A started volume of that many plexes in the default group.
pub(super) async fn make(owner: &Daemon, volume: &str, nmirror: u32) -> Rc<GroupHandle<Deviceless>> {
    ask(owner, Request::Make(making(volume, nmirror))).await.unwrap();
    owner.group(&request::default_group()).unwrap()
}

/// A volume and its plexes.
pub(super) fn uuids(group: &GroupHandle<Deviceless>, volume: &str) -> (Uuid, Vec<Uuid>) {
    let record = group.record();
    let volume = record.volume(volume).unwrap();
    (volume.uuid(), volume.plexes().iter().map(|plex| plex.uuid()).collect())
}

/// Has the mover's thread do nothing until what is returned is dropped.
pub(super) fn held_mover(owner: &Daemon) -> std::sync::mpsc::Sender<()> {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    drop(owner.movers.run(move |_| async move {
        let _ = held.recv();
    }));
    hold
}

/// `request` as a task of its own, which was paused before its first step: the number under which it is listed.
pub(super) async fn paused(
    owner: &Daemon,
    request: Request,
) -> (u64, tokio::task::JoinHandle<Result<Reply, Refused>>) {
    let before = owner.tasks.list(None).len();
    let held = held_mover(owner);
    let asking = Rc::clone(owner);
    let answer = tokio::task::spawn_local(async move { ask(&asking, request).await });
    while owner.tasks.list(None).len() == before {
        tokio::task::yield_now().await;
    }
    let task = owner.tasks.list(None).iter().map(|row| row.task).max().unwrap();
    owner.tasks.pause(task).unwrap();
    drop(held);
    (task, answer)
}

#[track_caller]
pub(super) fn refused<T: Debug>(outcome: Result<T, Refused>, id: &str, kind: Kind) -> Refused {
    let refused = outcome.expect_err(id);
    assert_eq!((refused.id.as_str(), refused.kind), (id, kind), "{refused}");
    assert!(!refused.reason.is_empty() && !refused.to_string().contains('\n'), "{refused}");
    refused
}
