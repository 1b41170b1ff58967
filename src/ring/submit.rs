//! The submitter trait: a submission in, its one result out.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::engine::Core;
use super::medium::Medium;
use super::requests::Lease;
use crate::device::OwnedBuffer;

/// What an operation keeps alive until it completes: the memory and the open file that its submission names.
#[derive(Default)]
pub struct Held {
    /// Memory that the kernel reads or writes.
    pub buffer: Option<OwnedBuffer>,
    /// The medium whose descriptor is used.
    pub medium: Option<Rc<Medium>>,
    /// Pages of a request that the kernel reads or writes.
    pub lease: Option<Lease>,
}

/// Submits operations to the ring of the calling thread.
pub trait Submitter: Clone + 'static {
    /// Submit `entry` and wait for its completion. The result is the completion's: a count, or a negative errno.
    /// The operation is queued at once, so that several can be made and then awaited one after the other; they go to the
    /// kernel together. Dropping the future abandons the result, not the operation.
    ///
    /// # Safety
    /// `entry` must complete exactly once, and every address and descriptor in it must stay valid as long as `held`
    /// lives, or for the life of the ring.
    unsafe fn submit(
        &self,
        entry: io_uring::squeue::Entry,
        held: Held,
    ) -> impl Future<Output = i32> + 'static;

    /// The slot of this ring's buffer table that `buffer`'s memory is registered in, with which kernel work for each
    /// operation falls away.
    fn registered(&self, buffer: &OwnedBuffer) -> Option<u16>;

    /// The pages of the ublk request in slot `slot` of this ring's buffer table, for one operation; `None` where there are none,
    /// or they are not lent any more.
    fn lease(&self, slot: u16) -> Option<Lease>;

    /// The number of times that this ring's completions were taken: what completed together has one number.
    fn turn(&self) -> u64;
}

/// The submitter of an [`Engine`](super::Engine)'s ring.
#[derive(Clone)]
pub struct RingSubmitter {
    pub(super) core: Rc<Core>,
}

impl Submitter for RingSubmitter {
    unsafe fn submit(
        &self,
        entry: io_uring::squeue::Entry,
        held: Held,
    ) -> impl Future<Output = i32> + 'static {
        // SAFETY: the caller's promise is the one asked for.
        let index = unsafe { self.core.push(entry, held) };
        Completion { core: Rc::clone(&self.core), index: Some(index) }
    }

    fn registered(&self, buffer: &OwnedBuffer) -> Option<u16> {
        self.core.registered(buffer)
    }

    fn lease(&self, slot: u16) -> Option<Lease> {
        self.core.lease(slot)
    }

    fn turn(&self) -> u64 {
        self.core.taken()
    }
}

/// The result of one operation.
struct Completion {
    core: Rc<Core>,
    /// `None` once the result was fetched.
    index: Option<usize>,
}

impl Future for Completion {
    type Output = i32;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<i32> {
        let index = self.index.expect("a completed future is not polled again");
        let polled = self.core.poll(index, cx.waker());
        if polled.is_ready() {
            self.index = None;
        }
        polled
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            self.core.abandon(index);
        }
    }
}
