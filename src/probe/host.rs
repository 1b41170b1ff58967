//! What this host can do.

use std::fmt;

use super::View;
use crate::export::ublk::{self, ExportError, Features};

/// The version of the running kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

impl KernelVersion {
    /// From a release like `6.12.38+deb13-amd64` or `7.0-rc1`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What was found about this host.
#[derive(Clone, Debug)]
pub struct Host {
    /// The kernel's release as it calls itself.
    pub release: String,
    /// Its version, if the release begins with one.
    pub kernel: Option<KernelVersion>,
    /// What its ublk driver can do, or why it cannot be used.
    pub ublk: Result<Features, ExportError>,
    /// Whether io_uring is switched off for everybody (`kernel.io_uring_disabled` = 2).
    pub io_uring_disabled: bool,
}

impl Host {
    /// Look at this host. Asking the driver takes some milliseconds, at most the time limit of a control command.
    #[must_use]
    pub fn probe() -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let disabled = View::host().proc_file("sys/kernel/io_uring_disabled");
        Self {
            kernel: KernelVersion::parse(&release),
            release,
            ublk: ublk::features(),
            io_uring_disabled: disabled.trim() == "2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(KernelVersion::parse("6.12.38+deb13-amd64"), Some(KernelVersion { major: 6, minor: 12 }));
        assert_eq!(KernelVersion::parse("7.0-rc1"), Some(KernelVersion { major: 7, minor: 0 }));
        assert_eq!(KernelVersion::parse("unknown"), None);
        assert!(KernelVersion::parse("6.9").unwrap() < KernelVersion::parse("6.12").unwrap());
    }

    #[test]
    fn this_host_has_a_kernel_version() {
        let host = Host::probe();
        assert!(host.kernel.is_some(), "{}", host.release);
        if let Err(error) = &host.ublk {
            assert!(error.to_string().contains("; "), "{error} names a way out");
        }
    }
}
