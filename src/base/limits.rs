//! Limits and sizes with their reasons, and the assertions that keep neighbours consistent.

use super::Generation;

/// The unit in which block devices and VxVM's listings count: 512 bytes.
pub const SECTOR_BYTES: u64 = 512;

/// A page of state files and of the plexes' alignment: what every file system and disk in use writes whole or tears at
/// sector borders, which the page's checksum shows.
pub const PAGE_BYTES: usize = 4096;

/// The unit of the intent map: 4 MiB, as DRBD's activity log. Small enough that a crash costs seconds of resync, large
/// enough that a busy working set stays set and costs nothing.
pub const EXTENT_BYTES: u64 = 4 << 20;

/// The smallest region of a change map: VxVM's lower bound.
pub const REGION_BYTES_MIN: u32 = 16 << 10;

/// The largest region of a change map: beyond it a single written byte costs more to copy than its bit saves.
pub const REGION_BYTES_MAX: u32 = 64 << 20;

/// Alignment of labels and of the lengths that Cleave rounds to: 1 MiB.
pub const MIB: u64 = 1 << 20;

/// Bytes of one label area: two alternating copies of half of it.
pub const LABEL_AREA_BYTES: u64 = MIB;

/// The largest volume: 2^60 bytes keeps every sum of two offsets far away from overflow in `u64` and in the kernel's
/// signed `loff_t`.
pub const MAX_VOLUME_BYTES: u64 = 1 << 60;

/// The smallest volume: one page of file system superblock would not do; 1 MiB keeps labels and data apart and holds
/// the smallest ext4.
pub const MIN_VOLUME_BYTES: u64 = MIB;

/// Plexes a volume may have, VxVM's own limit. Bit masks of plexes fit a `u32`.
pub const MAX_PLEXES: usize = 32;

/// Bytes of the largest read or write request that the device announces. ublk's buffers are allocated per tag in
/// copying mode, so this times the depth is memory held by each started volume.
pub const MAX_REQUEST_BYTES: u32 = 512 << 10;

/// Requests that may be in flight on one queue.
pub const QUEUE_DEPTH: u16 = 64;

/// The largest discard or write-zeroes request: eight extents, so that one request sets at most nine intent bits
/// (ordering rule 9).
pub const MAX_DISCARD_BYTES: u32 = 32 << 20;

/// The highest generation or sequence number that is believed. Counting a million times a second from the day the volume
/// was made takes 146,000 years to get here, so that a higher one is damage, and from here on nothing wraps for as long
/// again.
pub const MAX_COUNT: Generation = Generation(1 << 62);

/// Bytes of a control frame; a hostile client cannot make either side allocate more.
pub const MAX_FRAME_BYTES: usize = 64 << 10;

/// Bytes of a group's configuration text: what a label copy can carry.
pub const MAX_CONFIG_BYTES: usize = (LABEL_AREA_BYTES / 2) as usize - PAGE_BYTES;

/// Bytes of the longest name of a group, volume or plex: `TAG-NAME-NN.img` and `SNAPn-NAME` must still fit NAME_MAX.
pub const MAX_NAME_BYTES: usize = 128;

const _: () = assert!(EXTENT_BYTES.is_multiple_of(REGION_BYTES_MIN as u64));
const _: () = assert!((MAX_DISCARD_BYTES as u64).is_multiple_of(EXTENT_BYTES));
const _: () = assert!(MAX_REQUEST_BYTES as u64 <= EXTENT_BYTES, "a request touches at most two extents");
const _: () = assert!(MAX_CONFIG_BYTES.is_multiple_of(PAGE_BYTES));

/// Bytes that a medium needs at least to carry a volume of `length` bytes: the data, a label area at the next MiB
/// behind it, and another in the last MiB.
#[must_use]
pub const fn medium_bytes(length: u64) -> u64 {
    length.next_multiple_of(MIB) + 2 * LABEL_AREA_BYTES
}
