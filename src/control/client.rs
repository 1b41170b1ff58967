//! The client's side of the conversation, blocking, every step with a time limit.

use super::{
    ClientMessage, Decoder, Event, FRAME_LIMIT, PROTOCOL, Reply, Request, Row, SILENCE_LIMIT, SOCKET_ENV,
    SOCKET_PATH, ServerMessage, decode, encode,
};
use crate::base::{Errno, Kind, Refusal, Refused};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The socket to use: `explicit`, else what `CLEAVE_SOCKET` says, else [`SOCKET_PATH`].
#[must_use]
pub fn socket_path(explicit: Option<&Path>) -> PathBuf {
    explicit
        .map(Path::to_path_buf)
        .or_else(|| std::env::var_os(SOCKET_ENV).filter(|value| !value.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from(SOCKET_PATH))
}

/// Where the last daemon of `socket` had its state, as it left word beside the socket.
#[must_use]
pub fn last_state(socket: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(socket.with_extension("lock")).ok()?;
    text.lines().nth(1).filter(|line| line.starts_with('/')).map(PathBuf::from)
}

/// The time limits of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// For connecting, for the hello, and for a frame that has begun.
    pub frame: Duration,
    /// For silence while a request is under way.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame: FRAME_LIMIT, silence: SILENCE_LIMIT }
    }
}

/// A connection on which hellos were exchanged.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    decoder: Decoder,
    limits: Limits,
    version: String,
    pid: u32,
}

impl Client {
    /// Connects to the daemon at `path` and exchanges hellos.
    ///
    /// # Errors
    /// [`Kind::DaemonDown`] when nobody listens, [`Kind::Permission`] when the socket may not be opened,
    /// [`Kind::DaemonTalk`] when the daemon does not answer in time, speaks another protocol or sends garbage.
    pub fn connect(path: &Path, limits: Limits) -> Result<Self, Refused> {
        let stream = dial(path, limits.frame)?;
        let mut client = Self {
            stream,
            path: path.to_path_buf(),
            decoder: Decoder::new(),
            limits,
            version: String::new(),
            pid: 0,
        };
        client.greet()?;
        Ok(client)
    }

    /// Exchanges hellos.
    fn greet(&mut self) -> Result<(), Refused> {
        self.send(&ClientMessage::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })?;
        match self.receive(self.limits.frame)? {
            ServerMessage::Hello { protocol: PROTOCOL, version, pid } => {
                (self.version, self.pid) = (version, pid);
                Ok(())
            }
            ServerMessage::Hello { protocol, version, .. } => Err(Refusal::new(
                Kind::DaemonTalk,
                "control.protocol",
                self.path.display(),
                format!("cleaved {version} speaks protocol {protocol}, this cleave speaks {PROTOCOL}"),
                "install cleave and cleaved of one version",
            )),
            ServerMessage::Refused(refusal) => Err(Box::new(refusal)),
            ServerMessage::Event(_) | ServerMessage::Row(_) | ServerMessage::Done(_) => {
                Err(self.fault(Kind::DaemonTalk, "control.order", "answered before it said hello"))
            }
        }
    }

    /// The daemon's version, from its hello.
    #[must_use]
    pub fn daemon_version(&self) -> &str {
        &self.version
    }

    /// The daemon's process id, from its hello.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.pid
    }

    /// Sends `request` and gives each event and row to `heard` as it arrives, until the answer is closed.
    ///
    /// # Errors
    /// The daemon's refusal, or [`Kind::DaemonTalk`] when the answer breaks off, is garbage or stays away.
    pub fn call(&mut self, request: &Request, mut heard: impl FnMut(Heard)) -> Result<Reply, Refused> {
        self.send(&ClientMessage::Request(request.clone()))?;
        loop {
            match self.receive(self.limits.silence)? {
                ServerMessage::Event(event) => heard(Heard::Event(event)),
                ServerMessage::Row(row) => heard(Heard::Row(row)),
                ServerMessage::Done(reply) => return Ok(reply),
                ServerMessage::Refused(refusal) => return Err(Box::new(refusal)),
                ServerMessage::Hello { .. } => {
                    return Err(self.fault(
                        Kind::DaemonTalk,
                        "control.order",
                        "said hello in the middle of an answer",
                    ));
                }
            }
        }
    }

    /// Waits until the daemon closes the connection, for `limit` at most; whether it has.
    pub fn wait_for_end(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut sink = [0; 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            match self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut sink)) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    fn send(&mut self, message: &ClientMessage) -> Result<(), Refused> {
        let frame = encode(message).map_err(|error| {
            Refusal::new(
                Kind::Usage,
                "control.frame-too-long",
                "request",
                format!("does not fit: {error}"),
                "name fewer objects",
            )
        })?;
        let Err(error) = self.stream.write_all(&frame) else { return Ok(()) };
        // Who closes unasked may have said why.
        let closed = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        match closed.then(|| self.receive(self.limits.frame)) {
            Some(Ok(ServerMessage::Refused(refusal))) => Err(Box::new(refusal)),
            Some(Ok(_) | Err(_)) | None => Err(self.broken(&error)),
        }
    }

    /// The next message, which must begin within `silence` and be complete within the frame limit after that.
    fn receive(&mut self, silence: Duration) -> Result<ServerMessage, Refused> {
        let mut deadline = Instant::now() + silence;
        let mut begun = self.decoder.in_frame();
        if begun {
            deadline = Instant::now() + self.limits.frame;
        }
        loop {
            if let Some(body) = self.decoder.next_body().map_err(|e| e.refusal(self.path.display()))? {
                return decode(&body).map_err(|e| e.refusal(self.path.display()));
            }
            if !begun && self.decoder.in_frame() {
                begun = true;
                deadline = Instant::now() + self.limits.frame;
            }
            self.read_some(deadline)?;
        }
    }

    fn read_some(&mut self, deadline: Instant) -> Result<(), Refused> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.silent());
        }
        let mut buffer = [0; 32 << 10];
        let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut buffer));
        match read {
            Ok(0) => match self.decoder.finish() {
                Err(error) => Err(error.refusal(self.path.display())),
                Ok(()) => Err(self.fault(
                    Kind::DaemonTalk,
                    "control.closed",
                    "closed the connection before it answered",
                )),
            },
            Ok(count) => {
                self.decoder.feed(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn broken(&self, error: &std::io::Error) -> Refused {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.silent(),
            _ => self.fault(
                Kind::DaemonTalk,
                "control.broken",
                &format!("broke the connection ({})", text(error)),
            ),
        }
    }

    fn silent(&self) -> Refused {
        self.fault(Kind::DaemonTalk, "control.silent", "did not answer in time")
    }

    fn fault(&self, kind: Kind, id: &str, reason: &str) -> Refused {
        Refusal::new(kind, id, self.path.display(), format!("cleaved {reason}"), LOOK)
    }
}

/// What arrives before an answer is closed.
#[derive(Clone, PartialEq, Debug)]
pub enum Heard {
    /// An event.
    Event(Event),
    /// A row.
    Row(Row),
}

const LOOK: &str = "look at what it told on its standard error, then ask again with: cleave daemon status";

fn text(error: &std::io::Error) -> String {
    Errno::from_raw(error.raw_os_error().unwrap_or(Errno::IO.raw())).to_string()
}

/// A connected stream with a limit on each write. The limit is set before connecting, because a daemon that hangs leaves
/// its queue of connections full, and then connecting waits.
fn dial(path: &Path, limit: Duration) -> Result<UnixStream, Refused> {
    let address = SocketAddrUnix::new(path).map_err(|_| {
        Refusal::new(
            Kind::Usage,
            "control.socket-path",
            path.display(),
            "is not usable as the path of a socket (at most 107 bytes)",
            "name a shorter one with --socket",
        )
    })?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|error| system(path, error.into()))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))
        .map_err(|error| system(path, error.into()))?;
    rustix::net::connect(&socket, &address).map_err(|error| refused_connection(path, error.into()))?;
    Ok(UnixStream::from(socket))
}

fn refused_connection(path: &Path, error: std::io::Error) -> Refused {
    let object = path.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => Refusal::new(
            Kind::DaemonDown,
            "daemon.not-running",
            object,
            "the daemon does not run",
            "start it, as root: cleaved",
        ),
        ErrorKind::PermissionDenied => Refusal::new(
            Kind::Permission,
            "daemon.no-access",
            object,
            "this user may not talk to the daemon",
            "run the command as root, or join the group of the socket",
        ),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Refusal::new(Kind::DaemonTalk, "control.silent", object, "cleaved accepts no connection", LOOK)
        }
        _ => Refusal::new(
            Kind::DaemonTalk,
            "control.connect",
            object,
            format!("cannot connect ({})", text(&error)),
            "check the path of the socket",
        ),
    }
}

fn system(path: &Path, error: std::io::Error) -> Refused {
    Refusal::new(
        Kind::System,
        "control.socket",
        path.display(),
        format!("cannot make a socket ({})", text(&error)),
        "",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reply::Changed;
    use crate::control::request::Request;
    use std::os::unix::net::UnixListener;
    use std::thread;

    const SHORT: Limits = Limits { frame: Duration::from_millis(150), silence: Duration::from_millis(300) };

    fn hello() -> Vec<u8> {
        encode(&ServerMessage::Hello { protocol: PROTOCOL, version: "9.9".to_owned(), pid: 77 }).unwrap()
    }

    /// What a call ends with when a daemon sends `chunks`, with pauses, after the client's bytes arrived.
    fn against(chunks: Vec<(Vec<u8>, u64)>, then_silent: bool) -> Result<Reply, Refused> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            for (bytes, pause) in chunks {
                if peer.write_all(&bytes).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(pause));
            }
            if then_silent {
                let mut sink = [0; 1024];
                while peer.read(&mut sink).is_ok_and(|count| count > 0) {}
            } else {
                // The client's request is read, so that closing does not reset the connection under our answer.
                let mut sink = [0; 1024];
                let _ = peer.set_read_timeout(Some(Duration::from_millis(50)));
                while peer.read(&mut sink).is_ok_and(|count| count > 0) {}
            }
        });
        let started = Instant::now();
        let answer = Client::connect(&path, SHORT).and_then(|mut client| {
            assert_eq!((client.daemon_version(), client.daemon_pid()), ("9.9", 77));
            client.call(&Request::GroupList, |_| {})
        });
        assert!(started.elapsed() < Duration::from_secs(3), "took {:?}", started.elapsed());
        server.join().unwrap();
        answer
    }

    fn id(answer: Result<Reply, Refused>) -> String {
        let refusal = answer.unwrap_err();
        assert_eq!(refusal.kind, Kind::DaemonTalk, "{refusal}");
        refusal.id
    }

    #[test]
    fn a_connection_that_is_reset_in_the_middle_of_an_answer_is_told_as_broken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(&hello()).unwrap();
            // What was sent and not read resets the connection when it is closed.
            thread::sleep(Duration::from_millis(100));
        });
        let answer =
            Client::connect(&path, SHORT).and_then(|mut client| client.call(&Request::GroupList, |_| {}));
        server.join().unwrap();
        assert_eq!(id(answer), "control.broken");
    }

    #[test]
    fn a_socket_that_cannot_be_made_is_the_systems_fault() {
        let refused = system(Path::new("/run/s"), rustix::io::Errno::MFILE.into());
        assert_eq!((refused.id.as_str(), refused.kind), ("control.socket", Kind::System));
        assert_eq!(refused.to_string(), "/run/s: cannot make a socket (Too many open files)");
    }

    #[test]
    fn a_good_answer_passes_even_byte_by_byte() {
        let done = ServerMessage::Done(Reply::Changed(Changed { changed: true }));
        let bytes =
            [hello(), encode(&ServerMessage::Event(Event::Alive)).unwrap(), encode(&done).unwrap()].concat();
        let chunks = bytes.into_iter().map(|byte| (vec![byte], 0)).collect();
        assert_eq!(against(chunks, true), Ok(Reply::Changed(Changed { changed: true })));
    }

    #[test]
    fn a_broken_daemon_is_refused_within_the_limits() {
        let refusal = |bytes: &[u8], silent| id(against(vec![(hello(), 0), (bytes.to_vec(), 0)], silent));
        assert_eq!(refusal(&[], true), "control.silent");
        assert_eq!(refusal(&[], false), "control.closed");
        assert_eq!(refusal(&[0; 4], true), "control.frame-empty");
        assert_eq!(refusal(&[0xff; 4], true), "control.frame-too-long");
        assert_eq!(refusal(&[9, 0, 0], true), "control.silent");
        assert_eq!(refusal(&[9, 0, 0, 0, b'{'], false), "control.frame-cut-off");
        assert_eq!(refusal(&encode(&"what").unwrap(), true), "control.frame-garbage");
        assert_eq!(refusal(&hello(), true), "control.order");
        assert_eq!(
            id(against(vec![(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), 0)], true)),
            "control.frame-too-long"
        );
        assert_eq!(id(against(vec![], true)), "control.silent");
        let old = ServerMessage::Hello { protocol: PROTOCOL + 1, version: "9.9".to_owned(), pid: 1 };
        assert_eq!(id(against(vec![(encode(&old).unwrap(), 0)], true)), "control.protocol");
    }

    #[test]
    fn a_frame_that_trickles_is_cut_short_and_signs_of_life_are_not() {
        let alive = encode(&ServerMessage::Event(Event::Alive)).unwrap();
        let done = encode(&ServerMessage::Done(Reply::Changed(Changed { changed: false }))).unwrap();
        let trickle = done.iter().map(|byte| (vec![*byte], 100)).collect::<Vec<_>>();
        assert_eq!(id(against([vec![(hello(), 0)], trickle].concat(), true)), "control.silent");
        let patient = (0..5).map(|_| (alive.clone(), 200)).chain([(done, 0)]).collect::<Vec<_>>();
        assert!(against([vec![(hello(), 0)], patient].concat(), true).is_ok());
    }

    #[test]
    fn a_daemon_that_closes_at_once_is_heard_out() {
        for waits in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("s");
            let listener = UnixListener::bind(&path).unwrap();
            let server = thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                if waits {
                    thread::sleep(Duration::from_millis(50));
                }
                let refusal =
                    Refusal::new(Kind::Busy, "control.too-many-connections", "daemon", "is full", "");
                peer.write_all(&encode(&ServerMessage::Refused(*refusal)).unwrap()).unwrap();
            });
            let stream = dial(&path, SHORT.frame).unwrap();
            if !waits {
                server.join().unwrap();
            }
            let mut client = Client {
                stream,
                path: path.clone(),
                decoder: Decoder::new(),
                limits: SHORT,
                version: String::new(),
                pid: 0,
            };
            let refusal = client.greet().unwrap_err();
            assert_eq!((refusal.kind, refusal.id.as_str()), (Kind::Busy, "control.too-many-connections"));
        }
    }

    #[test]
    fn nobody_listening_is_told_from_no_permission_and_a_bad_path() {
        let dir = tempfile::tempdir().unwrap();
        let gone = Client::connect(&dir.path().join("none"), SHORT).unwrap_err();
        assert_eq!((gone.kind, gone.id.as_str()), (Kind::DaemonDown, "daemon.not-running"));
        let stale = dir.path().join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        assert_eq!(Client::connect(&stale, SHORT).unwrap_err().kind, Kind::DaemonDown);
        let long = dir.path().join("x".repeat(200));
        assert_eq!(Client::connect(&long, SHORT).unwrap_err().id, "control.socket-path");
        let denied = refused_connection(&stale, ErrorKind::PermissionDenied.into());
        assert_eq!((denied.kind, denied.kind.exit_code()), (Kind::Permission, 67));
    }

    #[test]
    fn a_daemon_that_accepts_nothing_does_not_hang_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let started = Instant::now();
        let mut ends = Vec::new();
        let mut held = Vec::new();
        for _ in 0..4 {
            match dial(&path, SHORT.frame) {
                Ok(stream) => held.push(stream),
                Err(refusal) => ends.push(refusal.id),
            }
        }
        assert!(ends.iter().all(|id| id == "control.silent") && !ends.is_empty(), "{ends:?}");
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}
