//! `cleaved`: owner loop, workers, start-up, recovery, stop.

pub mod links;
pub mod mounts;
