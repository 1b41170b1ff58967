//! A map as a strip of a few columns, for people: how much of each part of a volume is marked.

use crate::base::ByteRange;

/// Of each of `columns` equal parts of `length` bytes, how many percent the ranges `dirty` cover, which are in order. A part with
/// anything in it has at least one, and only a part that is covered whole has a hundred.
#[must_use]
pub fn heat(dirty: impl Iterator<Item = ByteRange>, length: u64, columns: u16) -> Vec<u8> {
    let columns = u64::from(columns.max(1));
    // The start of a column; beyond u64 on the way for large volumes.
    let start = |column: u64| (u128::from(length) * u128::from(column) / u128::from(columns)) as u64;
    let column_of = |offset: u64| {
        let column = u128::from(offset) * u128::from(columns) / u128::from(length.max(1));
        let mut column = (column as u64).min(columns - 1);
        // The quotient may lie short of the column whose rounded start it is, and columns of no bytes before that.
        while column + 1 < columns && start(column + 1) <= offset {
            column += 1;
        }
        column
    };
    let mut covered = vec![0_u64; usize::try_from(columns).unwrap_or(usize::MAX)];
    for range in dirty {
        let mut at = range.offset;
        while at < range.end() {
            let column = column_of(at);
            let end = if column + 1 == columns { range.end() } else { start(column + 1).min(range.end()) };
            covered[usize::try_from(column).unwrap_or(usize::MAX)] += end - at;
            at = end;
        }
    }
    let percent = |(column, covered): (usize, u64)| {
        let column = column as u64;
        let size = start(column + 1) - start(column);
        match covered {
            0 => 0,
            _ if covered >= size => 100,
            _ => (u128::from(covered) * 100 / u128::from(size)).clamp(1, 99) as u8,
        }
    };
    covered.into_iter().enumerate().map(percent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_little_is_seen_and_only_the_whole_is_a_hundred() {
        let ranges = [ByteRange::new(0, 250), ByteRange::new(300, 1), ByteRange::new(999, 1)];
        assert_eq!(heat(ranges.into_iter(), 1000, 4), [100, 1, 0, 1]);
        assert_eq!(heat([ByteRange::new(0, 999)].into_iter(), 1000, 1), [99]);
        assert_eq!(heat([ByteRange::new(0, 3)].into_iter(), 3, 5), [0, 100, 0, 100, 100]);
        assert_eq!(heat(std::iter::empty(), 0, 3), [0, 0, 0]);
    }

    proptest! {
        #[test]
        fn every_byte_is_counted_in_its_column(
            length in 1_u64..500,
            columns in 1_u16..40,
            marks in proptest::collection::vec(any::<bool>(), 500),
        ) {
            let marked = |at: u64| marks[at as usize];
            let ranges = (0..length).filter(|at| marked(*at)).map(|at| ByteRange::new(at, 1));
            let strip = heat(ranges, length, columns);
            prop_assert_eq!(strip.len(), usize::from(columns));
            for (column, percent) in strip.into_iter().enumerate() {
                let start = |column: u64| length * column / u64::from(columns);
                let bytes = start(column as u64)..start(column as u64 + 1);
                let (size, set) = (bytes.end - bytes.start, bytes.filter(|at| marked(*at)).count() as u64);
                let expected = if set == 0 { 0 } else if set == size { 100 } else { (set * 100 / size).clamp(1, 99) };
                prop_assert_eq!(u64::from(percent), expected);
            }
        }
    }
}
