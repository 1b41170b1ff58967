//! The operations of one ring that are in flight: what each holds, who waits for it, what it ended with.

use std::task::{Poll, Waker};

/// One operation from its submission to the moment when its waiter has fetched the result.
enum Operation<H> {
    /// Not in use; the next free index.
    Free(Option<usize>),
    /// The kernel has it; `held` must not go before it completes.
    Flying { waker: Option<Waker>, held: H },
    /// The kernel has it and nobody waits any more.
    Abandoned { held: H },
    /// Completed with this number, not yet fetched.
    Done(i32),
}

/// The table of operations. An index names one operation from [`insert`](Self::insert) until its result is fetched or,
/// when it was abandoned, until it completes.
pub(super) struct Operations<H> {
    slots: Vec<Operation<H>>,
    free: Option<usize>,
    flying: usize,
}

impl<H> Operations<H> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: None, flying: 0 }
    }

    /// How many operations the kernel has.
    pub(super) const fn flying(&self) -> usize {
        self.flying
    }

    /// Enter an operation that is about to be submitted.
    pub(super) fn insert(&mut self, held: H) -> usize {
        self.flying += 1;
        let operation = Operation::Flying { waker: None, held };
        if let Some(index) = self.free {
            let Operation::Free(next) = self.slots[index] else {
                unreachable!("the free list names free slots")
            };
            self.free = next;
            self.slots[index] = operation;
            index
        } else {
            self.slots.push(operation);
            self.slots.len() - 1
        }
    }

    fn release(&mut self, index: usize) {
        self.slots[index] = Operation::Free(self.free);
        self.free = Some(index);
    }

    /// The operation completed with `result`. Gives back who is to be woken, and what was held, so that it is dropped by
    /// the caller after its borrow of the table has ended.
    pub(super) fn complete(&mut self, index: usize, result: i32) -> (Option<Waker>, H) {
        self.flying -= 1;
        match std::mem::replace(&mut self.slots[index], Operation::Done(result)) {
            Operation::Flying { waker, held } => (waker, held),
            Operation::Abandoned { held } => {
                self.release(index);
                (None, held)
            }
            Operation::Free(_) | Operation::Done(_) => unreachable!("the kernel completes an operation once"),
        }
    }

    /// Fetch the result, or leave `waker` to be woken.
    pub(super) fn poll(&mut self, index: usize, waker: &Waker) -> Poll<i32> {
        match &mut self.slots[index] {
            Operation::Done(result) => {
                let result = *result;
                self.release(index);
                Poll::Ready(result)
            }
            Operation::Flying { waker: waiting, .. } => {
                match waiting {
                    Some(old) => old.clone_from(waker),
                    None => *waiting = Some(waker.clone()),
                }
                Poll::Pending
            }
            Operation::Free(_) | Operation::Abandoned { .. } => unreachable!("the waiter is alive: it polls"),
        }
    }

    /// The waiter is gone: the result of this operation interests nobody.
    pub(super) fn abandon(&mut self, index: usize) {
        match std::mem::replace(&mut self.slots[index], Operation::Free(None)) {
            Operation::Done(_) => self.release(index),
            Operation::Flying { held, .. } => self.slots[index] = Operation::Abandoned { held },
            Operation::Free(_) | Operation::Abandoned { .. } => unreachable!("an operation has one waiter"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn what_an_abandoned_operation_holds_lives_until_it_completes() {
        let mut operations = Operations::new();
        let memory = Rc::new(());
        let index = operations.insert(Rc::clone(&memory));
        operations.abandon(index);
        assert_eq!(Rc::strong_count(&memory), 2);
        assert_eq!(operations.flying(), 1);
        drop(operations.complete(index, 0));
        assert_eq!(Rc::strong_count(&memory), 1);
        assert_eq!(operations.flying(), 0);
        assert_eq!(operations.insert(Rc::new(())), index, "the slot is free again");
    }

    #[test]
    fn a_result_waits_for_its_fetch() {
        let mut operations = Operations::new();
        let (first, second) = (operations.insert(()), operations.insert(()));
        assert!(operations.poll(first, Waker::noop()).is_pending());
        assert!(operations.complete(first, 7).0.is_some());
        assert!(operations.complete(second, 8).0.is_none());
        assert_eq!(operations.poll(second, Waker::noop()), Poll::Ready(8));
        assert_eq!(operations.poll(first, Waker::noop()), Poll::Ready(7));
        assert_eq!(operations.insert(()), first, "the slot that was released last is used first");
    }
}
