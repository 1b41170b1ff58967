//! **Cleave** is a volume manager in user space. It presents volumes to Linux as `/dev/ublkbN`, keeps every volume in one
//! or more full copies (plexes), tracks every write in maps that survive a crash, cuts point-in-time copies, and moves
//! only what changed.
//!
//! # Promises
//! Every change is judged by these five.
//!
//! 1. **A plex is a plain image.** The volume's bytes stand in order from offset 0 of its file or disk. Labels stand
//!    behind the data, maps in the state directory: `mount -o loop,ro` and `qemu-img` read a plex without Cleave.
//! 2. **Nothing acknowledged is lost, nothing unknown is believed.** Whenever the power goes: each completed flush holds,
//!    all ACTIVE plexes become equal before they are trusted, every map covers at least what changed.
//! 3. **The origin never pays with its life for a copy.** No snapshot mirror, full store, dead replica or slow backup
//!    fails, stalls for long, or fills the volume that it was taken from.
//! 4. **The device outlives the daemon.** Kill or upgrade `cleaved` under a mounted file system: no I/O error, the same
//!    node, the same id.
//! 5. **Before anything is overwritten, it says what, and keeps a way back.** `snapback` and `rm` give up a snapshot's own
//!    changes by their meaning: they print how much, and keep nothing.
//!
//! # Words
//! | word | meaning |
//! | --- | --- |
//! | group | a namespace of volumes: a state directory and the media on which its plexes may lie |
//! | volume | what is mounted: name, UUID, length, plexes; a device and its links |
//! | plex | one full copy of a volume in a file or on a block device; mode RW, WO or RO |
//! | snapshot mirror | a write-only plex made by `snapstart`: SNAPATT while it is copied, SNAPDONE when in step |
//! | snapshot volume | the volume that `snapshot` makes of a SNAPDONE plex |
//! | region | the unit of a change map: 64 KiB unless told otherwise |
//! | extent | the unit of the intent map: 4 MiB |
//! | change map | one bit a region: differs, or may differ, since a named moment |
//! | intent map | one bit an extent: writes may be under way or unflushed here |
//! | unflushed map | the same by regions, in memory that a power cut takes: what the end of the daemon alone leaves to be made equal |
//! | window | the span of regions that the mover holds while it copies or repairs them |
//! | cut | the instant of a snapshot: no write is half on either side of it |
//! | mover | the engine that copies, compares and resyncs |
//! | task | a long operation that can be listed, watched, paused, throttled and aborted |
//!
//! # Ordering rules
//! Code that enforces a rule names it; its test carries its number. Rule 19 is for copies by copy-before-write, which are
//! not built yet.
//!
//! **Writes**
//! 1. The intent bit of an extent is durable before a write in it is submitted to any plex. Discard and write-zeroes are
//!    writes to every rule.
//! 2. An intent bit is cleared only when no write is in flight in its extent, every plex that is relied on (ACTIVE,
//!    SNAPDONE, the copied part of SNAPATT and STALE) has been flushed since the last one, and every change map over it,
//!    live or frozen, is durable.
//! 3. A write is acknowledged when it is on every ACTIVE plex. A plex that leaves, or is missing at start, is durably
//!    STALE on the survivors' labels and in the catalogue first, its map seeded in the same step with every intent bit
//!    then set, and goes on collecting what it misses. The last ACTIVE plex never leaves: then the write fails with EIO.
//!    EINVAL is our fault, never the plex's.
//! 4. A flush is acknowledged when every ACTIVE plex is flushed; a FUA write when it is durable on every ACTIVE plex.
//! 5. Whatever changes what a volume reads, by whatever hand, is marked in each of its change maps first, in memory; after
//!    a crash each map is OR-ed with the intent map. A frozen map counts until it is durable; the map of a failed backup
//!    is OR-ed back before it is dropped.
//! 6. A WO plex gets every write and serves no read. The acknowledgement waits for it up to a limit; past that, or on an
//!    error, it leaves the write path: an erring SNAPATT is removed, a slow SNAPATT and any SNAPDONE become STALE. It never
//!    fails the volume.
//! 7. The mover holds a bounded window: writes that overlap it wait in order, all else runs on. A request is counted into
//!    all its regions or none; a parked request counts as new. Holes are looked for inside the held window and skipped
//!    only where the target is known to read zero.
//! 8. Overlapping writes, discards and zeroes in flight on one volume are serialised, also across queues.
//! 9. After a discard or write-zeroes all plexes read the same. Fully allocated plexes stay so. The largest discard is
//!    capped, so that intent stays bounded.
//! 10. Repair after a failed read is a mover step (window, intent, read again, own buffer, write, flush).
//!
//! **Cuts**
//!
//! 11. PREPARED is durable first. Under the hold two things happen: what is in flight drains, routes and maps are swapped
//!     in memory. After the release: flush the detached plexes, commit, make the devices, answer. No intent bit of that
//!     span is cleared before the commit. It backs out until the swap, and does so past its time limit; PREPARED without
//!     a commit is rolled back at the next start.
//! 12. `snapshot` of a mounted volume freezes the file system before the hold, and a watchdog thaws it, unless
//!     `-o consistency=crash`; the grade reached is stored.
//!
//! **Plexes and maps**
//!
//! 13. A bit of a stale or copy map is cleared durably only after its window was copied, the target flushed, and no write
//!     to it failed meanwhile. SNAPATT to SNAPDONE and STALE to ACTIVE follow a flush and an empty map, and are durable
//!     before a read or cut relies on them.
//! 14. After a crash the source of the resync is chosen and durably recorded before the first read; until an extent is
//!     equal, it is read from that source alone. If the source fails there, authority moves durably.
//! 15. Stop: drain, flush, change maps durable, intent cleared, then CLEAN with a stop generation that each map carries.
//!     Start: CLEAN is durably revoked before the device exists. After a crash a map of the crashed run, or of the clean
//!     stop before it, is valid once OR-ed with intent; any other counts as all ones. A file plex whose size, mtime or
//!     ctime changed since the clean stop is refused until a source is named.
//! 16. Plexes carry random data-generation ids, current and past. Starting without a plex makes a new id first; an older
//!     plex never starts alone without force; two unrelated ids are refused. Labels newer than the catalogue win.
//! 17. The configuration changes by whole transactions: new file, fsync, rename, fsync of the directory; generation and
//!     checksum inside; past generations kept.
//! 18. State files are preallocated. If an intent page cannot be written, "intent lost" goes durably to every ACTIVE label
//!     and I/O goes on with all bits set; if that fails too, writes get EIO.
//! 19. Copy-before-write: the old data, then the bit that says so, are durable before the new data is submitted.
//! 20. A request issued twice has the effect of one. A dead daemon's I/O is fenced from its successor's: each medium is
//!     opened once per daemon and locked, and the successor waits for the lock.
//! 21. Nothing is deleted before what replaces it is durable.
//!
//! # Rooms and floors
//! A room uses [`base`] and the rooms below it; `tests/tidy.rs` holds the table and reads every import against it.
//! From the ground up: [`bitmap`], [`mod@format`], [`state`], [`device`], [`sim`], [`ring`], [`catalog`], [`volume`],
//! [`mover`], [`export`], [`control`], [`probe`], [`daemon`], [`cli`].
//!
//! # How a request travels
//! `/dev/ublkbN` → a queue thread ([`export`]) → gate → intent → route and change maps ([`volume`]) → the plexes in
//! parallel ([`ring`]) → acknowledge. Two seams carry the design: the block device trait ([`device`]), so that no layer
//! learns what stands above or below, and the pure state step ([`state`]), so that a crash test needs no disk.
//!
//! How an administrator uses all this stands in the guides: [`guide`].

pub mod base;
pub mod bitmap;
pub mod catalog;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod device;
pub mod export;
pub mod format;
pub mod guide;
pub mod mover;
pub mod probe;
pub mod ring;
pub mod sim;
pub mod state;
pub mod volume;
