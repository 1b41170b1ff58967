//! Models of the lock-free protocols: loom runs each in every order that the memory model allows.
#![cfg(feature = "model-check")]

#[path = "../../../src/bitmap/dirty.rs"]
#[allow(dead_code, reason = "the model uses a part of the room")]
mod dirty;

#[cfg(test)]
mod dirty_pages {
    use super::dirty::DirtyPages;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use loom::thread;

    /// A setter that finds its page marked already, beside the persist pass that takes this mark.
    #[test]
    fn a_mark_that_is_just_taken_is_made_again() {
        loom::model(|| {
            let map = Arc::new((AtomicU64::new(1), DirtyPages::new(1)));
            map.1.mark(0);
            let setter = thread::spawn({
                let map = Arc::clone(&map);
                move || {
                    map.0.fetch_or(2, Relaxed);
                    map.1.mark(0);
                }
            });
            let mut written = 0;
            for _ in map.1.take() {
                written = map.0.load(Relaxed);
            }
            setter.join().unwrap();
            for _ in map.1.take() {
                written = map.0.load(Relaxed);
            }
            assert_eq!(written, 3);
        });
    }

    /// Two setters of one page, each setting its bit and then marking, beside a persist pass: after a last pass, what was
    /// written out holds both bits.
    #[test]
    fn no_bit_is_lost_by_a_persist_pass_that_runs_beside() {
        loom::model(|| {
            let map = Arc::new((AtomicU64::new(0), DirtyPages::new(1)));
            let setters: Vec<_> = [1, 2]
                .into_iter()
                .map(|bit| {
                    let map = Arc::clone(&map);
                    thread::spawn(move || {
                        map.0.fetch_or(bit, Relaxed);
                        map.1.mark(0);
                    })
                })
                .collect();
            let mut written = 0;
            for _ in map.1.take() {
                written = map.0.load(Relaxed);
            }
            setters.into_iter().for_each(|setter| setter.join().unwrap());
            for _ in map.1.take() {
                written = map.0.load(Relaxed);
            }
            assert_eq!(written, 3);
        });
    }
}
