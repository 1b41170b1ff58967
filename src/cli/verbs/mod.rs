//! One file a verb: its words, its request, and how its answer is shown.

pub mod daemon;
pub mod group;
pub mod list;
pub mod make;
pub mod mirror;
pub mod mount;
pub mod placement;
pub mod plex;
pub mod print;
pub mod remove_mirror;
pub mod rm;
pub mod scrub;
pub mod set;
pub mod show;
pub mod snapabort;
pub mod snapback;
pub mod snapshot;
pub mod snapstart;
pub mod snapwait;
pub mod start;
pub mod stop;
pub mod task;
pub mod verify;
