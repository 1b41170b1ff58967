//! A block device as `/dev/ublkbN`.
//!
//! Promises:
//! * Set-up ends: every step has a time limit, and a queue that cannot serve is reported before the device is started.
//! * Devices are always recoverable (`UBLK_F_USER_RECOVERY` with `_REISSUE`): when the process dies the device waits,
//!   and [`recover`] takes it over with its id, its size and its data mode. Only [`UblkDevice::stop`] and [`delete`]
//!   end a device.
//! * A request is completed in one place, by a number. A panic on a queue thread ends the process.
//! * The I/O of requests runs in the ring that holds the ublk character device, so that the kernel lets a successor in
//!   only after the last of it has ended (ordering rule 20).
//!
//! The library's own loop is not used: it spawns threads, waits for ever where set-up fails, and stops devices when it
//! ends. What is used of it: the control commands, the queue's set-up (file and buffer tables, descriptors) and the
//! kernel's structures.

mod control;
mod device;
mod error;
mod queue;

pub use control::{
    DeviceMark, DeviceState, Existing, Features, TryStop, delete, existing, features, occupancy, try_stop,
};
pub use device::{DataMode, DeviceOptions, Stopped, UblkDevice, add, recover, resize};
pub use error::{ExportError, ExportFault};

/// What a queue thread offers to the device that is made on it.
pub type QueueHost = crate::ring::RingHost;
/// The submitter of a queue's ring.
pub type QueueSubmitter = crate::ring::RingSubmitter;
