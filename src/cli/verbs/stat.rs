//! `cleave stat` and `vxstat`: what volumes are asked for, once or every few seconds.

use crate::base::limits::SECTOR_BYTES;
use crate::base::units::human_bytes;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, stream, table, to_json};
use crate::cli::plan::{Action, Options, Watch};
use crate::cli::progress::Progress;
use crate::cli::{session, words};
use crate::control::request::Stats;
use crate::control::row::{IoCounts, StatsRow};
use crate::control::{Request, Row};
use clap::Args;
use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;

/// The words of `stat`.
#[derive(Args, Debug)]
#[command(after_help = "\
Counted is what came to the volume's device, by the kernel, since the volume was started or counted
anew. With --every, what came in each span follows; with --json, each is a document on a line of its
own.")]
pub struct StatArgs {
    /// Only these volumes [default: all of the group]
    #[arg(value_name = "VOLUME")]
    volumes: Vec<String>,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS")]
    every: Option<String>,
    /// How many looks [default: one, with --every until it is interrupted]
    #[arg(short, long, value_name = "N")]
    count: Option<String>,
    /// Count anew from now on
    #[arg(long, conflicts_with_all = ["every", "count"])]
    reset: bool,
}

impl StatArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names; `stat.not-a-number`.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let request =
            Stats { group: options.group(), volumes: words::names(&self.volumes)?, reset: self.reset };
        StatWork::action(request, self.every.as_deref(), self.count.as_deref(), Style::Ours)
    }
}

/// How it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cli) enum Style {
    /// In columns with units.
    Ours,
    /// As VxVM does.
    Vx {
        /// Whether the heads of the columns come first.
        head: bool,
    },
}

/// Looks at counts, again and again.
#[derive(Debug)]
pub struct StatWork {
    pub(in crate::cli) request: Request,
    every: Option<Duration>,
    count: Option<u64>,
    style: Style,
}

/// `word` as a number from 1 to a day's seconds.
pub(super) fn number(what: &str, word: &str) -> Result<u64, Refused> {
    word.parse().ok().filter(|number| (1..=86_400).contains(number)).ok_or_else(|| {
        Refusal::new(
            Kind::Usage,
            "stat.not-a-number",
            words::clip(word),
            format!("is no number of {what} from 1 to 86400"),
            "name another number",
        )
    })
}

impl StatWork {
    /// What the words ask for: `every` so many seconds, `count` times.
    pub(in crate::cli) fn action(
        request: Stats,
        every: Option<&str>,
        count: Option<&str>,
        style: Style,
    ) -> Result<Action, Refused> {
        let every = every.map(|word| number("seconds", word)).transpose()?.map(Duration::from_secs);
        let count = count.map(|word| number("looks", word)).transpose()?;
        // Looks without a pause between them would all be the same.
        let count = if every.is_none() { Some(1) } else { count };
        Ok(Action::Stat(Self { request: Request::Stats(request), every, count, style }))
    }

    /// Looks, and prints all looks but the last, which is the result.
    ///
    /// # Errors
    /// Those of the daemon.
    pub fn run(&self, options: &Options, progress: &mut Progress) -> Result<Answer, Refused> {
        let mut before: Vec<StatsRow> = Vec::new();
        let mut looks = 0;
        loop {
            let mut answers =
                session::ask(options, std::slice::from_ref(&self.request), Watch::Progress, progress)?;
            let rows = answers.remove(0).rows;
            let now: Vec<StatsRow> = rows
                .into_iter()
                .filter_map(|row| if let Row::Stats(row) = row { Some(row) } else { None })
                .collect();
            let look = self.look(&now.iter().map(|row| since(row, &before)).collect::<Vec<_>>());
            looks += 1;
            let pause = self.every.filter(|_| self.count != Some(looks));
            let Some(pause) = pause else { return Ok(look) };
            stream(&if options.json { format!("{}\n", look.json) } else { format!("{}\n", look.text) });
            before = now;
            std::thread::sleep(pause);
        }
    }

    fn look(&self, rows: &[StatsRow]) -> Answer {
        let text = match self.style {
            Style::Ours => ours(rows),
            Style::Vx { head } => vx(rows, head),
        };
        Answer::listing(json!({ "volumes": to_json(&rows) }), text)
    }
}

/// What came of `now` since the look before. A volume that was started anew in between has come with all it has.
pub(super) fn since(now: &StatsRow, before: &[StatsRow]) -> StatsRow {
    let same = |row: &&StatsRow| row.group == now.group && row.volume == now.volume;
    let started = IoCounts::default();
    let known = before.iter().find(same).map(|row| &row.counts);
    let known = known.filter(|known| known.reads <= now.counts.reads && known.writes <= now.counts.writes);
    StatsRow { counts: now.counts.since(known.unwrap_or(&started)), ..now.clone() }
}

/// Milliseconds of each, with a tenth.
fn average(milliseconds: u64, count: u64) -> String {
    let tenths = milliseconds.saturating_mul(10).checked_div(count).unwrap_or(0);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn ours(rows: &[StatsRow]) -> String {
    let head = ["VOLUME", "READS", "READ", "ms", "WRITES", "WRITTEN", "ms", "FLUSHES", "IN FLIGHT"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(|row| {
        vec![
            row.volume.to_string(),
            row.counts.reads.to_string(),
            human_bytes(row.counts.read_bytes),
            average(row.counts.read_ms, row.counts.reads),
            row.counts.writes.to_string(),
            human_bytes(row.counts.write_bytes),
            average(row.counts.write_ms, row.counts.writes),
            row.counts.flushes.to_string(),
            row.counts.in_flight.to_string(),
        ]
    }));
    table(&cells)
}

fn vx(rows: &[StatsRow], head: bool) -> String {
    let mut text = String::new();
    if head {
        text += "                      OPERATIONS          BLOCKS           AVG TIME(ms)\n";
        text += "TYP NAME              READ     WRITE      READ     WRITE   READ  WRITE\n";
    }
    for row in rows {
        let _ = writeln!(
            text,
            "vol {:<14} {:>8} {:>9} {:>9} {:>9} {:>6} {:>6}",
            row.volume,
            row.counts.reads,
            row.counts.writes,
            row.counts.read_bytes / SECTOR_BYTES,
            row.counts.write_bytes / SECTOR_BYTES,
            average(row.counts.read_ms, row.counts.reads),
            average(row.counts.write_ms, row.counts.writes)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Name;

    fn row(volume: &str, reads: u64, writes: u64) -> StatsRow {
        StatsRow {
            group: Name::new("g").unwrap(),
            volume: Name::new(volume).unwrap(),
            counts: IoCounts {
                reads,
                read_bytes: reads * 512,
                read_ms: reads * 2,
                writes,
                write_bytes: writes * 512,
                write_ms: writes / 2,
                flushes: 0,
                in_flight: 1,
            },
        }
    }

    #[test]
    fn a_look_shows_what_came_since_the_one_before() {
        let before = [row("v", 10, 100), row("w", 5, 5)];
        assert_eq!(since(&row("v", 12, 101), &before), row("v", 2, 1));
        // Of another volume, and of one that was started anew, all of it came.
        assert_eq!(since(&row("x", 7, 7), &before), row("x", 7, 7));
        assert_eq!(since(&row("w", 4, 9), &before), row("w", 4, 9));
    }

    #[test]
    fn averages_have_a_tenth_and_none_is_zero() {
        assert_eq!([average(0, 0), average(3, 2), average(1, 3)], ["0.0", "1.5", "0.3"]);
        assert_eq!(average(u64::MAX, 1), "1844674407370955161.5");
    }

    #[test]
    fn one_look_without_a_span_and_as_many_as_asked_for_with_one() {
        let asked = |every, count| {
            let request = Stats { group: Name::new("g").unwrap(), volumes: Vec::new(), reset: false };
            match StatWork::action(request, every, count, Style::Ours) {
                Ok(Action::Stat(work)) => Ok((work.every.map(|span| span.as_secs()), work.count)),
                Ok(other) => panic!("{other:?}"),
                Err(refused) => Err(refused.id.clone()),
            }
        };
        assert_eq!(asked(None, Some("7")), Ok((None, Some(1))));
        assert_eq!(asked(Some("5"), None), Ok((Some(5), None)));
        assert_eq!(asked(Some("5"), Some("3")), Ok((Some(5), Some(3))));
        for bad in ["0", "-1", "86401", "x", ""] {
            assert_eq!(asked(Some(bad), None), Err("stat.not-a-number".to_owned()), "{bad}");
        }
    }
}
