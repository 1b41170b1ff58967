//! Without the daemon: `cleaved --offline VERB` looks by itself, and its answer is shown as the daemon's would be.

use super::plan::Options;
use super::session::Answered;
use crate::base::{Errno, Kind, Refusal, Refused};
use crate::control::ServerMessage;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The `cleaved` that stands beside this program, else the one of the search path.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("cleaved"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("cleaved"))
}

fn run(options: &Options, verb: &str, words: &[String]) -> Result<Output, Refused> {
    let program = program();
    let mut command = Command::new(&program);
    command.args(["--offline", verb]).stdin(Stdio::null());
    if let Some(group) = &options.group {
        command.args(["--group", group.as_str()]);
    }
    if let Some(socket) = &options.socket {
        command.arg("--socket").arg(socket);
    }
    command.args(words).output().map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(Errno::IO.raw()));
        Refusal::new(
            Kind::DaemonDown,
            "offline.program",
            program.display(),
            format!("the daemon does not answer, and this program cannot be run in its place: {errno}"),
            "install cleaved beside cleave",
        )
    })
}

/// The answer of `cleaved --offline VERB WORDS`.
///
/// # Errors
/// Its refusal; `offline.answer` when it is none of ours.
pub fn ask(options: &Options, verb: &str, words: &[String]) -> Result<Answered, Refused> {
    let output = run(options, verb, words)?;
    let mut rows = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(ServerMessage::Row(row)) => rows.push(row),
            Ok(ServerMessage::Done(reply)) => return Ok(Answered { rows, reply }),
            Ok(ServerMessage::Refused(refusal)) => return Err(Box::new(refusal)),
            Ok(ServerMessage::Hello { .. } | ServerMessage::Event(_)) | Err(_) => break,
        }
    }
    Err(unfitting(&output))
}

/// The text of `cleaved --offline VERB WORDS`.
///
/// # Errors
/// What it said when it failed.
pub fn text(options: &Options, verb: &str, words: &[String]) -> Result<String, Refused> {
    let output = run(options, verb, words)?;
    if !output.status.success() {
        return Err(unfitting(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unfitting(output: &Output) -> Refused {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default().trim_start_matches("cleaved: ");
    let reason =
        if said.is_empty() { format!("gave no answer ({})", output.status) } else { said.to_owned() };
    Refusal::new(Kind::System, "offline.answer", "cleaved --offline", reason, "")
}
