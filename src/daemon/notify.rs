//! Words to the service manager, as sd_notify(3) describes them: one datagram to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket: a path, or an abstract name behind an `@`.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// What the manager is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// Living devices are served again, and the control socket answers.
    Ready,
    /// The daemon has been told to end.
    Stopping,
}

impl Word {
    const fn text(self) -> &'static str {
        match self {
            Self::Ready => "READY=1\nSTATUS=serving",
            Self::Stopping => "STOPPING=1\nSTATUS=stopping the volumes that nobody has open",
        }
    }
}

/// Tell the service manager, if there is one. A manager that cannot be told is a line in the log.
pub fn tell(word: Word) {
    if let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty())
        && let Err(error) = send(&name, word)
    {
        tracing::warn!("the service manager cannot be told {word:?}: {error}");
    }
}

fn send(name: &OsStr, word: Word) -> io::Result<()> {
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that hangs must not hold up the volumes.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(word.text().as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn words_arrive_at_a_path_and_at_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), Word::Ready).unwrap();
        assert!(received(&manager).lines().any(|line| line == "READY=1"));
        let name = format!("cleave-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send(format!("@{name}").as_ref(), Word::Stopping).unwrap();
        assert!(received(&manager).lines().any(|line| line == "STOPPING=1"));
        assert!(send(directory.path().join("nobody").as_os_str(), Word::Ready).is_err());
    }
}
