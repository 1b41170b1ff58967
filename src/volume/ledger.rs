//! What the data path must have recorded durably before it goes on. The daemon keeps the catalogue and the labels; the
//! simulator keeps a model of them.

use crate::base::{ByteRange, Errno, Uuid};

/// What was recorded of a plex that left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// It is STALE and goes on collecting what it misses.
    Tracked,
    /// It was a snapshot mirror in the making and is gone.
    Removed,
}

/// The durable record of who may be believed. All calls are made by the volume's keeper, one decision at a time.
pub trait Ledger: 'static {
    /// Record on the survivors' labels and in the catalogue that `plex` has left the write path after `errno`: STALE, or
    /// removed if it was a snapshot mirror in the making (ordering rules 3 and 6). Returns once that is durable.
    ///
    /// # Errors
    /// When it could not be recorded: nothing that depends on it may be acknowledged.
    fn plex_lost(&self, plex: Uuid, errno: Errno) -> impl Future<Output = Result<Loss, Errno>>;

    /// Record on every ACTIVE label that the intent map cannot be trusted (ordering rule 18).
    ///
    /// # Errors
    /// When that failed too: writes must fail.
    fn intent_lost(&self) -> impl Future<Output = Result<(), Errno>>;

    /// Told, not asked: a read of `range` failed on `plex` and was served by another (ordering rule 10).
    fn read_failed(&self, plex: Uuid, range: ByteRange, errno: Errno);

    /// Told, not asked: the last readable plex failed a request, which was answered with an error.
    fn last_plex_failed(&self, plex: Uuid, errno: Errno);
}
