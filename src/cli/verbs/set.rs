//! `cleave set`: changes settings of a volume.

use super::group::changed;
use crate::base::cpus::NoCpus;
use crate::base::{Affinity, Kind, Refusal, Refused};
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use crate::control::Request;
use crate::control::request::{ReadFrom, Set};
use crate::control::words::DataPath;
use clap::Args;

/// The words of `set`.
#[derive(Args, Debug)]
#[command(after_help = "\
plex-timeout=SECONDS  how long a plex may leave a request unanswered while others answer; then it
                      goes STALE and the volume runs on without it. none waits for ever.
                      With data=zero, requests already under way wait until its medium answers:
                      their pages cannot be taken back from it. The last complete plex is always
                      waited for. [default: 30]
dirty-extents=N       extents of 4 MiB that may count as dirty at once: what is read of
                      each plex after a crash of the machine, to make them equal.
                      [default: 1024]
data=auto|copy|zero   how data travel. copy: through memory of the daemon. zero: from the requests'
                      own pages, where the kernel lends them (from Linux 6.16 on), to all plexes;
                      these differ wherever an application changes a page while it is being
                      written. auto: zero for a volume of one plex, copy for one of several.
                      Between copy and zero a volume that runs changes at its next start.
                      [default: auto]
queues=auto|N         queues of the device, each with a thread that serves it, from its next start
                      on: at most 32, and no more than there are processors. Where data are copied,
                      each takes 32 MiB of memory. auto: one for four processors, at most four.
                      [default: auto]
affinity=auto|any|CPUS
                      which processors these threads run on, from the volume's next start on, as
                      0,2-3. auto: of several queues each where its requests come from, a single one
                      anywhere. [default: auto]
autostart=yes|no      whether the volume is started when the host is, by cleaved --autostart as its
                      unit calls it. [default: yes]
read=round|select|PLEX
                      which plex serves reads. round: each in turn. select: as the volume sees fit, in
                      turn today. A plex by its name: that one while it can, else in turn.
                      [default: select]")]
pub struct SetArgs {
    /// The volume
    volume: String,
    /// What is set, as plex-timeout=10
    #[arg(value_name = "SETTING=VALUE", required = true)]
    settings: Vec<String>,
}

impl SetArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names; `setting.unknown`, `setting.twice`, `setting.not-a-number`, `setting.not-a-way`,
    /// `setting.not-cpus`, `setting.not-yes-or-no`.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let volume = words::name(&self.volume)?;
        let mut request = Set::nothing(options.group(), volume);
        for word in &self.settings {
            let (setting, value) = word.split_once('=').ok_or_else(|| unknown(word))?;
            let is_twice = match setting {
                "plex-timeout" => request.plex_timeout_s.replace(seconds(word, value)?).is_some(),
                "dirty-extents" => request.dirty_extents.replace(number(word, value)?).is_some(),
                "data" => request.data.replace(data(word, value)?).is_some(),
                "queues" => request.queues.replace(queues(word, value)?).is_some(),
                "affinity" => request.affinity.replace(affinity(word, value)?).is_some(),
                "autostart" => request.autostart.replace(yes_or_no(word, value)?).is_some(),
                "read" => request.read_from.replace(read_from(value)?).is_some(),
                _ => return Err(unknown(word)),
            };
            if is_twice {
                let reason = format!("{setting} is set twice");
                return Err(Refusal::new(
                    Kind::Usage,
                    "setting.twice",
                    words::clip(word),
                    reason,
                    "say it once",
                ));
            }
        }
        let text = format!("{}: set", request.volume);
        Ok(Action::ask(Request::Set(request), move |answered| changed(&answered, &text)))
    }
}

fn unknown(word: &str) -> Refused {
    Refusal::new(
        Kind::Usage,
        "setting.unknown",
        words::clip(word),
        "is no setting of a volume",
        "write plex-timeout=SECONDS, dirty-extents=N, data=auto|copy|zero, queues=auto|N, affinity=auto|any|CPUS, \
         autostart=yes|no or read=round|select|PLEX",
    )
}

fn data(word: &str, value: &str) -> Result<DataPath, Refused> {
    DataPath::from_word(value).ok_or_else(|| {
        Refusal::new(
            Kind::Syntax,
            "setting.not-a-way",
            words::clip(word),
            "data travel in no such way",
            "write data=auto, data=copy or data=zero",
        )
    })
}

/// A number of seconds, with or without `s`; `none` is 0, no limit.
fn seconds(word: &str, value: &str) -> Result<u32, Refused> {
    match value {
        "none" => Ok(0),
        "0" | "0s" => Err(Refusal::new(
            Kind::Usage,
            "setting.not-a-number",
            words::clip(word),
            "no plex answers in no time",
            "write plex-timeout=none to wait for ever",
        )),
        _ => number(word, value.strip_suffix('s').unwrap_or(value)),
    }
}

/// A number of queues; `auto` is 0.
fn queues(word: &str, value: &str) -> Result<u16, Refused> {
    match value {
        "auto" => Ok(0),
        "0" => Err(Refusal::new(
            Kind::Usage,
            "setting.not-a-number",
            words::clip(word),
            "nothing is served without a queue",
            "write queues=auto to have the number chosen",
        )),
        _ => number(word, value),
    }
}

fn affinity(word: &str, value: &str) -> Result<Affinity, Refused> {
    value.parse().map_err(|error: NoCpus| {
        Refusal::new(
            Kind::Syntax,
            "setting.not-cpus",
            words::clip(word),
            error,
            "write affinity=auto, affinity=any or affinity=0,2-3",
        )
    })
}

fn yes_or_no(word: &str, value: &str) -> Result<bool, Refused> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(Refusal::new(
            Kind::Syntax,
            "setting.not-yes-or-no",
            words::clip(word),
            "its value is neither yes nor no",
            "write autostart=yes or autostart=no",
        )),
    }
}

fn read_from(value: &str) -> Result<ReadFrom, Refused> {
    Ok(match value {
        "round" => ReadFrom::Round,
        "select" => ReadFrom::Select,
        plex => ReadFrom::Prefer(words::name(plex)?),
    })
}

fn number<N: std::str::FromStr>(word: &str, value: &str) -> Result<N, Refused> {
    value.parse().map_err(|_| {
        Refusal::new(
            Kind::Syntax,
            "setting.not-a-number",
            words::clip(word),
            "its value is not a number",
            "write plex-timeout=SECONDS, dirty-extents=N or queues=N",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_setting_can_be_is_refused_with_what_it_can_be() {
        let id = |refused: Result<u16, Refused>| refused.unwrap_err().id.clone();
        assert_eq!(queues("queues=auto", "auto"), Ok(0));
        assert_eq!(queues("queues=2", "2"), Ok(2));
        for bad in ["0", "", "-1", "many", "65536"] {
            assert_eq!(id(queues(bad, bad)), "setting.not-a-number", "{bad}");
        }
        let refused = affinity("affinity=3-1", "3-1").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "affinity=3-1: is no list of processors below 1024, as 0,2-3; write affinity=auto, affinity=any or affinity=0,2-3"
        );
    }
}
