//! Another binary takes the daemon's place: the same process, the same arguments, no volume stopped.
//!
//! The devices wait from the moment at which this program is gone until the next one has taken them over; what was in
//! flight is issued again, tasks go on from their maps. That is what happens after a crash too, but for three things done
//! first: the new binary is asked whether it can read every configuration, no transaction is half-way, and every volume is
//! brought to rest, so that no copy has anything to repeat.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::base::{Errno, Kind, Refusal, Refused};
use crate::control::reply::Changed;
use crate::control::{Reply, What, request};

use super::events::News;
use super::machine::Machine;
use super::owner::Owner;

/// How long the new binary may take to say whether it fits.
const CHECK_LIMIT: Duration = Duration::from_secs(20);

/// How long the volumes may take to come to rest; what one has not flushed by then is copied again.
const REST_LIMIT: Duration = Duration::from_secs(5);

/// How long transactions that are under way may take to end.
const TURN_LIMIT: Duration = Duration::from_secs(10);

/// For the answer to reach its client before this program is gone.
const ANSWER_TIME: Duration = Duration::from_millis(100);

fn unfit(binary: &Path, reason: impl std::fmt::Display) -> Refused {
    Refusal::new(
        Kind::InvalidState,
        "upgrade.unfit",
        binary.display(),
        reason,
        "the daemon serves on as it is; name another binary with --binary",
    )
}

/// Ask `binary` whether it can serve what lies in `state`. It looks and changes nothing.
///
/// # Errors
/// `upgrade.unfit`: it cannot be run, does not know the question, or cannot read a configuration.
fn check(binary: &Path, state: &Path) -> Result<(), Refused> {
    let mut child = Command::new(binary)
        .args(["--offline", "check", "--state"])
        .arg(state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| unfit(binary, format!("cannot be run: {}", Errno::from(error))))?;
    let deadline = Instant::now() + CHECK_LIMIT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                // It may end just now.
                let _ = child.kill();
                let _ = child.wait();
                return Err(unfit(binary, "does not say whether it fits"));
            }
            Err(error) => return Err(unfit(binary, format!("cannot be waited for: {}", Errno::from(error)))),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        use std::io::Read;
        // Without a line the status says enough.
        let _ = stderr.by_ref().take(4096).read_to_string(&mut said);
    }
    let line = said.lines().next().unwrap_or_default().trim_start_matches("cleaved: ").to_owned();
    Err(unfit(binary, if line.is_empty() { format!("says that it does not fit ({status})") } else { line }))
}

impl<M: Machine> Owner<M> {
    /// Check the binary that is to take this one's place, and have the main loop give the place to it.
    pub(super) async fn upgrade(self: &Rc<Self>, request: request::Upgrade) -> Result<Reply, Refused> {
        let binary = match request.binary.or_else(|| self.binary.clone()) {
            Some(binary) if binary.is_absolute() => binary,
            Some(binary) => return Err(unfit(&binary, "is no absolute path")),
            None => return Err(unfit(Path::new("cleaved"), "where it was started from is not known")),
        };
        let (asked, state) = (binary.clone(), self.root.clone());
        self.machine.worker(move || check(&asked, &state)).await?;
        *self.successor.borrow_mut() = Some(binary);
        self.ending.notify_one();
        Ok(Reply::Changed(Changed { changed: true }))
    }

    /// Give the place of this program to the binary that was asked for, if one was. Returns only when none was, or when it
    /// cannot be run: then this one serves on.
    pub(super) async fn give_place(self: &Rc<Self>) -> bool {
        let Some(binary) = self.successor.borrow_mut().take() else { return false };
        let text = format!("gives its place to {}", binary.display());
        self.events.raise(News::new(What::DaemonUpgrading, text));
        let prepared = async {
            let groups = self.all_groups();
            let mut turns = Vec::new();
            for group in &groups {
                turns.push(self.within(TURN_LIMIT, group.turn.lock()).await);
            }
            self.machine.sleep(ANSWER_TIME).await;
            self.events.finish_hook();
            let served: Vec<_> = self.live.borrow().values().cloned().collect();
            // Writes wait from here on until the next one has taken over.
            let rests = served.iter().map(|live| self.within(REST_LIMIT, live.keeper.rest()));
            let _rests = join_all(rests).await;
            let mut arguments = std::env::args_os();
            let name = arguments.next().unwrap_or_else(|| "cleaved".into());
            Command::new(&binary).arg0(name).args(arguments).exec()
        };
        let error = prepared.await;
        let reason =
            format!("{} cannot be run: {}; this one serves on", binary.display(), Errno::from(error));
        self.events.raise(News::new(What::UpgradeFailed, reason));
        true
    }
}

/// Where this program was started from: asked at start, while it is still there.
#[must_use]
pub fn own_binary() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_binary_that_does_not_fit_is_refused_by_what_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let binary = directory.path().join("next");
        let said = |body: &str, mode: u32| {
            std::fs::write(&binary, body).unwrap();
            std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(mode)).unwrap();
            check(&binary, Path::new("/state")).map_err(|refused| refused.reason)
        };
        assert_eq!(said("#!/bin/sh\n[ \"$*\" = \"--offline check --state /state\" ]\n", 0o755), Ok(()));
        let newer = "#!/bin/sh\necho 'cleaved: /s/g: has format 2' >&2\nexit 68\n";
        assert_eq!(said(newer, 0o755), Err("/s/g: has format 2".to_owned()));
        assert!(said("#!/bin/sh\nkill -9 $$\n", 0o755).unwrap_err().starts_with("says that it does not fit"));
        assert_eq!(said("", 0o644), Err("cannot be run: Permission denied".to_owned()));
        std::fs::remove_file(&binary).unwrap();
        let refused = check(&binary, Path::new("/state")).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.kind), ("upgrade.unfit", Kind::InvalidState));
    }
}
