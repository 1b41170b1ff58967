//! The control socket under hostile, broken and slow clients: each is told what is wrong or closed, nothing reaches the
//! service, and the next client is served as if nothing had been.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cleave::base::Refused;
use cleave::base::limits::MAX_FRAME_BYTES;
use cleave::control::client::Limits;
use cleave::control::reply::Changed;
use cleave::control::request::{StopAll, default_group};
use cleave::control::{
    Client as RealClient, ClientMessage, Decoder, FRAME_LIMIT, PROTOCOL, Reply, Request, ServerMessage,
    decode, encode,
};
use cleave::daemon::permission::{HostGroup, Rules};
use cleave::daemon::server::{self, Answer, Peer, Service};

/// Counts what reaches it, and alternates its answer so that an answer cannot be mistaken for the one before.
struct Counting {
    served: Arc<AtomicU64>,
    changed: Cell<bool>,
}

impl Service for Counting {
    async fn serve(self: Rc<Self>, _: Peer, _: Request, _: Answer) -> Result<Reply, Refused> {
        self.served.fetch_add(1, Ordering::SeqCst);
        self.changed.set(!self.changed.get());
        Ok(Reply::Changed(Changed { changed: self.changed.get() }))
    }
}

/// A server on a socket in a directory of its own, and how many requests its service has seen.
struct Server {
    path: PathBuf,
    served: Arc<AtomicU64>,
    _directory: tempfile::TempDir,
}

impl Server {
    /// A server that lets this process do everything.
    fn start() -> Self {
        Self::with(Rules::new(&[own().0], None, None))
    }

    fn with(rules: Rules) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let served = Arc::new(AtomicU64::new(0));
        let (ready, listening) = std::sync::mpsc::channel();
        let (socket, seen) = (path.clone(), Arc::clone(&served));
        // Ends with the process: accepting has no end.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let listener = server::listen(&socket, &rules).unwrap();
                ready.send(()).unwrap();
                server::accept(
                    listener,
                    rules,
                    Rc::new(Counting { served: seen, changed: Cell::new(false) }),
                )
                .await;
            });
        });
        listening.recv().unwrap();
        Self { path, served, _directory: directory }
    }

    /// A good client is served, and is the only one that was since the last call.
    fn serves(&self) {
        let before = self.served.load(Ordering::SeqCst);
        let mut client = Client::greeted(&self.path);
        client.send(&encode(&ClientMessage::Request(Request::Status)).unwrap());
        match client.receive() {
            Some(ServerMessage::Done(Reply::Changed(_))) => {}
            other => panic!("a good client was answered {other:?}"),
        }
        assert_eq!(self.served.load(Ordering::SeqCst), before + 1);
    }
}

/// User and group of this process.
fn own() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

struct Client {
    stream: UnixStream,
    decoder: Decoder,
}

impl Client {
    fn new(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(FRAME_LIMIT * 3)).unwrap();
        Self { stream, decoder: Decoder::new() }
    }

    fn greeted(path: &Path) -> Self {
        let mut client = Self::new(path);
        client.send(&hello(PROTOCOL));
        match client.receive() {
            Some(ServerMessage::Hello { protocol: PROTOCOL, pid, .. }) => assert_eq!(pid, std::process::id()),
            other => panic!("a hello was answered {other:?}"),
        }
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        // The server may have closed already, having seen enough.
        let _ = self.stream.write_all(bytes);
    }

    /// The next message, `None` when the server has closed.
    fn receive(&mut self) -> Option<ServerMessage> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(body) = self.decoder.next_body().unwrap() {
                return Some(decode(&body).unwrap());
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.decoder.feed(&bytes[..count]),
                // Closed with bytes of ours unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("neither an answer nor an end: {error}"),
            }
        }
    }
}

fn hello(protocol: u32) -> Vec<u8> {
    encode(&ClientMessage::Hello { protocol, version: "test".to_owned() }).unwrap()
}

/// `body` behind a header that tells its length.
fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat()
}

/// What is sent, and the id of the refusal that it is answered with.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let nested = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
    vec![
        ("another protocol's first line", b"GET / HTTP/1.0\r\n\r\n".to_vec(), "control.frame-too-long"),
        ("an empty frame", 0_u32.to_le_bytes().to_vec(), "control.frame-empty"),
        ("the largest length", u32::MAX.to_le_bytes().to_vec(), "control.frame-too-long"),
        (
            "a length one above the limit",
            u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_le_bytes().to_vec(),
            "control.frame-too-long",
        ),
        ("bytes that are no text", frame(&[0xff; 64]), "control.frame-garbage"),
        ("JSON that is no message", frame(b"{\"request\":{\"rm\":\"/\"}}"), "control.frame-garbage"),
        ("deep nesting", frame(&nested), "control.frame-garbage"),
        ("two documents in one frame", frame(b"\"status\" \"status\""), "control.frame-garbage"),
    ]
}

#[test]
fn garbage_is_refused_before_and_after_the_hello_and_reaches_nobody() {
    let server = Server::start();
    server.serves();
    for (what, bytes, id) in hostile() {
        for greeted in [false, true] {
            let mut client = if greeted { Client::greeted(&server.path) } else { Client::new(&server.path) };
            client.send(&bytes);
            match client.receive() {
                Some(ServerMessage::Refused(refusal)) => {
                    assert_eq!(refusal.id, id, "{what}, greeted: {greeted}");
                    assert_eq!(refusal.kind.exit_code(), 4);
                    assert!(!refusal.way_out.is_empty() && !refusal.to_string().contains('\n'), "{refusal}");
                }
                other => panic!("{what}, greeted: {greeted}, was answered {other:?}"),
            }
            assert_eq!(client.receive(), None, "after {what} the connection is over");
        }
        server.serves();
    }
}

#[test]
fn who_does_not_open_with_a_hello_of_this_protocol_is_refused() {
    let server = Server::start();
    let request = encode(&ClientMessage::Request(Request::Status)).unwrap();
    for first in [request, hello(PROTOCOL + 1), hello(0)] {
        let mut client = Client::new(&server.path);
        client.send(&first);
        match client.receive() {
            Some(ServerMessage::Refused(refusal)) => assert_eq!(refusal.id, "control.protocol"),
            other => panic!("it was answered {other:?}"),
        }
        assert_eq!(client.receive(), None);
    }
    assert_eq!(server.served.load(Ordering::SeqCst), 0);
    server.serves();
}

#[test]
fn a_half_frame_that_ends_is_told_and_one_that_stalls_is_closed() {
    let server = Server::start();
    let whole = encode(&ClientMessage::Request(Request::Status)).unwrap();
    for length in [1, 3, 4, 5, whole.len() - 1] {
        let mut client = Client::greeted(&server.path);
        client.send(&whole[..length]);
        client.stream.shutdown(Shutdown::Write).unwrap();
        match client.receive() {
            Some(ServerMessage::Refused(refusal)) => assert_eq!(refusal.id, "control.frame-cut-off"),
            other => panic!("after {length} bytes it was answered {other:?}"),
        }
        assert_eq!(client.receive(), None);
    }
    let mut stalled = Client::greeted(&server.path);
    let began = Instant::now();
    stalled.send(&whole[..whole.len() - 1]);
    // It holds up nobody meanwhile.
    server.serves();
    assert!(began.elapsed() < FRAME_LIMIT, "a stalled client held up another one");
    assert_eq!(stalled.receive(), None);
    assert!(began.elapsed() >= FRAME_LIMIT - Duration::from_millis(100), "closed too early");
    // A frame that comes in pieces, each in time, is one like any other.
    let before = server.served.load(Ordering::SeqCst);
    let mut slow = Client::greeted(&server.path);
    for piece in whole.chunks(3) {
        slow.send(piece);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(slow.receive(), Some(ServerMessage::Done(_))));
    assert_eq!(server.served.load(Ordering::SeqCst), before + 1);
}

#[test]
fn one_user_cannot_take_all_connections_for_good() {
    let server = Server::start();
    let mut crowd: Vec<_> = (0..64).map(|_| Client::greeted(&server.path)).collect();
    let mut beyond = Client::new(&server.path);
    beyond.send(&hello(PROTOCOL));
    match beyond.receive() {
        Some(ServerMessage::Refused(refusal)) => assert_eq!(refusal.id, "control.too-many-connections"),
        other => panic!("one more than allowed was answered {other:?}"),
    }
    assert_eq!(beyond.receive(), None, "and then it is closed");
    // Those who are in are served all the same.
    crowd[63].send(&encode(&ClientMessage::Request(Request::Status)).unwrap());
    assert!(matches!(crowd[63].receive(), Some(ServerMessage::Done(_))));
    drop(crowd);
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let mut client = Client::new(&server.path);
        client.send(&hello(PROTOCOL));
        if matches!(client.receive(), Some(ServerMessage::Hello { .. })) {
            break;
        }
        assert!(Instant::now() < end, "places of clients that have gone are not given back");
        std::thread::sleep(Duration::from_millis(10));
    }
    server.serves();
}

/// A group called `name` that this process is of, or is not.
fn group(name: &str, ours: bool) -> Option<HostGroup> {
    let groups: Vec<u32> = rustix::process::getgroups().unwrap().iter().map(|id| id.as_raw()).collect();
    let other = (3_000_000..).find(|id| *id != own().1 && !groups.contains(id)).unwrap();
    Some(HostGroup { name: name.to_owned(), id: if ours { own().1 } else { other } })
}

#[test]
fn each_peer_is_served_what_its_groups_allow() {
    // Whether this process is the trusted user, a reader, an admin; and whether it may look, and change.
    for (trusted, reader, admin, look, change) in [
        (true, false, false, true, true),
        (false, true, false, true, false),
        (false, false, true, true, true),
        (false, true, true, true, true),
        (false, false, false, false, false),
    ] {
        let user = if trusted { own().0 } else { own().0 + 1 };
        // The socket's own mode is not what is tested: a group that this process is not of cannot be given to it.
        let readers = if reader || own().0 == 0 { group("cleave", reader) } else { None };
        let server = Server::with(Rules::new(&[user], readers, group("storage", admin)));
        let ask = |request: &Request| {
            let mut client = RealClient::connect(&server.path, Limits::default())?;
            client.call(request, |_| {})
        };
        let (status, stop) = (Request::Status, Request::StopAll(StopAll { group: default_group() }));
        for (request, may) in [(status, look), (stop, change)] {
            let before = server.served.load(Ordering::SeqCst);
            let answer = ask(&request);
            let reached = server.served.load(Ordering::SeqCst) - before;
            let case = format!("trusted {trusted}, reader {reader}, admin {admin}: {}", request.verb());
            if may {
                assert!(answer.is_ok(), "{case}: {answer:?}");
                assert_eq!(reached, 1, "{case}");
                continue;
            }
            let refused = answer.expect_err(&case);
            let id = if look { "control.may-only-look" } else { "control.stranger" };
            assert_eq!((refused.id.as_str(), refused.kind.exit_code(), reached), (id, 67, 0), "{case}");
            assert!(!refused.way_out.is_empty() && !refused.to_string().contains('\n'), "{refused}");
        }
    }
}

#[test]
fn a_stranger_is_turned_away_before_it_has_said_anything_and_whatever_it_says() {
    let server = Server::with(Rules::new(&[own().0 + 1], None, None));
    let turned_away = |mut client: Client| {
        match client.receive() {
            Some(ServerMessage::Refused(refusal)) => assert_eq!(refusal.id, "control.stranger"),
            other => panic!("a stranger was answered {other:?}"),
        }
        assert_eq!(client.receive(), None);
    };
    turned_away(Client::new(&server.path));
    for (_, bytes, _) in hostile() {
        let mut client = Client::new(&server.path);
        client.send(&bytes);
        turned_away(client);
    }
    assert_eq!(server.served.load(Ordering::SeqCst), 0);
}
