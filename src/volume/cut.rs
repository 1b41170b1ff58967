//! The cut, and every other change of a route that must not be seen half: hold, drain, swap, release (ordering rule 11).
//!
//! What stands around it is the caller's: PREPARED is durable before, the flush of the detached plexes, the commit and the
//! new devices come after.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::base::FaultPoint;
use crate::base::museum::{self, Exhibit};
use crate::device::{Clock, Moment};

use super::{Hold, Route, Volume};

/// What becomes of a route.
pub type Swap<M> = Box<dyn FnOnce(&Route<M>) -> Route<M> + Send>;

/// A volume of the set, with what becomes of its route. The swap runs while all I/O of the set stands still: it only
/// moves what was prepared before.
pub struct Member<M> {
    /// The volume.
    pub volume: Arc<Volume<M>>,
    /// Its new route from the present one.
    pub swap: Swap<M>,
}

/// Why a cut did not happen; nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CutError {
    /// What was in flight did not drain within the limit.
    TimedOut(Duration),
}

/// How a cut went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutReport {
    /// From the moment at which the first volume was held to the release.
    pub hold: Duration,
    /// The part of it in which what was in flight drained.
    pub drain: Duration,
}

/// Swap the routes of all `members` at one instant at which no request of theirs is in flight.
///
/// # Errors
/// [`CutError::TimedOut`] when they did not drain within `limit`: all I/O was let go on and no route was changed.
pub async fn swap<M, C>(clock: &C, members: Vec<Member<M>>, limit: Duration) -> Result<CutReport, CutError>
where
    M: Clone + Send + Sync + 'static,
    C: Clock,
{
    let start = clock.now();
    let hold = Arc::new(Hold::new(start.after(limit)));
    for member in &members {
        member.volume.gate.hold(&hold);
    }
    let drained = drained(clock, &hold, &members).await;
    let drain = clock.now().since(start);
    let swapped = drained && hold.begin_swap();
    let gates: Vec<_> = members.iter().map(|member| Arc::clone(&member.volume.gate)).collect();
    if swapped {
        for member in members {
            member.volume.publish(member.swap);
        }
        FaultPoint::CutSwapped.reached();
    } else {
        hold.expire();
    }
    for gate in gates {
        gate.release(&hold);
    }
    let held: Duration = clock.now().since(start);
    if swapped { Ok(CutReport { hold: held, drain }) } else { Err(CutError::TimedOut(held)) }
}

/// Wait until nothing of the set is in flight; false when the hold expired first.
async fn drained<M, C>(clock: &C, hold: &Arc<Hold>, members: &[Member<M>]) -> bool
where
    M: Clone + Send + Sync + 'static,
    C: Clock,
{
    let mut deadline = std::pin::pin!(sleep(clock, hold.deadline()));
    std::future::poll_fn(|cx| {
        hold.watch(cx.waker());
        if hold.has_expired() {
            return Poll::Ready(false);
        }
        if members.iter().all(|member| member.volume.gate.is_drained())
            || museum::shows(Exhibit::CutDoesNotDrain)
        {
            return Poll::Ready(true);
        }
        deadline.as_mut().poll(cx).map(|()| false)
    })
    .await
}

async fn sleep<C: Clock>(clock: &C, until: Moment) {
    clock.sleep_until(until).await;
}
