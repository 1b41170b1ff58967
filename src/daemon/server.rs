//! The control socket: who may ask, frames in, answers out. A client can be slow, hostile or gone; nobody else notices.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use std::{cell::RefCell, future::Future};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::base::limits::MAX_FRAME_BYTES;
use crate::base::{Kind, Refusal, Refused};
use crate::control::{
    ALIVE_INTERVAL, Access, ClientMessage, Decoder, Event, FRAME_LIMIT, FrameError, PROTOCOL, Reply, Request,
    Row, ServerMessage, decode, encode,
};
use crate::ring::peer_groups;

use super::permission::{Rules, Standing};

/// Connections that one user may hold at once; further ones are told so and closed, whatever they send.
const CONNECTIONS_PER_USER: usize = 64;

/// Messages that wait for a slow client before its request is held up; a progress event is dropped instead.
const WAITING_MESSAGES: usize = 256;

/// How long a client may take to accept a message before it counts as gone.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection may be silent between two requests.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// User id, from the kernel.
    pub uid: u32,
    /// Process id, from the kernel; 0 when it is of no name space that we see.
    pub pid: i32,
}

/// A peer and what it may do, judged once, when it connected.
struct Caller {
    peer: Peer,
    standing: Standing,
    rules: Rc<Rules>,
}

/// Where the answer of one request goes.
#[derive(Clone)]
pub struct Answer {
    messages: mpsc::Sender<ServerMessage>,
}

impl Answer {
    /// An answer whose messages go to `messages`.
    #[must_use]
    pub const fn new(messages: mpsc::Sender<ServerMessage>) -> Self {
        Self { messages }
    }

    /// Send a row; waits for a slow client, and gives up on one that is gone.
    pub async fn row(&self, row: Row) {
        // A client that is gone ends its waiting, not the work.
        let _ = self.messages.send(ServerMessage::Row(row)).await;
    }

    /// Tell an event, unless the client is too slow for news.
    pub fn event(&self, event: Event) {
        let _ = self.messages.try_send(ServerMessage::Event(event));
    }

    /// Whether the client has gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }

    /// Completes when the client has gone.
    pub async fn closed(&self) {
        self.messages.closed().await;
    }
}

/// What serves the requests.
pub trait Service: 'static {
    /// Serve `request`: rows and events go to `answer`, what is returned closes it.
    fn serve(
        self: Rc<Self>,
        peer: Peer,
        request: Request,
        answer: Answer,
    ) -> impl Future<Output = Result<Reply, Refused>>;
}

/// Listen on `path`: the file is made anew, for root and the group that `rules` let look.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path, rules: &Rules) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    rules.set_socket(path)?;
    Ok(listener)
}

/// Accept connections for ever. Each is a task of its own on the calling thread.
pub async fn accept<S: Service>(listener: UnixListener, rules: Rules, service: Rc<S>) {
    let rules = Rc::new(rules);
    let counts: Rc<RefCell<HashMap<u32, usize>>> = Rc::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: those who hold some give them back soon.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(credentials) = stream.peer_cred() else { continue };
        let peer = Peer { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0) };
        let Some(place) = Place::take(&counts, peer.uid) else {
            turn_away(stream, peer.uid);
            continue;
        };
        // Without its supplementary groups it is judged by the others: less is allowed then, never more.
        let mut groups = peer_groups(&stream).unwrap_or_default();
        groups.push(credentials.gid());
        let caller = Caller { peer, standing: rules.standing(peer.uid, &groups), rules: Rc::clone(&rules) };
        let service = Rc::clone(&service);
        tokio::task::spawn_local(async move {
            converse(stream, &caller, service).await;
            drop(place);
        });
    }
}

/// One of the connections that a user may hold, given back when dropped.
struct Place {
    counts: Rc<RefCell<HashMap<u32, usize>>>,
    uid: u32,
}

impl Place {
    fn take(counts: &Rc<RefCell<HashMap<u32, usize>>>, uid: u32) -> Option<Self> {
        let mut held = counts.borrow_mut();
        let count = held.entry(uid).or_default();
        if *count >= CONNECTIONS_PER_USER {
            return None;
        }
        *count += 1;
        Some(Self { counts: Rc::clone(counts), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.counts.borrow_mut();
        if let Some(count) = held.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.uid);
            }
        }
    }
}

/// Tells one client too many so, as far as that costs no waiting, and closes.
fn turn_away(stream: UnixStream, uid: u32) {
    let refused = Refusal::new(
        Kind::Busy,
        "control.too-many-connections",
        "daemon",
        format!("user {uid} holds {CONNECTIONS_PER_USER} connections already"),
        "end some of the commands that wait",
    );
    if let (Ok(frame), Ok(mut stream)) = (encode(&ServerMessage::Refused(*refused)), stream.into_std()) {
        // A fresh socket has room; one that has none is not waited for.
        let _ = stream.write(&frame);
    }
}

/// Frames of one client.
struct Reader {
    stream: OwnedReadHalf,
    decoder: Decoder,
}

impl Reader {
    /// The next message, which must have begun within `idle` and be whole within [`FRAME_LIMIT`] of its begin, and within
    /// `idle` if that is no longer than a frame may take; `None` when the client has gone, an error when what it sent is
    /// none.
    async fn next(&mut self, idle: Duration) -> Result<Option<ClientMessage>, Refused> {
        let mut bytes = [0; 4096];
        let mut started = false;
        let mut deadline = tokio::time::Instant::now() + idle;
        loop {
            let body = self.decoder.next_body().map_err(|error| error.refusal("client"))?;
            if let Some(body) = body {
                return decode(&body).map(Some).map_err(|error| error.refusal("client"));
            }
            if self.decoder.in_frame() && !started {
                started = true;
                // Who has yet to say hello does not gain time by a first byte.
                if idle > FRAME_LIMIT {
                    deadline = tokio::time::Instant::now() + FRAME_LIMIT;
                }
            }
            match tokio::time::timeout_at(deadline, self.stream.read(&mut bytes)).await {
                Ok(Ok(0)) => {
                    return self.decoder.finish().map(|()| None).map_err(|error| error.refusal("client"));
                }
                Ok(Ok(count)) => self.decoder.feed(&bytes[..count]),
                Ok(Err(_)) | Err(_) => return Ok(None),
            }
        }
    }
}

/// Whether `message` went out whole. One that fits no frame is refused in its place, and then the connection is over too: what
/// was to follow it would be taken for the answer to the next request.
async fn send(stream: &mut OwnedWriteHalf, message: &ServerMessage) -> bool {
    send_all(stream, std::slice::from_ref(message)).await
}

/// [`send`] of several: in few writes, for a list of many rows would be as many system calls.
async fn send_all(stream: &mut OwnedWriteHalf, messages: &[ServerMessage]) -> bool {
    let mut frames = Vec::new();
    for message in messages {
        match encode(message) {
            Ok(frame) => frames.extend(frame),
            Err(error) => return write(stream, &frames).await && too_long(stream, &error).await,
        }
        if frames.len() >= MAX_FRAME_BYTES {
            if !write(stream, &frames).await {
                return false;
            }
            frames.clear();
        }
    }
    write(stream, &frames).await
}

/// Say that an answer cannot be sent; the connection is over then.
async fn too_long(stream: &mut OwnedWriteHalf, error: &FrameError) -> bool {
    let refused = Refusal::new(
        Kind::Internal,
        "control.answer-too-long",
        "daemon",
        format!("the answer cannot be sent: it would be {error}"),
        "ask for fewer objects at once",
    );
    if let Ok(frame) = encode(&ServerMessage::Refused(*refused)) {
        write(stream, &frame).await;
    }
    false
}

async fn write(stream: &mut OwnedWriteHalf, frame: &[u8]) -> bool {
    matches!(tokio::time::timeout(SEND_LIMIT, stream.write_all(frame)).await, Ok(Ok(())))
}

async fn converse<S: Service>(stream: UnixStream, caller: &Caller, service: Rc<S>) {
    let (read, mut write) = stream.into_split();
    if caller.standing == Standing::Stranger {
        let Peer { uid, pid } = caller.peer;
        tracing::warn!(uid, pid, "a stranger is turned away");
        send(&mut write, &ServerMessage::Refused(*caller.rules.refuse_stranger(uid))).await;
        return;
    }
    let mut reader = Reader { stream: read, decoder: Decoder::new() };
    match reader.next(FRAME_LIMIT).await {
        Ok(Some(ClientMessage::Hello { protocol: PROTOCOL, .. })) => {
            let hello = ServerMessage::Hello {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
            };
            if !send(&mut write, &hello).await {
                return;
            }
        }
        Ok(Some(_)) => {
            send(&mut write, &ServerMessage::Refused(*wrong_protocol())).await;
            return;
        }
        Ok(None) => return,
        Err(refused) => {
            send(&mut write, &ServerMessage::Refused(*refused)).await;
            return;
        }
    }
    loop {
        match reader.next(IDLE_LIMIT).await {
            Ok(Some(ClientMessage::Request(request))) => {
                if !answer(&mut reader, &mut write, caller, request, &service).await {
                    return;
                }
            }
            Ok(Some(ClientMessage::Hello { .. })) => {
                send(&mut write, &ServerMessage::Refused(*wrong_protocol())).await;
                return;
            }
            Ok(None) => return,
            Err(refused) => {
                send(&mut write, &ServerMessage::Refused(*refused)).await;
                return;
            }
        }
    }
}

/// Serve one request; false when the connection is over. The work itself is a task of its own: it ends by itself or by
/// an abort, never because its client went away in the middle of it.
async fn answer<S: Service>(
    reader: &mut Reader,
    write: &mut OwnedWriteHalf,
    caller: &Caller,
    request: Request,
    service: &Rc<S>,
) -> bool {
    let (verb, peer, access) = (request.verb(), caller.peer, request.access());
    if !caller.standing.may(access) {
        tracing::warn!(verb, uid = peer.uid, pid = peer.pid, "not permitted");
        return send(write, &ServerMessage::Refused(*caller.rules.refuse_change(peer.uid, verb))).await;
    }
    if access == Access::Change {
        tracing::info!(verb, uid = peer.uid, pid = peer.pid, ?request, "request");
    }
    let (messages, mut outgoing) = mpsc::channel(WAITING_MESSAGES);
    let answer = Answer::new(messages);
    let last = answer.clone();
    let service = Rc::clone(service);
    tokio::task::spawn_local(async move {
        let end = match service.serve(peer, request, answer).await {
            Ok(reply) => ServerMessage::Done(reply),
            Err(refused) => {
                tracing::info!(verb, uid = peer.uid, pid = peer.pid, id = refused.id, "refused: {refused}");
                ServerMessage::Refused(*refused)
            }
        };
        let _ = last.messages.send(end).await;
    });
    let mut bytes = [0; 4096];
    let mut messages = Vec::new();
    loop {
        tokio::select! {
            count = outgoing.recv_many(&mut messages, WAITING_MESSAGES) => {
                // The task always closes the answer; without it the daemon is ending.
                if count == 0 || !send_all(write, &messages).await {
                    return false;
                }
                let closes = |message| matches!(message, ServerMessage::Done(_) | ServerMessage::Refused(_));
                if messages.drain(..).any(closes) {
                    return true;
                }
            }
            () = tokio::time::sleep(ALIVE_INTERVAL) => {
                if !send(write, &ServerMessage::Event(Event::Alive)).await {
                    return false;
                }
            }
            // What a client sends ahead is kept for its turn, up to what the decoder takes; its end ends the waiting.
            count = reader.stream.read(&mut bytes), if !reader.decoder.in_frame() => match count {
                Ok(0) | Err(_) => return false,
                Ok(count) => reader.decoder.feed(&bytes[..count]),
            },
        }
    }
}

fn wrong_protocol() -> Refused {
    Refusal::new(
        Kind::DaemonTalk,
        "control.protocol",
        "client",
        format!("does not open with a hello of protocol {PROTOCOL}"),
        "use the cleave command of the daemon's version",
    )
}
