//! The typed requests, replies and events between command line and daemon, versioned.
//!
//! # The conversation
//! The client connects to a socket in the file system ([`SOCKET_PATH`]) and sends [`ClientMessage::Hello`]; the daemon
//! answers with [`ServerMessage::Hello`], or with a refusal when it does not speak that [`PROTOCOL`]. Then requests go
//! one after the other. Each is answered by any number of [`ServerMessage::Event`] and [`ServerMessage::Row`] frames and
//! closed by exactly one [`ServerMessage::Done`] or [`ServerMessage::Refused`]. Lists travel as rows, one frame each, so
//! that no list outgrows a frame. While a request is under way the daemon sends something at least every
//! [`ALIVE_INTERVAL`] ([`Event::Alive`] when there is nothing to tell), so that a client can tell a long wait from a
//! dead daemon. A client that closes its end gives up waiting, not the task that it started: that ends by
//! [`Request::TaskAbort`].
//!
//! A client that is slow, silent or hostile loses its own connection and nothing else: [`FRAME_LIMIT`] bounds each frame both
//! ways, a user with too many connections is told so before a byte of his is read, and whoever sends anything but a message
//! is answered with one refusal. After a refusal that no request asked for the daemon closes.
//!
//! # Promises
//! Decoding never panics, never recurses without bound and allocates at most a frame, whatever arrives. Names arrive
//! checked, because [`Name`](crate::base::Name) only parses from good text. Field names are stable within one
//! [`PROTOCOL`]; an unknown field is an error, never ignored.
//!
//! This room knows words and frames; it never learns how either side works.

pub mod client;
pub mod event;
pub mod frame;
pub mod happening;
pub mod message;
pub mod reply;
pub mod request;
pub mod row;
pub mod words;

pub use client::{Client, last_state, socket_path};
pub use event::Event;
pub use frame::{Decoder, FrameError, decode, encode};
pub use happening::{Happening, Severity, What};
pub use message::{ClientMessage, ServerMessage};
pub use reply::Reply;
pub use request::{Access, Request};
pub use row::Row;

use std::time::Duration;

/// Version of the protocol: raised whenever a field or variant changes its meaning or goes away.
pub const PROTOCOL: u32 = 1;

/// Where the daemon listens unless `CLEAVE_SOCKET` or `--socket` says otherwise.
pub const SOCKET_PATH: &str = "/run/cleave/control";

/// The environment variable that names another socket.
pub const SOCKET_ENV: &str = "CLEAVE_SOCKET";

/// The directory of the groups' state directories unless the daemon was told otherwise.
pub const STATE_DIRECTORY: &str = "/var/lib/cleave";

/// The longest silence of a daemon that works on a request.
pub const ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// After this much silence a client counts the daemon as dead: six missed signs of life, enough for a machine that swaps.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Time for connecting, for the answer to a hello, and for a frame that has begun to arrive, on either side.
pub const FRAME_LIMIT: Duration = Duration::from_secs(5);

const _: () = assert!(ALIVE_INTERVAL.as_secs() * 3 < SILENCE_LIMIT.as_secs());
