//! The primitives that the gate is built of, exchanged for the model checker's under the feature
//! `model-check`.

#[cfg(feature = "model-check")]
pub use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering, fence},
};
#[cfg(not(feature = "model-check"))]
pub use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering, fence},
};

/// Reference counts are not what is checked, and methods on the checker's own cannot be called as such.
pub use std::sync::Arc;

/// The lock, also when a thread panicked while it held it: the process is about to abort then, and a second panic
/// would only hide the first.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
