//! Asking the daemon: one connection a command line.

use super::plan::{Options, Watch};
use super::progress::Progress;
use crate::base::{Kind, Refusal, Refused};
use crate::control::client::{Heard, Limits};
use crate::control::{Client, Reply, Request, Row, socket_path};

/// A closed answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Answered {
    /// Its rows in order.
    pub rows: Vec<Row>,
    /// What closed it.
    pub reply: Reply,
}

impl Answered {
    /// The refusal for an answer that does not fit its request.
    #[must_use]
    pub fn unfitting() -> Refused {
        Refusal::new(
            Kind::DaemonTalk,
            "control.unfitting",
            "cleaved",
            "gave an answer that does not fit the request",
            "install cleave and cleaved of one version",
        )
    }
}

/// Asks `requests` in order over one connection.
///
/// # Errors
/// The first refusal, or that of a broken connection; later requests are then not sent.
pub fn ask(
    options: &Options,
    requests: &[Request],
    watch: Watch,
    progress: &mut Progress,
) -> Result<Vec<Answered>, Refused> {
    let path = socket_path(options.socket.as_deref());
    let mut client = Client::connect(&path, Limits::default())?;
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        let mut rows = Vec::new();
        let reply = client.call(request, |heard| match heard {
            Heard::Row(Row::Happened(happening)) if matches!(watch, Watch::Events { .. }) => {
                super::verbs::events::follow(watch, &happening);
            }
            Heard::Row(row) => {
                // Before anything is done.
                if let Row::Restoring(plan) = &row
                    && !request.is_dry()
                {
                    progress.announce(&super::verbs::restore::announced(plan));
                }
                rows.push(row);
            }
            Heard::Event(event) => progress.event(watch, &event),
        });
        progress.end();
        let reply = reply?;
        if let Reply::Listed(listed) = &reply
            && listed.rows != rows.len() as u64
        {
            return Err(Refusal::new(
                Kind::DaemonTalk,
                "control.rows-lost",
                path.display(),
                format!("cleaved counted {} rows, {} arrived", listed.rows, rows.len()),
                "ask again",
            ));
        }
        answers.push(Answered { rows, reply });
    }
    Ok(answers)
}
