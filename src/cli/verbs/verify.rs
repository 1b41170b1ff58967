//! `cleave verify`: compares all plexes of a volume.

use super::make::count;
use crate::base::units::human_bytes;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, to_json};
use crate::cli::plan::{Action, Options};
use crate::cli::progress::seconds;
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::Verify;
use crate::control::row::DifferenceRow;
use crate::control::{Reply, Request, Row};
use clap::Args;

/// The words of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The volume; it may be in use
    volume: String,
}

impl VerifyArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let request = Verify { group: options.group(), volume: words::name(&self.volume)? };
        Ok(Action::ask(Request::Verify(request), |answered| show(&answered)))
    }
}

fn show(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Verified(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let differences: Vec<&DifferenceRow> = answered
        .rows
        .iter()
        .filter_map(|row| if let Row::Difference(row) = row { Some(row) } else { None })
        .collect();
    let mut json = to_json(reply);
    json["differences"] = to_json(&differences);
    let plexes = count(usize::try_from(reply.plexes).unwrap_or(usize::MAX), "plex");
    let compared = format!("{} in {}", human_bytes(reply.compared_bytes), seconds(reply.elapsed_ms));
    if reply.differing_bytes == 0 && differences.is_empty() {
        return Ok(Answer::done(json, format!("{}: {plexes} equal, {compared}\n", reply.volume)));
    }
    let text = differences.iter().map(|row| {
        format!(
            "{} differs from {} at byte {}, {} bytes\n",
            row.plex, row.reference, row.offset_bytes, row.length_bytes
        )
    });
    Ok(Answer::listing(json, text.collect::<String>()).failing(*Refusal::new(
        Kind::Differs,
        "verify.differs",
        &reply.volume,
        format!("{plexes} differ in {} bytes of {compared}", reply.differing_bytes),
        "remove the plex that is wrong and mirror again",
    )))
}
