//! Guides, one a task. Each command in them is run by a test, in their order.

#[doc = include_str!("first_volume.md")]
pub mod first_volume {}

#[doc = include_str!("backup.md")]
pub mod backup {}

#[doc = include_str!("replace_a_disk.md")]
pub mod replace_a_disk {}

#[doc = include_str!("lost_state.md")]
pub mod lost_state {}

#[doc = include_str!("move_disks.md")]
pub mod move_disks {}
