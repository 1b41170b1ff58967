//! Faces of one device towards the kernel.
//!
//! [`ublk`] shows any block device as `/dev/ublkbN` and is the only place that names the ublk library. A face knows
//! nothing of volumes: it makes one device on each of its queue threads, turns the kernel's requests into requests of
//! the block device trait, and answers with their outcome.

pub mod ublk;
