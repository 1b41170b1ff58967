//! What `cleave top` draws: a pure function of a look, the size of the screen, and whether it has colours.

use crate::base::units::human_bytes;
use crate::cli::answer::{clean, copies, volumes};
use crate::cli::progress::{Step, seconds};
use crate::cli::verbs::events::{happenings, line};
use crate::control::Row;
use crate::control::reply::Overview;
use crate::control::row::{HealthRow, HeatOf, HeatRow, IoCounts, StatsRow};
use crate::control::words::Health;
use std::time::Duration;

/// Columns of a strip.
pub(super) const STRIP: u16 = 60;

/// How dark a part of a strip is: the first is for nothing, the last for all of it.
const SHADES: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What is shown.
pub(super) struct Look<'a> {
    pub overview: &'a Overview,
    /// Volumes with their plexes and health, tasks and events.
    pub rows: &'a [Row],
    pub heat: &'a [HeatRow],
    /// What came in `span`.
    pub stats: &'a [StatsRow],
    pub span: Duration,
}

/// What it is drawn on.
pub(super) struct Frame {
    /// Columns and lines.
    pub size: (usize, usize),
    pub has_colours: bool,
}

/// A colour of the terminal's own set, by its number (ECMA-48, select graphic rendition).
#[derive(Clone, Copy)]
enum Ink {
    Plain,
    Strong,
    Good,
    Bad,
    Worse,
    Map,
}

impl Ink {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[33m",
            Self::Worse => "\x1b[31m",
            Self::Map => "\x1b[36m",
        }
    }

    const fn of(health: Health) -> Self {
        match health {
            Health::Ok => Self::Good,
            Health::Degraded => Self::Bad,
            Health::Failed => Self::Worse,
        }
    }
}

impl Frame {
    /// `look`, a line for each of the screen at most.
    pub(super) fn draw(&self, look: &Look<'_>) -> String {
        let mut lines = vec![self.head(look)];
        lines.push(String::new());
        let healths: Vec<&HealthRow> = look
            .rows
            .iter()
            .filter_map(|row| if let Row::Health(health) = row { Some(health) } else { None })
            .collect();
        let volumes = volumes(look.rows);
        let names: Vec<String> =
            volumes.iter().map(|(volume, _)| format!("{}/{}", volume.group, volume.volume)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(16);
        lines.push(self.line(
            Ink::Strong,
            &format!(
                "{:<width$}  {:<8} {:>8} {:>8} {:>7}  {:>8} {:>8} {:>7}  PLEXES",
                "GROUP/VOLUME", "HEALTH", "READS/s", "MiB/s", "ms", "WRITES/s", "MiB/s", "ms"
            ),
        ));
        for (((volume, plexes), name), health) in volumes.iter().zip(&names).zip(&healths) {
            let stats =
                look.stats.iter().find(|row| row.group == volume.group && row.volume == volume.volume);
            let counts = stats.map(|row| row.counts).unwrap_or_default();
            lines.push(self.volume(name, width, health.health, &counts, look.span, &copies(plexes)));
            let maps =
                look.heat.iter().filter(|row| row.group == volume.group && row.volume == volume.volume);
            lines.extend(maps.map(|row| self.strip(row, width)));
            lines.extend(
                health.reasons.iter().map(|reason| self.line(Ink::Bad, &format!("  {}", clean(reason)))),
            );
        }
        let mut below = Vec::new();
        for row in look.rows {
            if let Row::Task(task) = row {
                below.push(self.line(Ink::Plain, &self.task(task.task, &Step::of_task(task))));
            }
        }
        let events = happenings(look.rows);
        below.extend(events.iter().map(|event| self.line(Ink::Plain, line(event).trim_end())));
        // What is done and what happened keep their lines; of many volumes as many are shown as there is room for.
        let room = self.size.1.saturating_sub(below.len() + 1).max(4);
        if lines.len() > room {
            let left = lines.len() - room + 1;
            lines.truncate(room - 1);
            lines.push(
                self.line(Ink::Strong, &format!("... {left} more lines: use a higher screen, or -g GROUP")),
            );
        }
        if !below.is_empty() {
            lines.push(String::new());
        }
        lines.extend(below);
        lines.truncate(self.size.1);
        lines.join("\n") + "\n"
    }

    fn head(&self, look: &Look<'_>) -> String {
        let overview = look.overview;
        let daemon = overview.daemon.as_ref().map_or_else(
            || "cleaved does not run".to_owned(),
            |daemon| {
                let (version, kernel) = (clean(&daemon.version), clean(&daemon.kernel));
                format!("cleaved {version}, up {}, Linux {kernel}", seconds(daemon.uptime_ms))
            },
        );
        let notes: String = overview.notes.iter().map(|note| format!("; {}", clean(note))).collect();
        self.line(Ink::of(overview.health), &format!("{daemon}: {}{notes}", overview.health))
    }

    fn volume(
        &self,
        name: &str,
        width: usize,
        health: Health,
        counts: &IoCounts,
        span: Duration,
        copies: &str,
    ) -> String {
        let seconds = span.as_secs_f64().max(0.001);
        let part = |count: u64, bytes: u64, ms: u64| {
            let took = if count == 0 { "-".to_owned() } else { format!("{:.2}", ms as f64 / count as f64) };
            format!("{:>8.0} {:>8.1} {took:>7}", count as f64 / seconds, bytes as f64 / 1048576.0 / seconds)
        };
        let reads = part(counts.reads, counts.read_bytes, counts.read_ms);
        let writes = part(counts.writes, counts.write_bytes, counts.write_ms);
        let line =
            self.cut(&format!("{name:<width$}  {:<8} {reads}  {writes}  {copies}", health.to_string()));
        // The colour takes no columns, so it comes after the cut.
        let chars: Vec<char> = line.chars().collect();
        let (from, to) = ((width + 2).min(chars.len()), (width + 10).min(chars.len()));
        let part = |range: std::ops::Range<usize>| chars[range].iter().collect::<String>();
        part(0..from) + &self.ink(Ink::of(health), &part(from..to)) + &part(to..chars.len())
    }

    fn strip(&self, row: &HeatRow, width: usize) -> String {
        let what = match &row.map {
            HeatOf::Written => "written".to_owned(),
            HeatOf::Behind(plex) => format!("{plex} lacks"),
            HeatOf::Since(volume) => format!("since {volume}"),
        };
        let strip: String = row.percent.iter().map(|percent| shade(*percent)).collect();
        let whole = row.percent.iter().map(|percent| u64::from(*percent)).sum::<u64>();
        let count = u64::try_from(row.percent.len()).unwrap_or(u64::MAX).max(1);
        let mean = if whole == 0 { 0 } else { (whole / count).max(1) };
        self.line(Ink::Map, &format!("  {what:<width$}{strip} {mean:>3} %"))
    }

    fn task(&self, number: u64, step: &Step) -> String {
        const BAR: usize = 20;
        let full = usize::try_from(step.percent()).unwrap_or(100) * BAR / 100;
        let left = step.eta_ms.map(|eta| format!(", {} left", seconds(eta))).unwrap_or_default();
        format!(
            "task {number} {}  [{}{}] {} % of {}, {}/s{left}",
            step.label,
            "#".repeat(full),
            " ".repeat(BAR - full),
            step.percent(),
            human_bytes(step.total_bytes),
            human_bytes(step.rate_bytes)
        )
    }

    fn line(&self, ink: Ink, text: &str) -> String {
        self.ink(ink, &self.cut(text))
    }

    fn cut(&self, text: &str) -> String {
        text.chars().take(self.size.0).collect()
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        match ink.code() {
            "" => text.to_owned(),
            _ if !self.has_colours || text.is_empty() => text.to_owned(),
            code => format!("{code}{text}\x1b[0m"),
        }
    }
}

fn shade(percent: u8) -> char {
    let steps = SHADES.len() - 1;
    // Something is never shown as nothing, and only the whole as the whole.
    let at = (usize::from(percent) * steps).div_ceil(100).min(if percent < 100 { steps - 1 } else { steps });
    SHADES[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shade_is_none_only_for_nothing_and_full_only_for_all() {
        let strip: String = [0, 1, 12, 13, 50, 99, 100].iter().map(|percent| shade(*percent)).collect();
        assert_eq!(strip, "·▁▁▂▄▇█");
    }

    #[test]
    fn columns_stand_below_each_other_whatever_the_names_are() {
        let plain = Frame { size: (200, 30), has_colours: false };
        let counts = IoCounts { reads: 10, read_ms: 15, ..IoCounts::default() };
        let draw = |frame: &Frame, name| {
            frame.volume(name, 20, Health::Ok, &counts, Duration::from_secs(1), "1 of 2")
        };
        let lines = ["g/v", "group/volume-of-20by"].map(|name| draw(&plain, name));
        assert_eq!(lines[0].find("ok"), Some(22));
        for line in &lines {
            assert_eq!(line.split_at(20).1, lines[0].split_at(20).1);
        }
        // With colours it is the same line, also where it is cut within the word.
        for columns in [200, 30, 24, 23, 10] {
            let plain = Frame { size: (columns, 30), has_colours: false };
            let coloured = draw(&Frame { size: (columns, 30), has_colours: true }, "g/v");
            assert_eq!(coloured.replace("\x1b[32m", "").replace("\x1b[0m", ""), draw(&plain, "g/v"));
        }
    }

    #[test]
    fn a_line_is_cut_to_the_screen_whatever_colours_it_has() {
        let frame = Frame { size: (10, 3), has_colours: true };
        assert_eq!(frame.line(Ink::Bad, "0123456789abc"), "\x1b[33m0123456789\x1b[0m");
        assert_eq!(Frame { has_colours: false, ..frame }.line(Ink::Bad, "0123456789abc"), "0123456789");
    }
}
