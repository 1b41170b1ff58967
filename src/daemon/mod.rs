//! `cleaved`: owner loop, workers, start-up, recovery, stop.
//!
//! One thread owns everything that the daemon knows ([`owner`]): the groups as they were last committed, the started
//! volumes, open media, tasks. It never blocks. Around it:
//!
//! * workers (tokio's blocking pool): opening and making files, commits of the catalogue, commands to the ublk driver;
//! * the keepers' ring thread ([`keepers`]): intent pages, change maps, labels, decisions on lost plexes, cuts;
//! * the mover's ring thread ([`jobs`]): copies, resyncs, comparisons;
//! * a queue thread for each device, which belongs to `export`.
//!
//! All of it stands on a [`machine`]: the real one is [`this_host`], the simulator has another.
//!
//! A verb is a function of the owner that runs as a task of its own. The configuration changes by transactions, one at a
//! time for each group; what takes long stands between transactions: a volume is stopped before the transaction that says
//! so, and copied before the one that calls the copy complete. A keeper that needs a transaction itself, because a plex is
//! lost, therefore never waits for one that waits for it.

mod autostart;
pub mod bringup;
mod carry;
mod doubts;
pub mod effects;
pub mod events;
mod existing;
mod explain;
mod fences;
mod foreseen;
pub mod freeze;
pub mod health;
mod heat;
mod import;
pub mod jobs;
pub mod keepers;
mod labels;
mod larger;
pub mod links;
pub mod live;
pub mod machine;
mod make;
mod media;
pub mod mounts;
pub mod notify;
pub mod offline;
mod overview;
pub mod owner;
pub mod permission;
mod plex_faults;
mod plexes;
pub mod process;
mod recovery;
mod resize;
mod restore;
mod restores;
pub mod rows;
mod run;
mod scrub;
pub mod server;
mod service;
mod snapshots;
mod space;
pub mod standalone;
pub mod startup;
pub mod takeover;
pub mod tasks;
#[cfg(test)]
mod testing;
pub mod this_host;
pub mod udev;
pub mod upgrade;
mod vigil;
mod waiting;
mod watch;

pub use startup::{Options, run};
