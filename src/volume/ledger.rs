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

/// What the record says after a loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// What became of the plex.
    pub loss: Loss,
    /// The plex that is believed where the plexes may differ since a crash: another one if it was the lost plex (ordering
    /// rule 14). None while they are known to be equal.
    pub authority: Option<Uuid>,
}

/// The durable record of who may be believed. All calls are made by the volume's keeper, one decision at a time.
pub trait Ledger: 'static {
    /// Record on the survivors' labels and in the catalogue that `plex` has left the write path after `errno`: STALE, or
    /// removed if it was a snapshot mirror in the making (ordering rules 3 and 6). If it was the source of a resync, `heir`
    /// is the plex to be believed in its place. Returns once that is durable.
    ///
    /// # Errors
    /// When it could not be recorded: nothing that depends on it may be acknowledged.
    fn plex_lost(
        &self,
        plex: Uuid,
        errno: Errno,
        heir: Option<Uuid>,
    ) -> impl Future<Output = Result<Recorded, Errno>>;

    /// Record on every ACTIVE label that the intent map cannot be trusted (ordering rule 18).
    ///
    /// # Errors
    /// When that failed too: writes must fail.
    fn intent_lost(&self) -> impl Future<Output = Result<(), Errno>>;

    /// Told, not asked: a read of `range` failed on `plex` and was served by another (ordering rule 10).
    fn read_failed(&self, plex: Uuid, range: ByteRange, errno: Errno);

    /// Told, not asked: `plex` may differ from the others where its map says so, since it refused a write as invalid.
    fn differs(&self, plex: Uuid);

    /// Told, not asked: the last readable plex failed a request, which was answered with an error.
    fn last_plex_failed(&self, plex: Uuid, errno: Errno);

    /// Told, not asked: `plex` has not answered a request for [`HANGS_AFTER`](super::HANGS_AFTER).
    fn plex_hangs(&self, plex: Uuid);

    /// Told, not asked: `plex`, which hung, has answered all that was asked of it.
    fn plex_answers(&self, plex: Uuid);
}
