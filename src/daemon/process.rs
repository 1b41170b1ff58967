//! What the daemon asks of the kernel for its own process: it stands between file systems and their disks, so it must go on
//! when memory is short, and what it holds in memory is other people's data.
//!
//! | what | why |
//! | --- | --- |
//! | umask 077 | no file of ours is for others, whatever call makes it |
//! | no core dumps, not dumpable | request data and labels stand in memory; a dump also goes to disks that may be ours |
//! | `PR_SET_IO_FLUSHER` | memory that the kernel frees for us by writing to our own volumes would never come |
//! | memory locked | a page of ours that must be read back to serve the disk that it is to be read through |
//! | 65,536 open files | a volume takes half a dozen, and the soft limit is 1024 by custom |
//! | large memory mapped by itself | locked memory that is not used any more is given back |
//! | `oom_score_adj` -1000 | ended for memory, we would take every file system above us along |
//!
//! Locked are all pages that are there when the daemon starts, its code and its data whole, and every later one from its
//! first touch on (`MCL_ONFAULT`). What is mapped and not touched, the far end of a thread's stack or of a map of a
//! sparse volume, stays without memory. Memory is locked only where no limit stands against it: below a limit the
//! kernel would refuse later mappings instead, and with them volumes.
//!
//! All of it is inherited by the threads that start afterwards, so it comes first.

use std::io;

use rustix::fs::Mode;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, configure_io_flusher_behavior, getrlimit, set_dumpable_behavior,
    setrlimit, umask,
};

/// The kernel's word for a process that is never chosen, proc_pid_oom_score_adj(5).
const NEVER: &str = "-1000";

/// Ask for all of it. What is not granted is a warning each: the daemon serves without it, and less surely.
pub fn protect() {
    umask(Mode::RWXG | Mode::RWXO);
    crate::device::map_large_apart();
    for (what, outcome, without) in [
        ("core dumps off", no_core_dumps(), "a crash may leave request data in a file"),
        ("I/O flusher", configure_io_flusher_behavior(true).map_err(io::Error::from), SHORT),
        ("memory locked", lock_memory(), SHORT),
        ("many open files", many_files(), "fewer volumes can be served: each takes half a dozen"),
        ("no end for want of memory", std::fs::write("/proc/self/oom_score_adj", NEVER), MAY_END),
    ] {
        match outcome {
            Ok(()) => tracing::debug!("{what}"),
            Err(error) => tracing::warn!("{what}: not granted: {error}; {without}"),
        }
    }
}

const SHORT: &str = "volumes may stand still when memory is short; grant CAP_SYS_RESOURCE";

const MAY_END: &str = "the kernel may end the daemon when memory is short; grant CAP_SYS_RESOURCE";

/// Open files that the daemon may have: a volume takes half a dozen, and its media more. As the unit has it.
const FILES: u64 = 65_536;

fn many_files() -> io::Result<()> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|files| files >= FILES) {
        return Ok(());
    }
    let maximum = now.maximum.map(|files| files.max(FILES));
    setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum }).or_else(|error| {
        // To the hard limit nobody has to grant it.
        setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })?;
        Err(error.into())
    })
}

fn no_core_dumps() -> io::Result<()> {
    // A handler that the kernel pipes dumps to does not heed the limit, but gets none of a process that is not dumpable.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

fn lock_memory() -> io::Result<()> {
    let unlimited = Rlimit { current: None, maximum: None };
    if getrlimit(Resource::Memlock).current.is_some() {
        setrlimit(Resource::Memlock, unlimited)?;
    }
    mlockall(MlockAllFlags::CURRENT)?;
    Ok(mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}
