//! A failed flush is final for an open medium, whoever asked for it.
//!
//! The kernel tells of a write-back error once to each open file (`fsync(2)`, `errseq_t`), and a disk may drop what it could
//! not save: a second flush that succeeds proves nothing. A plex is flushed by its volume, by whoever labels it and by the
//! mover, through one open file; if a label's flush had the only answer, the volume's own would say that all is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::Errno;

/// Whether a flush of an open medium has failed. Clones share it; opening the medium anew begins afresh.
#[derive(Clone, Debug, Default)]
pub struct FinalFlush(Arc<AtomicBool>);

impl FinalFlush {
    /// Carry out `flush`, unless one failed before.
    ///
    /// # Errors
    /// What `flush` answers; [`Errno::IO`] after and beside one that failed.
    pub async fn run(&self, flush: impl Future<Output = Result<(), Errno>>) -> Result<(), Errno> {
        self.verdict()?;
        let outcome = flush.await;
        if outcome.is_err() {
            self.0.store(true, Ordering::Release);
        }
        // One in flight beside it may have found the error told already.
        outcome.and(self.verdict())
    }

    fn verdict(&self) -> Result<(), Errno> {
        if self.0.load(Ordering::Acquire) { Err(Errno::IO) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{poll_fn, ready};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("it answers at once"),
        }
    }

    #[test]
    fn no_flush_succeeds_after_one_that_failed_nor_beside_it() {
        let (flushes, other) = (FinalFlush::default(), FinalFlush::default());
        assert_eq!(now(flushes.run(ready(Ok(())))), Ok(()));
        let mut asked = false;
        let mut beside = pin!(flushes.run(poll_fn(|_| match std::mem::replace(&mut asked, true) {
            false => Poll::Pending,
            true => Poll::Ready(Ok(())),
        })));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(beside.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(now(flushes.clone().run(ready(Err(Errno::NO_SPACE)))), Err(Errno::NO_SPACE));
        assert_eq!(beside.poll(&mut context), Poll::Ready(Err(Errno::IO)));
        assert_eq!(now(flushes.run(async { panic!("not asked again") })), Err(Errno::IO));
        assert_eq!(now(other.run(ready(Ok(())))), Ok(()), "another medium");
    }
}
