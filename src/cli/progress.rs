//! Progress on standard error: bars on a terminal, a line every few seconds in a pipe, nothing when quiet or JSON.

use super::plan::{Options, Watch};
use crate::base::units::human_bytes;
use crate::control::row::TaskRow;
use crate::control::{Event, Severity};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two lines about one task.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// How far something is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Tells several apart.
    pub key: u64,
    /// What is being done.
    pub label: String,
    /// Bytes gone through.
    pub done_bytes: u64,
    /// Bytes to go through.
    pub total_bytes: u64,
    /// Bytes a second.
    pub rate_bytes: u64,
    /// Milliseconds to the end.
    pub eta_ms: Option<u64>,
    /// Whether this is the last word on it, and then what it ended with.
    pub ended: Option<&'static str>,
}

impl Step {
    /// The step of a task.
    #[must_use]
    pub fn of_task(row: &TaskRow) -> Self {
        let plex = row.plex.as_ref().map(|plex| format!(" {plex}")).unwrap_or_default();
        Self {
            key: row.task,
            label: format!("{} {}{plex}", row.kind, row.volume),
            done_bytes: row.done_bytes,
            total_bytes: row.total_bytes,
            rate_bytes: row.rate_bytes,
            eta_ms: row.eta_ms,
            ended: row.state.ended().then_some(row.state.word()),
        }
    }

    /// Whole percent done; something of no length is done.
    #[must_use]
    pub fn percent(&self) -> u64 {
        match self.total_bytes {
            0 => 100,
            total => (u128::from(self.done_bytes.min(total)) * 100 / u128::from(total)) as u64,
        }
    }

    fn speed(&self) -> String {
        let left = self.eta_ms.map(|eta| format!(", {} left", seconds(eta))).unwrap_or_default();
        format!("{}/s{left}", human_bytes(self.rate_bytes))
    }

    /// The step as a line.
    #[must_use]
    pub fn line(&self) -> String {
        let head = format!("{}: {} % of {}", self.label, self.percent(), human_bytes(self.total_bytes));
        match self.ended {
            Some(word) => format!("{head}, {word}"),
            None => format!("{head}, {}", self.speed()),
        }
    }
}

/// Milliseconds for people.
#[must_use]
pub fn seconds(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

enum Face {
    Silent,
    Lines(HashMap<u64, Instant>),
    Bars(MultiProgress, HashMap<u64, ProgressBar>),
}

/// Shows steps and events.
pub struct Progress {
    face: Face,
    head_due: bool,
    /// Whether what comes before anything is done is told.
    announces: bool,
}

impl Progress {
    /// Progress in the manner that the options want.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let face = if options.json || options.quiet || options.is_applet() {
            Face::Silent
        } else if std::io::stderr().is_terminal() {
            Face::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), HashMap::new())
        } else {
            Face::Lines(HashMap::new())
        };
        let announces = !options.json && !options.quiet;
        Self { face, head_due: true, announces }
    }

    /// Shows `event` as far as `watch` wants it.
    pub fn event(&mut self, watch: Watch, event: &Event) {
        match (watch, event) {
            (_, Event::Alive) => {}
            (Watch::VxTask { head }, Event::Progress(row)) => {
                let head = std::mem::take(&mut self.head_due) && head;
                let lines = super::vx::vxtask::lines(std::slice::from_ref(row), head);
                let _ = std::io::stdout().write_all(lines.as_bytes());
            }
            (Watch::Progress | Watch::Everything, Event::Progress(row)) => self.step(&Step::of_task(row)),
            (Watch::Everything, Event::Happened(happening)) => self.say(&happening.to_string()),
            // Who waits for one thing is told what may keep it waiting.
            (Watch::Progress, Event::Happened(happening)) if happening.severity > Severity::Info => {
                self.say(&happening.to_string());
            }
            (Watch::Progress | Watch::VxTask { .. } | Watch::Events { .. }, Event::Happened(_))
            | (Watch::Events { .. }, Event::Progress(_)) => {}
        }
    }

    /// Shows a line that comes before anything is done.
    pub fn announce(&mut self, line: &str) {
        match &self.face {
            // A command of VxVM is silent, but not about what it overwrites.
            Face::Silent if self.announces => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            Face::Silent | Face::Lines(_) | Face::Bars(..) => self.say(line),
        }
    }

    /// Shows a step.
    pub fn step(&mut self, step: &Step) {
        match &mut self.face {
            Face::Silent => {}
            Face::Lines(said) => {
                let now = Instant::now();
                let due = *said.entry(step.key).or_insert(now) + LINE_INTERVAL <= now;
                if due || step.ended.is_some() {
                    said.insert(step.key, now);
                    let _ = writeln!(std::io::stderr(), "{}", step.line());
                }
            }
            Face::Bars(screen, bars) => {
                let bar = bars.entry(step.key).or_insert_with(|| screen.add(new_bar(step)));
                bar.set_length(step.total_bytes.max(1));
                bar.set_position(if step.total_bytes == 0 { 1 } else { step.done_bytes });
                match step.ended {
                    Some(word) => bar.finish_with_message(word),
                    None => bar.set_message(step.speed()),
                }
            }
        }
    }

    fn say(&mut self, text: &str) {
        match &self.face {
            Face::Silent => {}
            Face::Lines(_) => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            Face::Bars(screen, _) => {
                let _ = screen.println(text);
            }
        }
    }

    /// Takes unfinished bars off the screen: the request is over.
    pub fn end(&mut self) {
        if let Face::Bars(_, bars) = &mut self.face {
            for (_, bar) in bars.drain() {
                if !bar.is_finished() {
                    bar.abandon();
                }
            }
        }
    }
}

fn new_bar(step: &Step) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3} % of {binary_total_bytes} {msg}")
            .expect("the template is constant and good")
            .progress_chars("=> ");
    ProgressBar::new(step.total_bytes.max(1)).with_style(style).with_prefix(step.label.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_as_a_line() {
        let mut step = Step {
            key: 1,
            label: "snapstart v v-02".to_owned(),
            done_bytes: 400 << 20,
            total_bytes: 1 << 30,
            rate_bytes: 200 << 20,
            eta_ms: Some(3_120),
            ended: None,
        };
        assert_eq!(step.line(), "snapstart v v-02: 39 % of 1 GiB, 200 MiB/s, 3.1 s left");
        step.ended = Some("done");
        step.done_bytes = u64::MAX;
        assert_eq!(step.line(), "snapstart v v-02: 100 % of 1 GiB, done");
        step.total_bytes = 0;
        assert_eq!(step.percent(), 100);
        assert_eq!(new_bar(&step).length(), Some(1));
    }

    #[test]
    fn times_read_well() {
        let said: Vec<_> = [0, 999, 1_000, 59_999, 61_000, 3_600_000].map(seconds).into();
        assert_eq!(said, ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 1 s", "1 h 0 min"]);
    }
}
