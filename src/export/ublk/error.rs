//! Why a device could not be shown, ready to be told.

use std::fmt;

use crate::base::{Errno, Kind, Refusal, Refused};

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExportFault {
    /// The kernel's ublk driver is not loaded, or there is none.
    NoDriver,
    /// The driver is there, its control node is not.
    NoControlNode,
    /// This user may not use the driver.
    NotPermitted,
    /// Zero copy was asked for and the kernel lacks it.
    NoZeroCopy,
    /// The driver serves no more devices.
    TooManyDevices {
        /// The driver's limit, where it can be read.
        limit: Option<u32>,
    },
    /// The id asked for belongs to a device already.
    IdTaken,
    /// There is no such device.
    NoSuchDevice,
    /// The device was not made to be taken over, or never started.
    NotRecoverable,
    /// The device's data goes a way that Cleave does not use.
    ForeignMode,
    /// Another living process serves the device.
    Served {
        /// Its process id.
        pid: i32,
    },
    /// An option makes no device.
    BadOption {
        /// Which, and what it must be.
        what: &'static str,
    },
    /// A queue thread could not be set up.
    Queue {
        /// What it was doing: a verb in the infinitive.
        step: &'static str,
    },
    /// A step took longer than its limit.
    TimedOut {
        /// The step: a verb in the infinitive.
        step: &'static str,
    },
    /// The driver or the system refused a step.
    System {
        /// The step: a verb in the infinitive.
        step: &'static str,
    },
}

/// A device that could not be shown, taken over or stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportError {
    /// What it is about: `/dev/ublkbN`, the device's name, or the driver.
    pub object: String,
    /// What is wrong.
    pub fault: ExportFault,
    /// The kernel's number, where there is one.
    pub errno: Option<Errno>,
}

impl ExportError {
    pub(super) fn new(object: impl fmt::Display, fault: ExportFault) -> Self {
        Self { object: object.to_string(), fault, errno: None }
    }

    pub(super) fn system(object: impl fmt::Display, step: &'static str, errno: Errno) -> Self {
        let fault = match errno.raw() {
            libc::EPERM => ExportFault::NotPermitted,
            _ => ExportFault::System { step },
        };
        Self { object: object.to_string(), fault, errno: Some(errno) }
    }

    fn reason(&self) -> String {
        let why = || self.errno.map_or_else(|| "unknown error".to_owned(), |errno| errno.to_string());
        match &self.fault {
            ExportFault::NoDriver => "the kernel's ublk driver is not loaded".to_owned(),
            ExportFault::NoControlNode => "/dev/ublk-control is missing".to_owned(),
            ExportFault::NotPermitted => "this user may not use the ublk driver".to_owned(),
            ExportFault::NoZeroCopy => "this kernel has no zero copy for ublk".to_owned(),
            ExportFault::TooManyDevices { limit: Some(limit) } => {
                format!("the ublk driver serves at most {limit} devices")
            }
            ExportFault::TooManyDevices { limit: None } => {
                "the ublk driver serves no more devices".to_owned()
            }
            ExportFault::IdTaken => "the id belongs to another device".to_owned(),
            ExportFault::NoSuchDevice => "there is no such ublk device".to_owned(),
            ExportFault::NotRecoverable => "the device cannot be taken over".to_owned(),
            ExportFault::ForeignMode => "the device was not made by Cleave".to_owned(),
            ExportFault::Served { pid } => format!("process {pid} serves it"),
            ExportFault::BadOption { what } => (*what).to_owned(),
            ExportFault::Queue { step } => format!("a queue thread cannot {step}: {}", why()),
            ExportFault::TimedOut { step } => format!("the kernel took too long to {step}"),
            ExportFault::System { step } => format!("cannot {step}: {}", why()),
        }
    }

    const fn way_out(&self) -> &'static str {
        match self.fault {
            ExportFault::NoDriver => "load it with: modprobe ublk_drv",
            ExportFault::NoControlNode => "give /dev/ublk-control to this container or namespace",
            ExportFault::NotPermitted => "run it as root",
            ExportFault::NoZeroCopy => "use data=copy, or a kernel from 6.16 on",
            ExportFault::TooManyDevices { .. } => {
                "stop a volume, or raise it with: echo N > /sys/module/ublk_drv/parameters/ublks_max"
            }
            ExportFault::IdTaken => "let the kernel choose the id",
            ExportFault::NoSuchDevice => "start the volume again",
            ExportFault::NotRecoverable => "stop it by force and start the volume again",
            ExportFault::ForeignMode => "leave it to the program that made it",
            ExportFault::Served { .. } => "end that process first",
            ExportFault::BadOption { .. } => "",
            ExportFault::Queue { .. } => "look into the kernel's log",
            ExportFault::TimedOut { .. } => "look for hanging disks in the kernel's log",
            ExportFault::System { .. } => "look into the kernel's log",
        }
    }

    const fn id(&self) -> (Kind, &'static str) {
        match self.fault {
            ExportFault::NoDriver => (Kind::Host, "ublk.no-driver"),
            ExportFault::NoControlNode => (Kind::Host, "ublk.no-control-node"),
            ExportFault::NotPermitted => (Kind::Permission, "ublk.not-permitted"),
            ExportFault::NoZeroCopy => (Kind::Host, "ublk.no-zero-copy"),
            ExportFault::TooManyDevices { .. } => (Kind::Host, "ublk.too-many-devices"),
            ExportFault::IdTaken => (Kind::Exists, "ublk.id-taken"),
            ExportFault::NoSuchDevice => (Kind::NotFound, "ublk.no-such-device"),
            ExportFault::NotRecoverable => (Kind::InvalidState, "ublk.not-recoverable"),
            ExportFault::ForeignMode => (Kind::InvalidState, "ublk.foreign"),
            ExportFault::Served { .. } => (Kind::Busy, "ublk.served"),
            ExportFault::BadOption { .. } => (Kind::Usage, "ublk.bad-option"),
            ExportFault::Queue { .. } => (Kind::System, "ublk.queue"),
            ExportFault::TimedOut { .. } => (Kind::TimedOut, "ublk.timed-out"),
            ExportFault::System { .. } => (Kind::System, "ublk.system"),
        }
    }

    /// The error as a person is told it.
    #[must_use]
    pub fn refusal(&self) -> Refused {
        let (kind, id) = self.id();
        Refusal::new(kind, id, &self.object, self.reason(), self.way_out())
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal().fmt(f)
    }
}

impl std::error::Error for ExportError {}

impl From<ExportError> for Refused {
    fn from(error: ExportError) -> Self {
        error.refusal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::ublk::control::limited;
    use std::time::Duration;

    #[track_caller]
    fn refused(error: &ExportError, id: &str, kind: Kind) {
        let refused = error.refusal();
        assert_eq!((refused.id.as_str(), refused.kind), (id, kind), "{refused}");
        assert!(!refused.reason.is_empty() && !refused.to_string().contains('\n'), "{refused}");
    }

    #[test]
    fn a_command_that_hangs_or_fails_is_told_apart() {
        let (wait, end) = std::sync::mpsc::channel::<()>();
        let hangs = move || end.recv().map_err(|_| Errno::IO);
        let hung = limited("/dev/ublkb0", "stop the device", Duration::from_millis(50), hangs).unwrap_err();
        refused(&hung, "ublk.timed-out", Kind::TimedOut);
        drop(wait);
        // Where no ring can be made that is the failure.
        let fails = || Err::<(), _>(Errno::IO);
        let failed = limited("/dev/ublkb0", "stop the device", Duration::from_secs(60), fails).unwrap_err();
        match failed.errno == Some(Errno::from_raw(libc::EPERM)) {
            true => refused(&failed, "ublk.not-permitted", Kind::Permission),
            false => refused(&failed, "ublk.system", Kind::System),
        }
        let errno = Errno::from_raw(libc::EPERM);
        refused(&ExportError::system("driver", "open it", errno), "ublk.not-permitted", Kind::Permission);
    }

    /// What only the kernel of a real host brings about; `tests/ublk_guest.rs` and the guest's scripts do where they can.
    #[test]
    fn what_keeps_a_device_from_being_shown_has_an_id_of_its_own() {
        for (fault, id, kind) in [
            (ExportFault::NoDriver, "ublk.no-driver", Kind::Host),
            (ExportFault::NoControlNode, "ublk.no-control-node", Kind::Host),
            (ExportFault::NoZeroCopy, "ublk.no-zero-copy", Kind::Host),
            (ExportFault::TooManyDevices { limit: None }, "ublk.too-many-devices", Kind::Host),
            (ExportFault::IdTaken, "ublk.id-taken", Kind::Exists),
            (ExportFault::NoSuchDevice, "ublk.no-such-device", Kind::NotFound),
            (ExportFault::NotRecoverable, "ublk.not-recoverable", Kind::InvalidState),
            (ExportFault::ForeignMode, "ublk.foreign", Kind::InvalidState),
            (ExportFault::Served { pid: 7 }, "ublk.served", Kind::Busy),
            (ExportFault::Queue { step: "make its ring" }, "ublk.queue", Kind::System),
        ] {
            refused(&ExportError::new("/dev/ublkb0", fault), id, kind);
        }
    }
}
