//! `cleaved`: owner loop, workers, start-up, recovery, stop.

pub mod freeze;
pub mod links;
pub mod mounts;
pub mod rows;
pub mod tasks;
