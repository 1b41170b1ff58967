//! The groups of a socket's peer: a socket option without a safe wrapper in `rustix`, which is why it stands in the room
//! for unsafe code.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Groups that a process has as a rule; one that has more is asked a second time.
const USUAL_GROUPS: usize = 32;

/// The supplementary group ids that the peer of the Unix stream `socket` had when it connected (`SO_PEERGROUPS`,
/// unix(7)), as this user name space numbers them. They are those of the process itself, not those that a data base names
/// for its user; its own group id is not among them unless it is a supplementary one too.
///
/// # Errors
/// The system call's; `ENODATA` when the socket has no peer.
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; USUAL_GROUPS];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice()))
            .map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        // SAFETY: the descriptor is borrowed, and the kernel writes at most `bytes` bytes to `groups`, which has them.
        let status = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        // The kernel tells the length that it wrote, or would have written.
        let count = bytes as usize / size_of::<u32>();
        if status == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_peer_has_the_groups_of_its_process() {
        let (here, _there) = UnixStream::pair().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let mut own: Vec<u32> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let mut told = peer_groups(&here).unwrap();
        own.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, own);
        assert!(peer_groups(std::fs::File::open("/dev/null").unwrap()).is_err(), "no socket");
    }
}
