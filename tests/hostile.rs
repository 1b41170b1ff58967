//! Clients that mean harm to the control socket: each is answered or dropped within the limit, and a good client beside them
//! is answered all the while.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cleave::base::Refused;
use cleave::base::limits::MAX_FRAME_BYTES;
use cleave::control::reply::{Changed, Listed};
use cleave::control::request::{Query, TaskList};
use cleave::control::{
    ClientMessage, Decoder, FRAME_LIMIT, PROTOCOL, Reply, Request, Row, ServerMessage, decode, encode,
};
use cleave::daemon::permission::Rules;
use cleave::daemon::server::{self, Answer, Peer, Service};
use cleave::sim::Rng;

/// Connections that one user may hold.
const PLACES: usize = 64;

/// How long a hostile client may stay, and what a busy machine adds to it.
const DROPPED: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_secs(3);

/// What requests of these hostile clients ask for; the numbers are told by the object's name in a query.
#[derive(Default)]
struct Counts {
    served: AtomicU64,
    /// Answers that the service could give to nobody, because the client had gone.
    gone: AtomicU64,
}

struct Obliging(Arc<Counts>);

/// A row of `bytes` bytes.
fn note(bytes: usize) -> Row {
    Row::Note("x".repeat(bytes))
}

impl Service for Obliging {
    async fn serve(self: Rc<Self>, _: Peer, request: Request, answer: Answer) -> Result<Reply, Refused> {
        self.0.served.fetch_add(1, Ordering::SeqCst);
        match request {
            // Rows without an end, until nobody wants them.
            Request::TaskList(_) => {
                while !answer.is_closed() {
                    answer.row(note(1000)).await;
                }
                self.0.gone.fetch_add(1, Ordering::SeqCst);
            }
            // A short row, one that fits no frame, and a short one.
            Request::Query(_) => {
                for bytes in [1, MAX_FRAME_BYTES, 1] {
                    answer.row(note(bytes)).await;
                }
                return Ok(Reply::Listed(Listed { rows: 3 }));
            }
            // An answer that never comes while the client is there.
            Request::GroupList => {
                answer.closed().await;
                self.0.gone.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        Ok(Reply::Changed(Changed { changed: true }))
    }
}

fn query() -> Request {
    Request::Query(Query { group: None, objects: Vec::new(), media: false, tasks: false })
}

fn task_list() -> Request {
    Request::TaskList(TaskList { group: None })
}

/// A server on a socket of its own, and a good client that asks it all the time.
struct Site {
    path: PathBuf,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    good: Option<thread::JoinHandle<(u64, Duration)>>,
    _directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let counts = Arc::<Counts>::default();
        let (ready, listening) = std::sync::mpsc::channel();
        let (socket, seen) = (path.clone(), Arc::clone(&counts));
        // Ends with the process: accepting has no end.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let rules = Rules::new(&[rustix::process::geteuid().as_raw()], None, None);
                let listener = server::listen(&socket, &rules).unwrap();
                ready.send(()).unwrap();
                server::accept(listener, rules, Rc::new(Obliging(seen))).await;
            });
        });
        listening.recv().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut good, over) = (Client::greeted(&path), Arc::clone(&stop));
        let good = thread::spawn(move || {
            let (mut answers, mut slowest) = (0, Duration::ZERO);
            // At least once, however soon it is over.
            while answers == 0 || !over.load(Ordering::SeqCst) {
                let asked = Instant::now();
                good.ask(&Request::Status);
                assert!(
                    matches!(good.receive(), Some(ServerMessage::Done(_))),
                    "the good client is not answered"
                );
                (answers, slowest) = (answers + 1, slowest.max(asked.elapsed()));
                thread::sleep(Duration::from_millis(10));
            }
            (answers, slowest)
        });
        Self { path, counts, stop, good: Some(good), _directory: directory }
    }

    /// Ends the good client: it was answered all the time, and never had to wait long.
    fn end(mut self, what: &str) {
        self.stop.store(true, Ordering::SeqCst);
        let (answers, slowest) = self.good.take().unwrap().join().unwrap();
        println!("{what}: the good client had {answers} answers, the slowest after {slowest:?}");
        assert!(
            answers > 0 && slowest < Duration::from_secs(2),
            "{answers} answers, the slowest after {slowest:?}"
        );
        // All places but its own are free again.
        let end = Instant::now() + DROPPED;
        loop {
            let mut crowd: Vec<_> = (0..PLACES).map(|_| Client::new(&self.path)).collect();
            for client in &mut crowd {
                client.send(&hello(PROTOCOL));
            }
            if crowd.iter_mut().all(|client| matches!(client.receive(), Some(ServerMessage::Hello { .. }))) {
                return;
            }
            assert!(Instant::now() < end, "{what}: places of clients that have gone are not given back");
            drop(crowd);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

struct Client {
    stream: UnixStream,
    decoder: Decoder,
    since: Instant,
}

impl Client {
    fn new(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(FRAME_LIMIT * 4)).unwrap();
        Self { stream, decoder: Decoder::new(), since: Instant::now() }
    }

    fn greeted(path: &Path) -> Self {
        let mut client = Self::new(path);
        client.send(&hello(PROTOCOL));
        assert!(matches!(client.receive(), Some(ServerMessage::Hello { .. })));
        client
    }

    /// Sends what the server still takes.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    fn ask(&mut self, request: &Request) -> bool {
        self.send(&encode(&ClientMessage::Request(request.clone())).unwrap())
    }

    /// The next message, `None` when the server has closed.
    fn receive(&mut self) -> Option<ServerMessage> {
        let mut bytes = [0; 8192];
        loop {
            if let Some(body) = self.decoder.next_body().unwrap() {
                return Some(decode(&body).unwrap());
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.decoder.feed(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => {
                    panic!("neither an answer nor an end after {:?}: {error}", self.since.elapsed())
                }
            }
        }
    }

    /// Reads to the end; the ids of the refusals on the way.
    fn end(&mut self) -> Vec<String> {
        let mut ids = Vec::new();
        while let Some(message) = self.receive() {
            if let ServerMessage::Refused(refusal) = message {
                ids.push(refusal.id);
            }
        }
        ids
    }
}

fn hello(protocol: u32) -> Vec<u8> {
    encode(&ClientMessage::Hello { protocol, version: "test".to_owned() }).unwrap()
}

#[test]
fn ten_thousand_connections_are_each_served_or_told_that_they_are_too_many() {
    let site = Site::new();
    let (mut served, mut turned_away) = (0, 0);
    let mut held = Vec::new();
    for round in 0..10_000 {
        let mut client = Client::new(&site.path);
        // Who is turned away is not listened to: garbage is not answered as garbage.
        let sent = if round % 2 == 0 { hello(PROTOCOL) } else { vec![0xff; 64] };
        client.send(&sent);
        if held.len() < PLACES - 1 {
            match client.receive() {
                Some(ServerMessage::Hello { .. }) => held.push(client),
                Some(ServerMessage::Refused(refusal)) => assert_eq!(refusal.id, "control.frame-too-long"),
                other => panic!("connection {round} was answered {other:?}"),
            }
            served += 1;
        } else {
            match client.receive() {
                Some(ServerMessage::Refused(refusal)) => {
                    assert_eq!(refusal.id, "control.too-many-connections")
                }
                other => panic!("connection {round} was answered {other:?}"),
            }
            assert_eq!(client.receive(), None);
            turned_away += 1;
        }
    }
    assert_eq!(held.len(), PLACES - 1, "the good client has a place too");
    println!("{served} were served, {turned_away} turned away");
    drop(held);
    site.end("ten thousand connections");
}

#[test]
fn who_is_slow_or_silent_is_dropped_in_time() {
    let site = Site::new();
    let whole = hello(PROTOCOL);
    let slow: Vec<_> = [0, 1, 2, 3, 4]
        .map(|kind| {
            let (path, whole) = (site.path.clone(), whole.clone());
            thread::spawn(move || {
                let mut client = Client::new(&path);
                match kind {
                    // Silence.
                    0 => {}
                    // Half a frame, then silence.
                    1 => assert!(client.send(&whole[..whole.len() / 2])),
                    // A byte a second.
                    2 => {
                        for byte in &whole {
                            if !client.send(&[*byte]) {
                                break;
                            }
                            thread::sleep(Duration::from_secs(1));
                        }
                    }
                    // A first byte at the last moment gains no time.
                    3 => {
                        thread::sleep(Duration::from_secs(4));
                        assert!(client.send(&whole[..1]));
                    }
                    // A good beginning, then a byte a second.
                    _ => {
                        assert!(client.send(&whole));
                        assert!(matches!(client.receive(), Some(ServerMessage::Hello { .. })));
                        client.since = Instant::now();
                        for byte in encode(&ClientMessage::Request(Request::Status)).unwrap() {
                            if !client.send(&[byte]) {
                                break;
                            }
                            thread::sleep(Duration::from_secs(1));
                        }
                    }
                }
                assert_eq!(client.end(), Vec::<String>::new(), "kind {kind}");
                (kind, client.since.elapsed())
            })
        })
        .into();
    for client in slow {
        let (kind, stayed) = client.join().unwrap();
        println!("kind {kind} stayed {stayed:?}");
        assert!(stayed < DROPPED + BUSY, "kind {kind} stayed {stayed:?}");
        assert!(stayed > DROPPED / 2, "kind {kind} was dropped after {stayed:?}");
    }
    site.end("slow and silent clients");
}

#[test]
fn who_never_reads_is_dropped_and_its_work_ends() {
    let site = Site::new();
    let mut deaf: Vec<_> = (0..20).map(|_| Client::greeted(&site.path)).collect();
    let began = Instant::now();
    for client in &mut deaf {
        client.ask(&task_list());
    }
    while site.counts.gone.load(Ordering::SeqCst) < 20 {
        assert!(began.elapsed() < DROPPED + BUSY, "its work goes on for a client that does not read");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() > DROPPED / 2, "a slow reader is given some time");
    // What was sent before ends in the middle, and is cut, not muddled.
    for mut client in deaf {
        let mut rows = 0;
        while let Some(message) = client.receive() {
            assert_eq!(message, ServerMessage::Row(note(1000)));
            rows += 1;
        }
        assert!(rows > 0);
    }
    site.end("clients that never read");
}

#[test]
fn who_leaves_before_the_answer_leaves_nothing_behind() {
    let site = Site::new();
    for round in 0..1000 {
        let mut client = Client::new(&site.path);
        client.send(&hello(PROTOCOL));
        client.ask(&Request::GroupList);
        if round % 2 == 0 {
            assert!(matches!(client.receive(), Some(ServerMessage::Hello { .. })), "round {round}");
        }
        // A user's own crowd is not what this is about.
        if round % 32 == 31 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    let end = Instant::now() + DROPPED;
    loop {
        let (served, gone) = (&site.counts.served, &site.counts.gone);
        // The good client's requests are served too, and are not waited for by anybody.
        if gone.load(Ordering::SeqCst) >= 500 {
            println!(
                "{} were served, {} had gone",
                served.load(Ordering::SeqCst),
                gone.load(Ordering::SeqCst)
            );
            break;
        }
        assert!(
            Instant::now() < end,
            "work for clients that have gone goes on: {}",
            gone.load(Ordering::SeqCst)
        );
        thread::sleep(Duration::from_millis(20));
    }
    site.end("clients that leave");
}

#[test]
fn an_answer_that_fits_no_frame_ends_the_conversation_and_muddles_no_other() {
    let site = Site::new();
    let mut client = Client::greeted(&site.path);
    // The second request must not be answered with what was meant for the first.
    client.ask(&query());
    client.ask(&Request::Status);
    assert_eq!(client.receive(), Some(ServerMessage::Row(note(1))));
    match client.receive() {
        Some(ServerMessage::Refused(refusal)) => assert_eq!(refusal.id, "control.answer-too-long"),
        other => panic!("it was answered {other:?}"),
    }
    assert_eq!(client.receive(), None);
    site.end("an answer too long");
}

#[test]
fn a_descriptor_passed_unasked_is_closed() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let site = Site::new();
    let mut client = Client::greeted(&site.path);
    let request = encode(&ClientMessage::Request(Request::Status)).unwrap();
    for split in [0, 5] {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let descriptors = [write.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        assert!(client.send(&request[..split]));
        let bytes = [std::io::IoSlice::new(&request[split..])];
        assert_eq!(
            sendmsg(&client.stream, &bytes, &mut ancillary, SendFlags::empty()).unwrap(),
            request.len() - split
        );
        drop(write);
        assert!(matches!(client.receive(), Some(ServerMessage::Done(_))), "the request itself is a good one");
        // Nobody holds the other end any more, so that reading ends at once.
        let mut read = std::fs::File::from(read);
        let (told, ended) = std::sync::mpsc::channel();
        thread::spawn(move || told.send(read.read(&mut [0])));
        let ended = ended.recv_timeout(DROPPED).expect("the descriptor is still held");
        assert_eq!(ended.unwrap(), 0);
    }
    drop(client);
    site.end("descriptors passed");
}

#[test]
fn commands_in_a_loop_are_answered_one_by_one() {
    // A million in the long form.
    let commands: u64 = if std::env::var_os("CLEAVE_LONG").is_some() { 1_000_000 } else { 20_000 };
    let site = Site::new();
    let mut client = Client::greeted(&site.path);
    let mut writer = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let many = encode(&ClientMessage::Request(Request::Status)).unwrap().repeat(100);
        for _ in 0..commands / 100 {
            writer.write_all(&many).unwrap();
        }
    });
    for answered in 0..commands {
        assert!(matches!(client.receive(), Some(ServerMessage::Done(_))), "after {answered} answers");
    }
    sender.join().unwrap();
    assert!(site.counts.served.load(Ordering::SeqCst) >= commands);
    drop(client);
    site.end("commands in a loop");
}

#[test]
fn damaged_conversations_are_answered_or_dropped() {
    let site = Site::new();
    let good = [
        hello(PROTOCOL),
        encode(&ClientMessage::Request(Request::Status)).unwrap(),
        encode(&ClientMessage::Request(query())).unwrap(),
    ]
    .concat();
    let (mut rng, mut refused) = (Rng::new(7), 0);
    for round in 0..500 {
        let mut bytes = good.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.index(bytes.len());
            match rng.below(3) {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes[at] = rng.next_u64() as u8,
                _ => {
                    bytes.remove(at);
                }
            }
        }
        let mut client = Client::new(&site.path);
        client.send(&bytes);
        // An unfinished frame ends here.
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        refused += usize::from(!client.end().is_empty());
        assert!(client.since.elapsed() < DROPPED + BUSY, "round {round} stayed {:?}", client.since.elapsed());
    }
    assert!(refused > 100, "only {refused} of 500 were refused");
    site.end("damaged conversations");
}
