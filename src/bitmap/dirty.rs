//! Which pages of a map a persist pass still has to write out.
//!
//! No bit is lost, because the two sides go opposite ways:
//!
//! | setter | persist pass |
//! | --- | --- |
//! | 1. changes bits of the page (relaxed) | 1. takes the page's mark: `swap(0)`, acquire |
//! | 2. marks the page: `fetch_or`, release | 2. reads the page's bits |
//!
//! Both second steps follow a read-modify-write of one word, and those have one order. If the setter's mark comes
//! first, the pass acquires it and reads the changed bits; if it comes second, the mark stands for the next pass. A
//! setter that loaded the mark first and skipped a mark that it found set would break this: the pass could take the mark
//! and read the old bits. So the mark is always a read-modify-write; it is paid only when a bit really changes.

#[cfg(feature = "model-check")]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(feature = "model-check"))]
use std::sync::atomic::{AtomicU64, Ordering};

/// One mark a page.
pub(super) struct DirtyPages {
    words: Box<[AtomicU64]>,
}

impl DirtyPages {
    /// No page of `pages` marked.
    pub(super) fn new(pages: usize) -> Self {
        Self { words: (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Mark `page`; the bits that changed have been written before the call.
    pub(super) fn mark(&self, page: usize) {
        self.words[page / 64].fetch_or(1 << (page % 64), Ordering::Release);
    }

    /// Whether a page is marked.
    pub(super) fn any(&self) -> bool {
        self.words.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// The marked pages, in order; their marks are gone. The bits are read after the call.
    pub(super) fn take(&self) -> Vec<usize> {
        let mut pages = Vec::new();
        for (index, word) in self.words.iter().enumerate() {
            // An empty word needs no swap: a mark that comes later stands for the next pass.
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut marks = word.swap(0, Ordering::Acquire);
            while marks != 0 {
                pages.push(index * 64 + marks.trailing_zeros() as usize);
                marks &= marks - 1;
            }
        }
        pages
    }
}
