//! Guides, one a task, then what there is to look up. Each command in them is run by a test, in their order; what is told of the
//! program in numbers and tables is made from it.

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

#[doc = include_str!("administration.md")]
pub mod administration {}

#[doc = include_str!("reference.md")]
pub mod reference {}

#[doc = include_str!("on_disk_format.md")]
pub mod on_disk_format {}
