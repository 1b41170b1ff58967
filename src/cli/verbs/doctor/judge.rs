//! From what was seen to what is told: without I/O, so that tests can show every host.

use super::Facts;
use super::finding::{Check, Finding, Findings};
use crate::base::units::human_bytes;
use crate::base::{Errno, Kind};
use crate::cli::answer::volumes;
use crate::cli::progress::seconds;
use crate::cli::verbs::make::count;
use crate::control::Row;
use crate::control::row::{PlexRow, VolumeRow};
use crate::control::words::{DataPath, Health};
use crate::probe::{
    Driver, Form, Host, KernelVersion, Limit, LockedMemory, Module, Nature, Place, RingsFor, Unseen,
};
use std::collections::BTreeMap;

/// The first kernel whose driver lets a device outlive its server and issues again what that had in hand.
const FIRST: KernelVersion = KernelVersion::new(6, 1);

/// The first kernel that Cleave is tested with.
const TESTED: KernelVersion = KernelVersion::new(6, 12);

/// From this kernel on the driver's limit of devices is one for ordinary users alone.
const LIMITS_USERS: KernelVersion = KernelVersion::new(6, 15);

/// Below this a state directory is as good as full: a map of one large volume does not fit any more.
const ROOM_GONE: u64 = 1 << 20;

/// Below this it will soon be.
const ROOM_SCARCE: u64 = 64 << 20;

/// What is to be told of `facts`.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::default();
    let out = &mut findings;
    kernel(&facts.host, out);
    module(&facts.host, out);
    driver(&facts.host, out);
    devices(&facts.host, out);
    ring(&facts.host, out);
    let pid = facts.daemon.as_ref().ok().map(|daemon| daemon.pid);
    memory(pid, facts.memory, facts.host.root, out);
    daemon(facts, out);
    let answers = facts.daemon.is_ok();
    for (path, found) in &facts.state {
        state(&path.display().to_string(), found, answers, out);
    }
    links(facts, out);
    surroundings(&facts.host, out);
    plexes(facts, out);
    findings.sorted()
}

fn kernel(host: &Host, out: &mut Findings) {
    let object = format!("Linux {}", host.release);
    match host.kernel {
        None => out.note(
            Check::KernelRelease,
            object,
            "which version it is cannot be told",
            format!("see that it is {FIRST} or later"),
        ),
        Some(version) if version < FIRST => out.fail(
            Check::KernelRelease,
            object,
            "is too old: volumes could not outlive their daemon",
            format!("boot a kernel from {FIRST} on, {TESTED} or later at best"),
        ),
        Some(version) if version < TESTED => out.note(
            Check::KernelRelease,
            object,
            format!("is older than what Cleave is tested with, {TESTED} and later"),
            "boot a newer kernel when there is one",
        ),
        Some(_) => out.ok(Check::KernelRelease, object, "is new enough"),
    }
}

fn module(host: &Host, out: &mut Findings) {
    let (check, object) = (Check::UblkModule, "ublk_drv");
    match host.module {
        Module::BuiltIn => out.ok(check, object, "is built into the kernel"),
        Module::Loaded => out.ok(check, object, "is loaded"),
        Module::Loadable => {
            out.note(
                check,
                object,
                "is not loaded",
                "cleaved does so when it starts; by hand: modprobe ublk_drv",
            );
        }
        Module::Absent => {
            out.fail(check, object, "is not among the modules of this kernel", source(host));
        }
        Module::NoModules => out.fail(
            check,
            object,
            format!("is not loaded, and there is no /lib/modules/{}", host.release),
            "boot the kernel whose modules are installed; in a container, load it on the host",
        ),
    }
}

/// Where this host gets the driver from.
fn source(host: &Host) -> String {
    let like = |name| host.distribution.iter().any(|word| word == name);
    if like("ubuntu") {
        return format!("install linux-modules-extra-{}, then: modprobe ublk_drv", host.release);
    }
    let architecture = match host.machine.as_str() {
        "x86_64" => Some("amd64"),
        "aarch64" => Some("arm64"),
        _ => None,
    };
    match architecture.filter(|_| like("debian")) {
        Some(name) => format!("install linux-image-{name} of Debian 12 or later and boot it"),
        None => format!("boot a kernel from {FIRST} on that was built with CONFIG_BLK_DEV_UBLK"),
    }
}

fn driver(host: &Host, out: &mut Findings) {
    let (check, object) = (Check::UblkControl, "/dev/ublk-control");
    match &host.driver {
        Driver::Can(_) | Driver::Silent => out.ok(check, object, "can be opened"),
        Driver::NotPermitted if host.root => out.fail(
            check,
            object,
            "may not be used by root here",
            "give this container or service the device and CAP_SYS_ADMIN",
        ),
        Driver::NotPermitted => out.note(check, object, "may not be opened by this user", "run it as root"),
        Driver::Missing if host.module == Module::Loadable => {
            out.note(check, object, "is missing", "it comes with the driver");
        }
        Driver::Missing => out.fail(check, object, "is missing", "have the driver loaded first"),
        Driver::NoNode => out.fail(
            check,
            object,
            "is missing, though the driver is loaded",
            "give it to this container or namespace",
        ),
        Driver::Fails { reason, way_out } => out.fail(check, object, reason, way_out),
    }
    abilities(host, out);
}

fn abilities(host: &Host, out: &mut Findings) {
    let object = "ublk driver";
    let can = match &host.driver {
        Driver::Can(can) => can,
        Driver::Silent => {
            let way_out = "Linux 6.5 and later tell it";
            return out.note(Check::UblkFeatures, object, "does not tell what it can do", way_out);
        }
        _ => {
            let found = "what it can do is not known, as it cannot be asked";
            return out.note(Check::UblkFeatures, object, found, "see to its control node first");
        }
    };
    if can.recovery {
        let found = "devices outlive their daemon, and what it had in hand is issued again";
        out.ok(Check::UblkRecovery, object, found);
    } else {
        let way_out = format!("boot a kernel from {FIRST} on");
        out.fail(Check::UblkRecovery, object, "devices cannot outlive their daemon", way_out);
    }
    if can.zero_copy {
        out.ok(Check::UblkZeroCopy, object, "requests' own pages are lent");
    } else {
        let way_out = "Linux 6.16 and later can lend requests' own pages";
        out.note(Check::UblkZeroCopy, object, "data are copied", way_out);
    }
    if can.safe_stop {
        let found = "a device is stopped only when nobody has it open";
        out.ok(Check::UblkSafeStop, object, found);
    } else {
        out.note(
            Check::UblkSafeStop,
            object,
            "whether somebody has a device open is looked for before it is stopped, and could change meanwhile",
            "a kernel with UBLK_F_SAFE_STOP_DEV makes sure of it",
        );
    }
    if can.resize {
        out.ok(Check::UblkResize, object, "a device can change its size");
    } else {
        let stopped = "Linux 6.16 and later can; here a volume becomes longer while it is stopped";
        out.note(Check::UblkResize, object, "a device cannot change its size", stopped);
    }
    let later = "Linux 6.16 and later can; nothing here needs it yet";
    if can.quiesce {
        out.ok(Check::UblkQuiesce, object, "a device can be brought to rest under a living server");
    } else {
        out.note(Check::UblkQuiesce, object, "a device comes to rest only when its server ends", later);
    }
}

fn devices(host: &Host, out: &mut Findings) {
    let (check, object) = (Check::UblkDevices, "ublk devices");
    // Without the driver there is nothing to count.
    let Some(limit) = host.devices.limit else { return };
    let there = host.devices.there;
    let found = format!("{there} of at most {limit} are there");
    let left = (limit as usize).saturating_sub(there);
    let way_out = "stop a volume, or admit more: echo N >/sys/module/ublk_drv/parameters/ublks_max";
    if host.kernel.is_some_and(|version| version >= LIMITS_USERS) {
        let found = format!("{there} are there; the limit of {limit} is one for ordinary users' alone");
        out.ok(check, object, found);
    } else if left == 0 {
        out.warn(check, object, format!("{found}: no volume can be started any more"), way_out);
    } else if left <= limit as usize / 4 {
        out.note(check, object, found, way_out);
    } else {
        out.ok(check, object, found);
    }
}

fn ring(host: &Host, out: &mut Findings) {
    let object = "io_uring";
    match host.rings {
        RingsFor::Everybody => out.ok(Check::RingAllowed, object, "is allowed to everybody"),
        RingsFor::Privileged { .. } => {
            let found = "is allowed to root's processes, so to the daemon (kernel.io_uring_disabled = 1)";
            out.ok(Check::RingAllowed, object, found);
        }
        RingsFor::Nobody => out.fail(
            Check::RingAllowed,
            object,
            "is switched off (kernel.io_uring_disabled = 2)",
            "sysctl kernel.io_uring_disabled=0, and the same in /etc/sysctl.d",
        ),
    }
    let errno = match host.ring {
        Ok(true) => {
            return out.ok(Check::RingMade, object, "a ring can be made, and takes drivers' commands");
        }
        Ok(false) => {
            let way_out = format!("boot a kernel from {FIRST} on");
            return out.fail(Check::RingMade, object, "a ring takes no drivers' commands", way_out);
        }
        Err(errno) => errno,
    };
    let found = format!("no ring can be made here: {errno}");
    match errno.raw() {
        libc::EPERM if !host.root && host.rings != RingsFor::Everybody => {
            out.note(Check::RingMade, object, found, "run it as root");
        }
        // The setting is told already.
        libc::EPERM if host.rings == RingsFor::Nobody => {
            out.fail(Check::RingMade, object, found, "see to the setting first");
        }
        libc::EPERM | libc::EACCES => {
            let way_out = "allow io_uring_setup in the seccomp profile of this container or service";
            out.fail(Check::RingMade, object, found, way_out);
        }
        libc::ENOSYS => out.fail(Check::RingMade, object, found, "boot a kernel built with CONFIG_IO_URING"),
        libc::ENOMEM => {
            out.fail(Check::RingMade, object, found, "free memory, or raise the limit: ulimit -l")
        }
        _ => out.fail(Check::RingMade, object, found, "look into the kernel's log"),
    }
}

/// The locked memory of the daemon, or of this process where the daemon does not answer.
fn memory(daemon: Option<u32>, memory: LockedMemory, root: bool, out: &mut Findings) {
    let check = Check::LockedMemory;
    let limit = match memory.limit {
        Some(Limit::Unlimited) => "no limit".to_owned(),
        Some(Limit::Bytes(bytes)) => format!("a limit of {}", human_bytes(bytes)),
        None => "a limit that cannot be read".to_owned(),
    };
    match (daemon, memory.locked) {
        // Memory that is locked as it comes to be used counts from its mapping on: the number says little.
        (Some(_), Some(locked)) if locked > 0 => {
            out.ok(check, "cleaved", format!("its memory is locked, with {limit}"));
        }
        (Some(_), Some(_)) => out.warn(
            check,
            "cleaved",
            format!(
                "its memory is not locked, with {limit}: short of memory it may wait for a volume of its own"
            ),
            "start it as root, with CAP_SYS_RESOURCE or LimitMEMLOCK=infinity",
        ),
        (Some(_), None) => {
            out.note(check, "cleaved", "what it has locked in memory cannot be read", "run it as root")
        }
        (None, _) if root || memory.limit == Some(Limit::Unlimited) => {
            out.ok(check, "this process", format!("has {limit}; cleaved, as root, lifts its own"));
        }
        (None, _) => out.note(
            check,
            "this process",
            format!("has {limit}, which cleaved would lift as root"),
            "start cleaved as root, or by its unit",
        ),
    }
}

fn daemon(facts: &Facts, out: &mut Findings) {
    let object = "cleaved";
    let daemon = match &facts.daemon {
        Ok(daemon) => daemon,
        Err(refusal) => {
            let way_out = match refusal.way_out.as_str() {
                "" => "see its log, and what hangs in the kernel's",
                way_out => way_out,
            };
            let waiting = facts.host.devices.unserved.filter(|unserved| *unserved > 0);
            return match (refusal.kind, waiting) {
                (Kind::DaemonDown, Some(unserved)) => {
                    let found = format!("{}, and {} for it", refusal.reason, wait(unserved));
                    out.fail(Check::DaemonRuns, object, found, way_out);
                }
                (Kind::DaemonDown, None) => out.warn(Check::DaemonRuns, object, &refusal.reason, way_out),
                (Kind::Permission, _) => out.note(Check::DaemonRuns, object, &refusal.reason, way_out),
                (_, _) => out.fail(Check::DaemonRuns, object, &refusal.reason, way_out),
            };
        }
    };
    let age = daemon.overview.daemon.as_ref().map_or(0, |status| status.uptime_ms);
    let found = format!("runs as {} for {}, and answers", daemon.pid, seconds(age));
    out.ok(Check::DaemonRuns, object, found);
    let own = env!("CARGO_PKG_VERSION");
    if daemon.version == own {
        out.ok(Check::DaemonVersion, object, format!("is {own}, as cleave is"));
    } else {
        out.warn(
            Check::DaemonVersion,
            object,
            format!("is {}, and cleave is {own}", daemon.version),
            "put both of one version in place, then: cleave daemon upgrade",
        );
    }
    let volumes = volumes(&daemon.rows);
    let served = volumes.iter().filter(|(volume, _)| volume.device.is_some()).count();
    out.ok(Check::DaemonVolumes, object, format!("serves {served} of {}", count(volumes.len(), "volume")));
    for note in &daemon.overview.notes {
        out.fail(Check::DaemonVolumes, object, note, "see to it, and look again with: cleave status");
    }
    let mut well = 0;
    for row in &daemon.rows {
        let Row::Health(row) = row else { continue };
        let object = format!("{}/{}", row.group, row.volume);
        let found = match row.reasons.as_slice() {
            [] => row.health.to_string(),
            reasons => reasons.join(", "),
        };
        let way_out = format!("see all of it with: cleave -g {} status {}", row.group, row.volume);
        match row.health {
            Health::Ok => well += 1,
            Health::Degraded => out.warn(Check::VolumeHealth, object, found, way_out),
            Health::Failed => out.fail(Check::VolumeHealth, object, found, way_out),
        }
    }
    if well > 0 {
        let found = format!("{well} of {} {} well", volumes.len(), if well == 1 { "is" } else { "are" });
        out.ok(Check::VolumeHealth, "volumes", found);
    }
    for (volume, plexes) in &volumes {
        data(volume, plexes.len() > 1, &facts.host.driver, out);
    }
}

fn wait(devices: usize) -> String {
    if devices == 1 { "a device waits".to_owned() } else { format!("{devices} devices wait") }
}

/// Which way the data of a started volume travel that has `several` plexes or one.
fn data(volume: &VolumeRow, several: bool, driver: &Driver, out: &mut Findings) {
    let Some(used) = volume.data_path else { return };
    let (check, object) = (Check::VolumeData, format!("{}/{}", volume.group, volume.volume));
    let lends = match driver {
        Driver::Can(can) => Some(can.zero_copy),
        _ => None,
    };
    let restart = format!("cleave -g {0} stop {1} && cleave -g {0} start {1}", volume.group, volume.volume);
    match (used, volume.data) {
        (DataPath::Zero, DataPath::Copy) if !several => {
            out.note(check, object, "requests' own pages are lent until its next start", restart);
        }
        (DataPath::Zero, DataPath::Zero) => out.ok(check, object, "requests' own pages are lent"),
        (DataPath::Zero, _) if !several => out.ok(check, object, "requests' own pages are lent"),
        (_, DataPath::Copy) => out.ok(check, object, "data are copied, as was asked for"),
        (_, DataPath::Auto) if several => out.ok(check, object, "data are copied, as it has several plexes"),
        // Then its disks most likely want memory that is aligned to as much, which a request's pages need not be.
        (_, DataPath::Auto) if volume.block_bytes > 512 => {
            out.ok(
                check,
                object,
                format!("data are copied, as it has blocks of {} bytes", volume.block_bytes),
            );
        }
        (_, DataPath::Zero) if volume.block_bytes > 512 => out.note(
            check,
            object,
            format!(
                "data are copied, though they were to be lent: it has blocks of {} bytes",
                volume.block_bytes
            ),
            "disks with blocks of 512 bytes can be lent pages",
        ),
        (_, _) if lends == Some(true) => {
            out.note(check, object, "data are copied until its next start", restart);
        }
        (_, DataPath::Zero) => out.note(
            check,
            object,
            "data are copied, though they were to be lent",
            "Linux 6.16 and later can lend requests' own pages",
        ),
        (_, DataPath::Auto) => out.ok(check, object, "data are copied"),
    }
}

/// What cannot be looked at, and what then helps.
fn unseen(why: Unseen) -> (String, &'static str) {
    match why {
        Unseen::Missing => ("is missing".to_owned(), "see whether its file system is mounted"),
        Unseen::NotPermitted => ("may not be looked at by this user".to_owned(), "run it as root"),
        Unseen::Hangs => (
            "does not answer within 5 s".to_owned(),
            "look for hanging disks and servers in the kernel's log",
        ),
        Unseen::Error(errno) => {
            let way_out = if errno == Errno::IO { "look into the kernel's log" } else { "see to its path" };
            (format!("cannot be looked at: {errno}"), way_out)
        }
    }
}

/// Why a file system of this kind is none for what shall last.
fn passing(place: &Place) -> Option<String> {
    let name = &place.filesystem.name;
    match place.filesystem.nature {
        Nature::Local => None,
        Nature::Memory => Some(format!("lies on {name}, which is memory: the next boot takes it")),
        Nature::Remote => Some(format!(
            "lies on {name}, behind a server or another program: it hangs with that, and flushes are worth what that makes of them"
        )),
    }
}

fn state(object: &str, found: &Result<Place, Unseen>, answers: bool, out: &mut Findings) {
    let check = Check::StateDirectory;
    let place = match found {
        Ok(place) => place,
        Err(Unseen::Missing) if !answers => {
            return out.note(check, object, "is not there yet", "cleaved makes it when it starts");
        }
        Err(Unseen::NotPermitted) => {
            let (found, way_out) = unseen(Unseen::NotPermitted);
            return out.note(check, object, found, way_out);
        }
        Err(why) => {
            let (found, way_out) = unseen(*why);
            return out.fail(check, object, found, way_out);
        }
    };
    if place.form != Form::Directory {
        return out.fail(
            check,
            object,
            "is no directory",
            "put it away, or name another: cleaved --state DIR",
        );
    }
    if place.read_only {
        out.fail(check, object, "can only be read", "see why in the kernel's log, then: mount -o remount,rw");
    } else if place.owner != 0 {
        let way_out = format!("chown root: {object}");
        out.warn(check, object, format!("belongs to user {}, not to root", place.owner), way_out);
    } else if place.mode & 0o077 != 0 {
        let found = format!("is open to others than root (mode {:o})", place.mode);
        out.warn(check, object, found, format!("chmod 700 {object}"));
    } else {
        out.ok(check, object, format!("is there, mode {:o}", place.mode));
    }
    let elsewhere = "have it on a disk of this host: cleaved --state DIR";
    match passing(place) {
        Some(found) => out.warn(Check::StateFileSystem, object, found, elsewhere),
        None => out.ok(Check::StateFileSystem, object, format!("lies on {}", place.filesystem.name)),
    }
    let free = format!("{} are free below it", human_bytes(place.free_bytes));
    let make_room = "make room: without it nothing can be changed, and a plex that fails holds writes up";
    if place.no_more_files {
        out.fail(Check::StateRoom, object, "no more files fit on its file system", make_room);
    } else if place.free_bytes < ROOM_GONE {
        out.fail(Check::StateRoom, object, free, make_room);
    } else if place.free_bytes < ROOM_SCARCE {
        out.warn(Check::StateRoom, object, free, make_room);
    } else {
        out.ok(Check::StateRoom, object, free);
    }
    match &place.on_ublk {
        Some(passed) => {
            let found =
                format!("lies on a ublk device ({}): a volume would wait for itself", passed.join(", "));
            out.fail(Check::StateBelow, object, found, "move it to a disk that no daemon serves");
        }
        None => out.ok(Check::StateBelow, object, "does not lie on a volume"),
    }
}

fn links(facts: &Facts, out: &mut Findings) {
    let check = Check::Links;
    for tree in &facts.links {
        let object = tree.path.display();
        if !tree.there && tree.expected == 0 {
            out.note(check, object, "is not there", "it comes with the first volume that is started");
        } else if tree.wrong.is_empty() {
            let found = match tree.expected {
                0 => "is there".to_owned(),
                1 => "its link leads to its device".to_owned(),
                many => format!("its {many} links lead to their devices"),
            };
            out.ok(check, object, found);
        }
        for (link, volume) in &tree.wrong {
            out.warn(
                check,
                link.display(),
                format!("does not lead to the device of {volume}"),
                format!("move away what stands there, then stop and start {volume}"),
            );
        }
    }
}

fn surroundings(host: &Host, out: &mut Findings) {
    if host.udev {
        out.ok(Check::Udev, "udev", "runs");
    } else {
        out.note(
            Check::Udev,
            "udev",
            "does not run: volumes have Cleave's links, and none by label or UUID of a file system",
            "start it where such links are wanted",
        );
    }
    let object = "group cleave";
    match host.readers {
        Some(number) => out.ok(Check::UsersGroup, object, format!("is there, number {number}")),
        None => out.note(
            Check::UsersGroup,
            object,
            "is not in /etc/group: only root may look at volumes",
            "groupadd --system cleave, then start cleaved anew",
        ),
    }
}

/// What the file of a plex may still come to need.
fn need(plex: &PlexRow, place: &Place) -> u64 {
    match place.form {
        // The file may be shorter than the volume only while it is made.
        Form::File { bytes, allocated } => bytes.max(plex.length_bytes).saturating_sub(allocated),
        Form::Directory | Form::Disk | Form::Other => 0,
    }
}

fn plexes(facts: &Facts, out: &mut Findings) {
    let Ok(daemon) = &facts.daemon else { return };
    let volumes = volumes(&daemon.rows);
    let all: Vec<&PlexRow> = volumes.iter().flat_map(|(_, plexes)| plexes.iter().copied()).collect();
    let place_of = |plex: &PlexRow| facts.plexes.get(&plex.path);
    // What all of a file system may need together.
    let mut needs: BTreeMap<u64, u64> = BTreeMap::new();
    for plex in &all {
        if let Some(Ok(place)) = place_of(plex) {
            let sum = needs.entry(place.device).or_default();
            *sum = sum.saturating_add(need(plex, place));
        }
    }
    for plex in all {
        let object = format!("{}/{}", plex.group, plex.plex);
        match place_of(plex) {
            Some(Ok(place)) => {
                let together = needs.get(&place.device).copied().unwrap_or(0);
                medium(&object, plex, place, together, out);
            }
            Some(Err(why)) => {
                let (found, way_out) = unseen(*why);
                let found = format!("{} {found}", plex.path.display());
                match why {
                    Unseen::NotPermitted => out.note(Check::PlexMedium, object, found, way_out),
                    _ => out.warn(Check::PlexMedium, object, found, way_out),
                }
            }
            None => {}
        }
    }
}

fn medium(object: &str, plex: &PlexRow, place: &Place, together: u64, out: &mut Findings) {
    let path = plex.path.display();
    let elsewhere =
        format!("put another in its place: cleave -g {} plex replace {} PATH", plex.group, plex.plex);
    match (place.form, &place.on_ublk) {
        (Form::Directory | Form::Other, _) => {
            let found = format!("{path} is neither a file nor a disk");
            return out.fail(Check::PlexMedium, object, found, elsewhere);
        }
        (_, Some(passed)) => {
            let passed = passed.join(", ");
            let found =
                format!("{path} lies on a ublk device ({passed}), and ends with the program that serves it");
            out.warn(Check::PlexMedium, object, found, &elsewhere);
        }
        (Form::File { .. }, None) if place.read_only => {
            let found = format!("{path} lies on a file system that can only be read");
            out.warn(
                Check::PlexMedium,
                object,
                found,
                "see why in the kernel's log, then: mount -o remount,rw",
            );
        }
        (Form::File { .. }, None) => out.ok(Check::PlexMedium, object, format!("{path} is a file")),
        (Form::Disk, None) => out.ok(Check::PlexMedium, object, format!("{path} is a disk")),
    }
    if place.form == Form::Disk {
        return out.ok(Check::PlexDirect, object, "is written past the page cache");
    }
    match passing(place) {
        Some(found) => out.warn(Check::PlexFileSystem, object, found, &elsewhere),
        None => out.ok(Check::PlexFileSystem, object, format!("lies on {}", place.filesystem.name)),
    }
    if place.direct {
        out.ok(Check::PlexDirect, object, "is written past the page cache");
    } else if place.filesystem.nature != Nature::Memory {
        let name = &place.filesystem.name;
        out.note(
            Check::PlexDirect,
            object,
            format!("is written through the page cache, each write made durable, as {name} vouches for nothing else"),
            "ext4, XFS and disks are faster",
        );
    }
    let free = human_bytes(place.free_bytes);
    match need(plex, place) {
        0 => out.ok(Check::PlexRoom, object, "has all its room"),
        need if together > place.free_bytes => {
            let others = match together - need {
                0 => String::new(),
                others => format!(" and others there {}", human_bytes(others)),
            };
            let found = format!("may still need {}{others}, and {free} are free", human_bytes(need));
            out.warn(Check::PlexRoom, object, found, "make room on its file system, or put it on another");
        }
        need => {
            out.ok(
                Check::PlexRoom,
                object,
                format!("may still need {}, and {free} are free", human_bytes(need)),
            );
        }
    }
}
