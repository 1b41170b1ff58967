//! `cleave mount`: mounts a volume. XFS gets `nouuid`, because a snapshot carries its origin's identity.

use crate::base::{Errno, Kind, Name, Refusal, Refused};
use crate::cli::answer::{Answer, clean};
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The words of `mount`.
#[derive(Args, Debug)]
pub struct MountArgs {
    /// The volume
    volume: String,
    /// Where to mount it
    directory: String,
    /// Mount it read-only
    #[arg(short, long)]
    read_only: bool,
    /// Options of mount(8) to mount it with, as noatime,discard
    #[arg(short, value_name = "OPTIONS")]
    options: Option<String>,
}

/// A volume to be mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountWork {
    /// The volume as the user named it.
    pub volume: Name,
    /// Its device.
    pub device: PathBuf,
    /// Where.
    pub directory: PathBuf,
    /// Options of mount(8), without what the file system needs.
    pub options: String,
}

impl MountArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and paths.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let volume = words::name(&self.volume)?;
        let given = self.options.unwrap_or_default();
        let mut list: Vec<&str> = given.split(',').filter(|option| !option.is_empty()).collect();
        if self.read_only {
            list.push("ro");
        } else if !list.iter().any(|option| matches!(*option, "ro" | "rw")) {
            list.insert(0, "rw");
        }
        Ok(Action::Mount(MountWork {
            device: device(&options.group(), &volume),
            volume,
            directory: words::path(&self.directory)?,
            options: list.join(","),
        }))
    }
}

/// The stable link to a started volume.
pub(in crate::cli) fn device(group: &Name, volume: &Name) -> PathBuf {
    PathBuf::from(format!("/dev/cleave/{group}/{volume}"))
}

/// The refusal for a device that cannot be opened.
pub(in crate::cli) fn cannot_open(object: &str, path: &Path, error: &std::io::Error) -> Refused {
    let object = clean(object);
    match error.kind() {
        ErrorKind::NotFound => Refusal::new(
            Kind::NotFound,
            "device.missing",
            object,
            format!("there is no {}", clean(path.display())),
            match path.starts_with("/dev/cleave") {
                true => "it is started with: cleave start VOLUME; those that are there: cleave list",
                false => "check its path",
            },
        ),
        ErrorKind::PermissionDenied => Refusal::new(
            Kind::Permission,
            "device.permission",
            object,
            "this user may not open it",
            "run the command as root",
        ),
        _ => Refusal::new(
            Kind::Io,
            "device.open",
            object,
            format!("cannot open {} ({})", clean(path.display()), errno(error)),
            "",
        ),
    }
}

/// The kernel's error in `error`; [`Errno::IO`] when it comes from elsewhere.
pub(in crate::cli) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(Errno::IO.raw()))
}

impl MountWork {
    /// Mounts.
    ///
    /// # Errors
    /// When the volume has no device, or mount(8) refuses.
    pub fn run(&self) -> Result<Answer, Refused> {
        let mut magic = [0; 4];
        let open = File::open(&self.device).map_err(|e| cannot_open(self.volume.as_str(), &self.device, &e));
        let is_xfs = open?.read_exact(&mut magic).is_ok() && &magic == b"XFSB";
        let options = if is_xfs { format!("{},nouuid", self.options) } else { self.options.clone() };
        let mounted = Command::new("mount")
            .args(["-o", &options, "--"])
            .arg(&self.device)
            .arg(&self.directory)
            .output();
        let reason = match mounted {
            Ok(output) if output.status.success() => {
                let text = format!(
                    "{}: mounted on {} ({})\n",
                    self.volume,
                    clean(self.directory.display()),
                    clean(&options)
                );
                let json = json!({ "volume": self.volume, "device": self.device, "directory": self.directory, "options": options });
                return Ok(Answer::done(json, text));
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "),
            Err(error) => format!("mount(8) cannot be run ({error})"),
        };
        Err(Refusal::new(Kind::System, "mount.failed", &self.volume, reason, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_cannot_be_opened_says_whose_fault_that_is() {
        for (error, id, kind) in [
            (libc::ENOENT, "device.missing", Kind::NotFound),
            (libc::EACCES, "device.permission", Kind::Permission),
            (libc::ENXIO, "device.open", Kind::Io),
        ] {
            let error = std::io::Error::from_raw_os_error(error);
            let refused = cannot_open("v\n", Path::new("/dev/cleave/default/v\n"), &error);
            assert_eq!((refused.id.as_str(), refused.kind), (id, kind));
            assert!(!refused.to_string().contains('\n'), "{refused}");
        }
    }
}
