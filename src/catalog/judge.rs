//! What the label on a medium means for the plex that the catalogue puts there (ordering rule 16): a table.
//!
//! A label may lag behind the catalogue, because the catalogue is committed first and labels follow; a crash between the
//! two leaves some labels of the configuration before, and the record says which that is ([`Plex::labelled`]). It may not lag
//! further behind its peers: a plex whose label is of an earlier run than another's, or of a data generation that another
//! has left behind, holds older data; and so does, as a medium that was restored from an image, one whose label is older than
//! the one it is known to have borne.

use std::fmt::Write;

use crate::base::museum::{self, Exhibit};
use crate::base::{Errno, Generation, Kind, Refusal, Refused, Uuid};
use crate::format::Damage;
use crate::format::label::Label;
use crate::state::{Plex, PlexState, Volume, VolumeState};

use super::labels::Found;

/// What is on the medium that the catalogue names for a plex.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// The medium is not there or cannot be used; the reason as a person is told.
    Absent(String),
    /// It cannot be read.
    Unreadable(Errno),
    /// It bears no label, or none that can be believed; the reason as a person is told.
    Unlabelled(String),
    /// It bears the label of another plex.
    Foreign(Box<Label>),
    /// It bears this plex's label.
    Own(Box<Label>),
}

/// What a start makes of a plex.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It holds what the catalogue says.
    Use,
    /// It counts as missing.
    Missing(String),
    /// It is there and holds older data, or data that cannot be told.
    Behind(String),
}

/// The verdicts on the plexes of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// One for each finding, in the same order.
    pub verdicts: Vec<(Uuid, Verdict)>,
    /// Whether the label of a plex that is used says that the intent map was lost in the latest run, which has not ended well.
    pub intent_lost: bool,
}

/// What the whole comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The catalogue stands.
    Stands(Judgement),
    /// A label carries a newer configuration: it is to be adopted, and the labels judged again.
    Adopt(Box<Label>),
}

impl Finding {
    /// What `read` means for `plex` of `volume` in the group `group`.
    #[must_use]
    pub fn new(read: Result<Found, Errno>, group: Uuid, volume: &Volume, plex: &Plex) -> Self {
        match read {
            Err(errno) => Self::Unreadable(errno),
            Ok(Found::None) => Self::Unlabelled("it bears no label".to_owned()),
            Ok(Found::Damaged(damage)) => Self::Unlabelled(told(&damage)),
            Ok(Found::Label(label)) => {
                let ours = label.group == group && label.plex == plex.uuid();
                // A plex keeps its identity when it moves between an origin and a snapshot volume; the label that names
                // the other volume is then that of the configuration before, or the one that is to be adopted.
                if ours && volume.may_have_length(label.volume_length) {
                    Self::Own(label)
                } else {
                    Self::Foreign(label)
                }
            }
        }
    }
}

fn told(damage: &[Damage]) -> String {
    let mut text = "none of its labels can be read:".to_owned();
    for (at, found) in damage.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{} it {found}", if at == 0 { "" } else { "," });
    }
    text
}

/// What the record makes of a plex's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// CLEAN, ACTIVE: it holds every acknowledged write.
    Complete,
    /// SNAPDONE: so it does, and nobody would start from it.
    Spare,
    /// STALE, SNAPATT: a map says what it lacks.
    Lagging,
    /// Whatever it holds is not relied on.
    Out,
}

impl Class {
    const fn of(state: PlexState) -> Self {
        match state {
            PlexState::Clean | PlexState::Active => Self::Complete,
            PlexState::SnapDone => Self::Spare,
            PlexState::Stale | PlexState::SnapAtt => Self::Lagging,
            PlexState::Empty
            | PlexState::IoFail
            | PlexState::SnapTmp
            | PlexState::Temp
            | PlexState::Offline => Self::Out,
        }
    }
}

/// The label's data generation beside the record's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Data {
    Same,
    /// The label's is in the record's past.
    Past,
    /// The record's is in the label's past.
    Ahead,
    Unrelated,
}

impl Data {
    fn of(plex: &Plex, label: &Label) -> Self {
        if label.data_generation == plex.generation() {
            Self::Same
        } else if plex.past_generations().contains(&label.data_generation) {
            Self::Past
        } else if label.past.contains(&plex.generation()) {
            Self::Ahead
        } else {
            Self::Unrelated
        }
    }
}

/// A row's outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ruling {
    Use,
    Behind,
    RefuseAhead,
    RefuseUnrelated,
}

/// The table for a plex that bears its own label. `level` is whether no relied-on peer's label is further on, or may be, by
/// more than the labels that were being written last; for a plex that lags, whether it is as it was when it left.
const fn rule(class: Class, data: Data, level: bool) -> Ruling {
    match (class, data, level) {
        (Class::Out, Data::Same | Data::Past | Data::Ahead | Data::Unrelated, true | false)
        | (Class::Complete | Class::Spare, Data::Same | Data::Past, true)
        | (Class::Lagging, Data::Same, true) => Ruling::Use,
        (Class::Complete | Class::Spare, Data::Same | Data::Past, false)
        | (Class::Lagging, Data::Same, false)
        | (Class::Spare | Class::Lagging, Data::Ahead | Data::Unrelated, true | false)
        | (Class::Lagging, Data::Past, true | false) => Ruling::Behind,
        (Class::Complete, Data::Ahead, true | false) => Ruling::RefuseAhead,
        (Class::Complete, Data::Unrelated, true | false) => Ruling::RefuseUnrelated,
    }
}

/// Judge what was found of the plexes of `volume`, whose record is of configuration `generation`.
///
/// A label with a newer configuration wins over the catalogue. Else a medium that is absent, unreadable, unlabelled or
/// another plex's counts as missing, and a plex with its own label is judged by the table.
///
/// # Errors
/// `group.two-heads` when two labels are newer than the catalogue, of one generation, and not alike; `plex.ahead` when a
/// complete plex has seen a parting that the catalogue does not know; `plex.unrelated` when its data has no history in common
/// with the record; both ids are shown.
pub fn judge(
    generation: Generation,
    volume: &Volume,
    findings: &[(Uuid, Finding)],
) -> Result<Outcome, Refused> {
    let own = || {
        findings.iter().filter_map(|(plex, finding)| match finding {
            Finding::Own(label) => volume.plex_by_id(*plex).map(|plex| (plex, label)),
            Finding::Absent(_) | Finding::Unreadable(_) | Finding::Unlabelled(_) | Finding::Foreign(_) => {
                None
            }
        })
    };
    let newer = || own().filter(|(_, label)| label.config_generation > generation);
    if let Some((plex, label)) = newer().max_by_key(|(_, label)| label.config_generation) {
        let is_twin = |other: &Label| {
            other.config_generation == label.config_generation && other.configuration != label.configuration
        };
        return match newer().find(|(_, other)| is_twin(other)) {
            None => Ok(Outcome::Adopt(label.clone())),
            Some((other, _)) => Err(two_heads(plex, other, label.config_generation)),
        };
    }
    let relied =
        || own().filter(|(plex, _)| matches!(Class::of(plex.state()), Class::Complete | Class::Spare));
    // A snapshot mirror whose label is further on than every complete plex's tells of a start whose labels were being written
    // when it ended: no device was shown, and nothing is missing on the complete ones.
    let peers = |class: Class| {
        relied()
            .filter(move |(plex, _)| class != Class::Complete || Class::of(plex.state()) == Class::Complete)
    };
    // A peer that should hold everything and whose label cannot be asked.
    let silent = volume.plexes().iter().any(|plex| {
        Class::of(plex.state()) == Class::Complete && own().all(|(other, _)| other.uuid() != plex.uuid())
    });
    let expected_run = |class: Class| {
        let latest = peers(class).map(|(_, label)| label.run).max().unwrap_or_default();
        if silent { latest.max(volume.run()) } else { latest }
    };
    let parted = |class: Class| peers(class).any(|(plex, label)| Data::of(plex, label) == Data::Same);
    // Nothing was acknowledged without it that the record does not tell: a label of one of its peers would be newer than the
    // catalogue, so none may be silent, nor of a run that the record does not know.
    let overtaken = own().any(|(_, label)| label.volume == volume.uuid() && label.run > volume.run());
    let level = |plex: &Plex, label: &Label, data: Data| {
        let class = Class::of(plex.state());
        let current = || plex.labelled().is_some() && !silent && !overtaken;
        let with_its_peers =
            || label.run >= expected_run(class) && (data == Data::Same || !(parted(class) || silent));
        // The map of a plex that lags is right for the data it had when it left, whatever its peers did since.
        !was_put_back(plex, label) && (class == Class::Lagging || current() || with_its_peers())
    };
    let mut verdicts = Vec::new();
    for (uuid, finding) in findings {
        let Some(plex) = volume.plex_by_id(*uuid) else { continue };
        let verdict = match finding {
            Finding::Absent(why) | Finding::Unlabelled(why) => Verdict::Missing(why.clone()),
            Finding::Unreadable(errno) => Verdict::Missing(format!("its label cannot be read: {errno}")),
            Finding::Foreign(label) => {
                Verdict::Missing(format!("it carries plex {} of group {}", label.plex, label.group))
            }
            Finding::Own(label) => {
                let (data, class) = (Data::of(plex, label), Class::of(plex.state()));
                let level = level(plex, label, data) || museum::shows(Exhibit::OlderCopyBelieved);
                match rule(class, data, level) {
                    Ruling::Use => Verdict::Use,
                    Ruling::Behind => Verdict::Behind(behind(plex, label, data, expected_run(class))),
                    Ruling::RefuseAhead => {
                        let what = "has seen a parting of the plexes that the catalogue does not know";
                        return Err(contradiction(Kind::CannotStart, "plex.ahead", plex, label, what));
                    }
                    Ruling::RefuseUnrelated => {
                        let what = "holds data without a history in common with the catalogue's";
                        return Err(contradiction(Kind::CannotStart, "plex.unrelated", plex, label, what));
                    }
                }
            }
        };
        verdicts.push((*uuid, verdict));
    }
    let used = |plex: &Plex| verdicts.contains(&(plex.uuid(), Verdict::Use));
    let of_this_run = |label: &Label| label.volume == volume.uuid() && label.run == volume.run();
    let intent_lost = volume.state() != VolumeState::Clean
        && relied().any(|(plex, label)| label.intent_lost && of_this_run(label) && used(plex));
    Ok(Outcome::Stands(Judgement { verdicts, intent_lost }))
}

/// Whether the label is older than one that the plex has borne.
fn was_put_back(plex: &Plex, label: &Label) -> bool {
    plex.labelled().is_some_and(|labelled| label.config_generation < labelled)
}

fn behind(plex: &Plex, label: &Label, data: Data, expected_run: Generation) -> String {
    match data {
        Data::Same if was_put_back(plex, label) && label.run >= expected_run => format!(
            "its label is of configuration {}, where {} or a later one is expected",
            label.config_generation,
            plex.labelled().unwrap_or_default()
        ),
        Data::Same => format!("its label is of run {}, where run {expected_run} is expected", label.run),
        Data::Past | Data::Ahead | Data::Unrelated => format!(
            "its data is of generation {}, where {} is expected",
            label.data_generation.0,
            plex.generation().0
        ),
    }
}

fn two_heads(first: &Plex, second: &Plex, generation: Generation) -> Refused {
    Refusal::new(
        Kind::CannotStart,
        "group.two-heads",
        first.name(),
        format!(
            "its label and that of {} both carry generation {generation}, newer than the catalogue's, with different content",
            second.name()
        ),
        "move the wrong medium away, or bring back the state directory that belongs to it",
    )
}

fn contradiction(kind: Kind, id: &str, plex: &Plex, label: &Label, what: &str) -> Refused {
    Refusal::new(
        kind,
        id,
        plex.name(),
        format!(
            "{} {what}: it has {}, the catalogue has {}",
            plex.medium().path,
            label.data_generation.0,
            plex.generation().0
        ),
        "move the wrong medium away, or bring back the state directory that belongs to it",
    )
}

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
