//! Runs of zeroes and of differences in buffers.

use std::ops::Range;

use crate::base::limits::PAGE_BYTES;
use crate::base::zero::is_zero;

/// Zero is looked for in steps of this many bytes: a shorter run costs more to leave out than to write.
pub(super) const SCAN_BYTES: usize = 64 << 10;

/// A part of a buffer, in bytes from its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Nothing but zeroes.
    Zero(Range<usize>),
    /// Other bytes, among them perhaps zeroes.
    Data(Range<usize>),
}

/// `bytes` as alternating parts of zero and data, in steps of [`SCAN_BYTES`].
pub(super) fn parts(bytes: &[u8]) -> Vec<Part> {
    runs(bytes.len(), SCAN_BYTES, |step| is_zero(&bytes[step]))
        .map(|(zero, range)| if zero { Part::Zero(range) } else { Part::Data(range) })
        .collect()
}

/// Where `a` and `b`, of equal length, differ: runs of whole pages.
pub(super) fn differences(a: &[u8], b: &[u8]) -> Vec<Range<usize>> {
    assert_eq!(a.len(), b.len(), "buffers of different length");
    if a == b {
        return Vec::new();
    }
    runs(a.len(), PAGE_BYTES, |step| a[step.clone()] != b[step])
        .filter_map(|(differs, range)| differs.then_some(range))
        .collect()
}

/// The span `0 .. len` in steps of `step`, neighbours with the same answer joined.
fn runs(
    len: usize,
    step: usize,
    mut ask: impl FnMut(Range<usize>) -> bool,
) -> impl Iterator<Item = (bool, Range<usize>)> {
    let mut steps = (0..len)
        .step_by(step)
        .map(move |at| at..(at + step).min(len))
        .map(move |range| (ask(range.clone()), range))
        .peekable();
    std::iter::from_fn(move || {
        let (answer, mut run) = steps.next()?;
        while let Some((_, next)) = steps.next_if(|(other, _)| *other == answer) {
            run.end = next.end;
        }
        Some((answer, run))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_join_neighbours_and_keep_the_short_tail() {
        let mut bytes = vec![0; 5 * SCAN_BYTES + 512];
        bytes[2 * SCAN_BYTES + 5] = 1;
        bytes[3 * SCAN_BYTES] = 1;
        let data = 2 * SCAN_BYTES..4 * SCAN_BYTES;
        assert_eq!(
            parts(&bytes),
            [Part::Zero(0..data.start), Part::Data(data.clone()), Part::Zero(data.end..bytes.len())]
        );
    }

    proptest! {
        #[test]
        fn differences_are_the_pages_that_differ(pages in proptest::collection::vec(any::<bool>(), 1..20), tail in 1..PAGE_BYTES) {
            let len = (pages.len() - 1) * PAGE_BYTES + tail;
            let a = vec![7; len];
            let mut b = a.clone();
            for (page, _) in pages.iter().enumerate().filter(|(_, differs)| **differs) {
                b[(page * PAGE_BYTES + 1000).min(len - 1)] = 8;
            }
            let mut seen = vec![false; pages.len()];
            let runs = differences(&a, &b);
            for run in &runs {
                seen[run.start / PAGE_BYTES..run.end.div_ceil(PAGE_BYTES)].fill(true);
            }
            prop_assert_eq!(seen, pages);
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "neighbours are joined");
        }
    }
}
