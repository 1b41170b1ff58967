//! Sets of processors, written as lists: `0,2-3` (the list format of cpuset(7)).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Processors that can be named: what `sched_setaffinity` takes without asking for more room.
const MOST: usize = 1024;

/// A set of processors, not empty.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cpus([u64; MOST / 64]);

impl Cpus {
    /// The processors among `numbers` that can be named; `None` when there is none.
    #[must_use]
    pub fn new(numbers: impl IntoIterator<Item = usize>) -> Option<Self> {
        let mut words = [0; MOST / 64];
        for number in numbers.into_iter().filter(|number| *number < MOST) {
            words[number / 64] |= 1 << (number % 64);
        }
        words.iter().any(|word| *word != 0).then_some(Self(words))
    }

    /// Their numbers in order.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..MOST).filter(|number| self.0[number / 64] & (1 << (number % 64)) != 0)
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.numbers().peekable();
        let mut comma = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last == first {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cpus({self})")
    }
}

/// What is written is no list of processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoCpus;

impl fmt::Display for NoCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "is no list of processors below {MOST}, as 0,2-3")
    }
}

impl FromStr for Cpus {
    type Err = NoCpus;
    fn from_str(text: &str) -> Result<Self, NoCpus> {
        let number = |text: &str| match text.parse::<usize>() {
            Ok(number) if number < MOST && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
            Ok(_) | Err(_) => Err(NoCpus),
        };
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(NoCpus);
            }
            numbers.extend(first..=last);
        }
        Self::new(numbers).ok_or(NoCpus)
    }
}

/// Which processors threads run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Affinity {
    /// Of several threads each where its work comes from; one anywhere.
    #[default]
    Auto,
    /// Anywhere.
    Any,
    /// On these.
    On(Cpus),
}

impl Affinity {
    /// Whether nothing else was asked for.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Any => f.write_str("any"),
            Self::On(cpus) => cpus.fmt(f),
        }
    }
}

impl FromStr for Affinity {
    type Err = NoCpus;
    fn from_str(text: &str) -> Result<Self, NoCpus> {
        match text {
            "auto" => Ok(Self::Auto),
            "any" => Ok(Self::Any),
            list => list.parse().map(Self::On),
        }
    }
}

impl From<Affinity> for String {
    fn from(affinity: Affinity) -> Self {
        affinity.to_string()
    }
}

impl TryFrom<String> for Affinity {
    type Error = NoCpus;
    fn try_from(text: String) -> Result<Self, NoCpus> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        let written = |text: &str| text.parse::<Cpus>().map(|cpus| cpus.to_string());
        assert_eq!(written("0"), Ok("0".to_owned()));
        assert_eq!(written("3,0-1,2,1023"), Ok("0-3,1023".to_owned()));
        for bad in ["", ",", "1,", "a", "1024", "3-1", "1-", "-1", "+1", "0-0-0", "99999999999999999999"] {
            assert_eq!(written(bad), Err(NoCpus), "{bad}");
        }
        assert_eq!(Cpus::new([5000]), None);
    }

    #[test]
    fn affinities_are_words_or_lists() {
        for (text, affinity) in [("auto", Affinity::Auto), ("any", Affinity::Any)] {
            assert_eq!(text.parse(), Ok(affinity));
            assert_eq!(affinity.to_string(), text);
        }
        assert_eq!("1-2".parse(), Ok(Affinity::On(Cpus::new([1, 2]).unwrap())));
        assert_eq!("anywhere".parse::<Affinity>(), Err(NoCpus));
        assert_eq!(serde_json::to_string(&Affinity::On(Cpus::new([7]).unwrap())).unwrap(), r#""7""#);
        assert!(serde_json::from_str::<Affinity>(r#""8-7""#).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(numbers in proptest::collection::btree_set(0..MOST, 1..50)) {
            let cpus = Cpus::new(numbers.iter().copied()).unwrap();
            prop_assert_eq!(cpus.to_string().parse(), Ok(cpus));
            prop_assert_eq!(cpus.numbers().collect::<Vec<_>>(), numbers.into_iter().collect::<Vec<_>>());
        }
    }
}
