//! The outermost layer of what travels: who speaks, and whether it opens, continues or closes an answer.

use super::{Event, Reply, Request, Row};
use crate::base::Refusal;
use serde::{Deserialize, Serialize};

/// What a client sends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientMessage {
    /// The first message on a connection.
    Hello {
        /// The protocol that the client speaks.
        protocol: u32,
        /// The client's own version, for the log.
        version: String,
    },
    /// A request; the next one may follow when this one's answer is closed.
    Request(Request),
}

/// What the daemon sends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ServerMessage {
    /// The answer to a hello.
    Hello {
        /// The protocol that the daemon speaks.
        protocol: u32,
        /// The daemon's version.
        version: String,
        /// The daemon's process id.
        pid: u32,
    },
    /// Something happened while the request is under way.
    Event(Event),
    /// One row of a list, or one member of an answer.
    Row(Row),
    /// The request is done: the answer is closed.
    Done(Reply),
    /// The request is refused, or failed and was backed out: the answer is closed.
    Refused(Refusal),
}
