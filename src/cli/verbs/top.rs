//! `cleave top`: what volumes do, again and again, on one screen.

mod frame;

use crate::base::{Name, Refused};
use crate::cli::answer::{Answer, stream, to_json, volume_json, volumes};
use crate::cli::plan::{Action, Options, Watch};
use crate::cli::progress::Progress;
use crate::cli::screen::{self, Screen};
use crate::cli::session::{self, Answered};
use crate::cli::verbs::stat::{number, since};
use crate::control::reply::Overview;
use crate::control::request;
use crate::control::row::{HeatRow, StatsRow};
use crate::control::{Reply, Request, Row};
use clap::Args;
use frame::{Frame, Look};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Events on the screen.
const EVENTS: u64 = 5;

/// The words of `top`.
#[derive(Args, Debug)]
#[command(after_help = "\
Of each volume: requests and MiB a second, and how long they took on average; below it its maps as
strips, each column a part of the volume that is the darker the more of it is marked: `written` is
where writes may be under way or not yet flushed, `since SNAP` what was written since that snapshot
was cut, `PLEX lacks` what a plex that fell behind has to get.

Without -g the volumes of all groups are shown. On a terminal q leaves. In a pipe one look is printed, or as many as --count says, one below the
other; with --json each is a document on a line of its own.")]
pub struct TopArgs {
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value = "1")]
    every: String,
    /// How many looks [default: on a terminal until q is pressed, else one]
    #[arg(short, long, value_name = "N")]
    count: Option<String>,
}

impl TopArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// `stat.not-a-number`.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let every = Duration::from_secs(number("seconds", &self.every)?);
        let count = self.count.as_deref().map(|word| number("looks", word)).transpose()?;
        let overview = request::Overview { group: options.group.clone(), volume: None, events: EVENTS };
        let heat = request::Heat { group: options.group.clone(), columns: frame::STRIP };
        let requests = vec![Request::Overview(overview), Request::Heat(heat)];
        Ok(Action::Top(TopWork { requests, every, count }))
    }
}

/// Looks, again and again.
#[derive(Debug)]
pub struct TopWork {
    pub(in crate::cli) requests: Vec<Request>,
    every: Duration,
    count: Option<u64>,
}

/// What one look saw.
struct Seen {
    overview: Overview,
    rows: Vec<Row>,
    heat: Vec<HeatRow>,
    stats: Vec<StatsRow>,
    at: Instant,
}

impl TopWork {
    /// Looks and draws; where there is no screen, prints all looks but the last, which is the result.
    ///
    /// # Errors
    /// Those of the daemon.
    pub fn run(&self, options: &Options, progress: &mut Progress) -> Result<Answer, Refused> {
        let screen = if options.json { None } else { Screen::enter() };
        let count = self.count.or_else(|| screen.is_none().then_some(1));
        let mut before = self.look(options, progress)?;
        let mut looks = 0;
        loop {
            // Rates are those of a span, so the first look is only its beginning.
            let is_left = match &screen {
                Some(screen) => screen.left_within(if looks == 0 { FIRST } else { self.every }),
                None => {
                    std::thread::sleep(if looks == 0 { FIRST } else { self.every });
                    false
                }
            };
            if is_left {
                return Ok(Answer::default());
            }
            let now = self.look(options, progress)?;
            let answer = show(&before, &now, screen.as_ref());
            looks += 1;
            let is_last = count == Some(looks);
            match &screen {
                Some(screen) => {
                    screen.draw(&answer.text);
                    if is_last {
                        return Ok(Answer::default());
                    }
                }
                None if is_last => return Ok(answer),
                None if options.json => stream(&format!("{}\n", answer.json)),
                None => stream(&format!("{}\n", answer.text)),
            }
            before = now;
        }
    }

    fn look(&self, options: &Options, progress: &mut Progress) -> Result<Seen, Refused> {
        let mut answers = session::ask(options, &self.requests, Watch::Progress, progress)?.into_iter();
        let (Some(overview), Some(heat)) = (answers.next(), answers.next()) else {
            return Err(Answered::unfitting());
        };
        let Reply::Overview(reply) = overview.reply else { return Err(Answered::unfitting()) };
        let groups: BTreeSet<Name> =
            volumes(&overview.rows).iter().map(|(volume, _)| volume.group.clone()).collect();
        let stats: Vec<_> = groups
            .into_iter()
            .map(|group| Request::Stats(request::Stats { group, volumes: Vec::new(), reset: false }))
            .collect();
        let counted = session::ask(options, &stats, Watch::Progress, progress)?;
        let stats = counted.into_iter().flat_map(|answered| answered.rows);
        Ok(Seen {
            overview: reply,
            rows: overview.rows,
            heat: heat
                .rows
                .into_iter()
                .filter_map(|row| if let Row::Heat(row) = row { Some(row) } else { None })
                .collect(),
            stats: stats.filter_map(|row| if let Row::Stats(row) = row { Some(row) } else { None }).collect(),
            at: Instant::now(),
        })
    }
}

/// How long the first span is: a screen that stays empty for long looks broken.
const FIRST: Duration = Duration::from_millis(500);

fn show(before: &Seen, now: &Seen, screen: Option<&Screen>) -> Answer {
    let stats: Vec<StatsRow> = now.stats.iter().map(|row| since(row, &before.stats)).collect();
    let look = Look {
        overview: &now.overview,
        rows: &now.rows,
        heat: &now.heat,
        stats: &stats,
        span: now.at - before.at,
    };
    let frame = Frame {
        size: screen.map(Screen::size).map_or((usize::MAX, usize::MAX), |size| size),
        has_colours: screen::has_colours(),
    };
    Answer::listing(document(&look), frame.draw(&look))
}

fn document(look: &Look<'_>) -> Value {
    let mut json = to_json(look.overview);
    json["span_ms"] = json!(u64::try_from(look.span.as_millis()).unwrap_or(u64::MAX));
    json["volumes"] = volumes(look.rows)
        .iter()
        .map(|volume| {
            let mut document = volume_json(volume);
            let its = |group: &Name, name: &Name| *group == volume.0.group && *name == volume.0.volume;
            let stats = look.stats.iter().find(|row| its(&row.group, &row.volume));
            document["counts"] = to_json(&stats.map(|row| row.counts));
            let maps = look.heat.iter().filter(|row| its(&row.group, &row.volume));
            document["maps"] =
                maps.map(|row| json!({ "map": row.map, "percent": row.percent })).collect::<Value>();
            document
        })
        .collect();
    json["tasks"] = look
        .rows
        .iter()
        .filter_map(|row| if let Row::Task(task) = row { Some(to_json(task)) } else { None })
        .collect();
    json
}
