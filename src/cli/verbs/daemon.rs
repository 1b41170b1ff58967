//! `cleave daemon`: asks after the daemon, or ends it.

use super::group::changed;
use super::make::count;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, clean, to_json};
use crate::cli::plan::{Action, Options};
use crate::cli::progress::seconds;
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::client::Limits;
use crate::control::request::{Shutdown, Upgrade};
use crate::control::{Client, Reply, Request, Row, socket_path};
use clap::Subcommand;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is done with the daemon.
#[derive(Subcommand, Debug)]
pub enum DaemonVerb {
    /// Show whether the daemon runs, and how it is
    Status,
    /// End the daemon and stop the volumes that nobody has open; devices in use stay and wait for the next daemon
    Stop {
        /// Refuse unless all volumes can be stopped
        #[arg(long)]
        volumes: bool,
    },
    /// Give the daemon's place to a newer binary: the volumes serve on, with the same devices
    Upgrade {
        /// The binary [default: what stands now where the daemon was started from]
        #[arg(long, value_name = "PATH")]
        binary: Option<String>,
    },
}

/// How long the daemon may take to give up its place, and the next one to answer: a fence may have to be waited for.
const UPGRADE_LIMIT: Duration = Duration::from_secs(90);

/// Between two looks whether the next daemon answers.
const UPGRADE_POLL: Duration = Duration::from_millis(20);

/// A daemon that is to give its place to another binary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpgradeWork {
    /// What it is asked.
    pub request: Request,
}

impl UpgradeWork {
    /// Ask, wait until the old program is gone and the next one answers.
    ///
    /// # Errors
    /// The daemon's refusal: it serves on; `upgrade.silent` when nobody answers afterwards.
    pub fn run(&self, options: &Options) -> Result<Answer, Refused> {
        self.run_within(&socket_path(options.socket.as_deref()), UPGRADE_LIMIT)
    }

    fn run_within(&self, path: &Path, limit: Duration) -> Result<Answer, Refused> {
        let mut client = Client::connect(path, Limits::default())?;
        let (from, pid) = (client.daemon_version().to_owned(), client.daemon_pid());
        client.call(&self.request, |_| {})?;
        let began = Instant::now();
        if !client.wait_for_end(limit) {
            return Err(Refusal::new(
                Kind::InvalidState,
                "upgrade.stays",
                "cleaved",
                "the daemon did not give up its place",
                "see why with: cleave events",
            ));
        }
        loop {
            match Client::connect(path, Limits::default()).and_then(|mut client| {
                // It answers when every volume that can be is served again.
                let reply = client.call(&Request::Status, |_| {})?;
                Ok((client.daemon_version().to_owned(), client.daemon_pid(), reply))
            }) {
                Ok((version, next, _)) => {
                    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let text = format!(
                        "cleaved {} gave its place to {} (process {next}) in {}\n",
                        clean(&from),
                        clean(&version),
                        seconds(ms)
                    );
                    let json = json!({ "from": from, "to": version, "pid_before": pid, "pid": next, "elapsed_ms": ms });
                    return Ok(Answer::done(json, text));
                }
                Err(refused) if began.elapsed() >= limit => {
                    return Err(Refusal::new(
                        Kind::DaemonDown,
                        "upgrade.silent",
                        "cleaved",
                        format!("no daemon answers after the upgrade: {}", refused.reason),
                        "look at its journal, and start the old or the new binary: the devices wait for it",
                    ));
                }
                Err(_) => std::thread::sleep(UPGRADE_POLL),
            }
        }
    }
}

impl DaemonVerb {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of paths.
    pub fn action(self) -> Result<Action, Refused> {
        Ok(match self {
            Self::Status => Action::ask(Request::Status, |answered| show(&answered)),
            Self::Upgrade { binary } => {
                let binary = binary.as_deref().map(words::path).transpose()?;
                Action::Upgrade(UpgradeWork { request: Request::Upgrade(Upgrade { binary }) })
            }
            Self::Stop { volumes } => {
                let request = Request::Shutdown(Shutdown { stop_volumes: volumes });
                Action::ask(request, |answered| changed(&answered, "cleaved: ending"))
            }
        })
    }
}

fn show(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Status(status) = &answered.reply else { return Err(Answered::unfitting()) };
    let notes: Vec<&String> = answered
        .rows
        .iter()
        .filter_map(|row| if let Row::Note(note) = row { Some(note) } else { None })
        .collect();
    let many = |number: u64, noun| count(usize::try_from(number).unwrap_or(usize::MAX), noun);
    let mut text = format!(
        "cleaved {} runs as {} for {} on Linux {}\n{}, {} ({} started), {}\n",
        clean(&status.version),
        status.pid,
        seconds(status.uptime_ms),
        clean(&status.kernel),
        many(status.groups, "group"),
        many(status.volumes, "volume"),
        status.started,
        many(status.tasks, "task")
    );
    for note in &notes {
        text += &format!("note: {}\n", clean(note));
    }
    let mut json = to_json(status);
    json["notes"] = to_json(&notes);
    Ok(Answer::listing(json, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reply::Changed;
    use crate::control::{ClientMessage, Decoder, PROTOCOL, ServerMessage, decode, encode};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    /// What an upgrade comes to whose daemon says that it gives its place up, and then does nothing or goes for good.
    fn upgraded(goes: bool) -> Refused {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let (mut decoder, mut buffer, mut asked) = (Decoder::new(), [0; 4096], false);
            while !(asked && goes) {
                let count = peer.read(&mut buffer).unwrap();
                if count == 0 {
                    return;
                }
                decoder.feed(&buffer[..count]);
                while let Some(body) = decoder.next_body().unwrap() {
                    let message = match decode(&body).unwrap() {
                        ClientMessage::Hello { .. } => {
                            ServerMessage::Hello { protocol: PROTOCOL, version: "0".to_owned(), pid: 1 }
                        }
                        ClientMessage::Request(_) => {
                            asked = true;
                            ServerMessage::Done(Reply::Changed(Changed { changed: true }))
                        }
                    };
                    peer.write_all(&encode(&message).unwrap()).unwrap();
                }
            }
        });
        let work = UpgradeWork { request: Request::Upgrade(Upgrade { binary: None }) };
        let refused = work.run_within(&path, Duration::from_millis(200)).unwrap_err();
        server.join().unwrap();
        refused
    }

    #[test]
    fn an_upgrade_after_which_the_old_daemon_stays_or_no_new_one_answers_is_told_so() {
        let stays = upgraded(false);
        assert_eq!((stays.id.as_str(), stays.kind), ("upgrade.stays", Kind::InvalidState));
        let silent = upgraded(true);
        assert_eq!((silent.id.as_str(), silent.kind), ("upgrade.silent", Kind::DaemonDown));
        assert!(!silent.to_string().contains('\n'), "{silent}");
    }
}
