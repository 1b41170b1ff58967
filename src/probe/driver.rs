//! The kernel's ublk driver: where it is, and what it can do.

use crate::base::Errno;
use crate::export::ublk::{ExportError, ExportFault, Features};

/// Where the driver is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Module {
    /// In the kernel itself.
    BuiltIn,
    /// Loaded.
    Loaded,
    /// Among the running kernel's modules, not loaded.
    Loadable,
    /// Not among the running kernel's modules.
    Absent,
    /// Not loaded, and the running kernel's modules are not here to be looked at.
    NoModules,
}

impl Module {
    /// From what sysfs says (`loaded`), whether the running kernel's modules are here (`modules`), and the texts of its
    /// `modules.builtin` and `modules.dep`.
    #[must_use]
    pub(super) fn judge(loaded: bool, modules: bool, built_in: &str, dependencies: &str) -> Self {
        // A path a line, in the second with a suffix for its compression, a colon and what it needs.
        let names = |line: &str| {
            let file = line.split(':').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            file.split('.').next().is_some_and(|name| name.replace('-', "_") == "ublk_drv")
        };
        match (loaded, built_in.lines().any(names)) {
            (_, true) => Self::BuiltIn,
            (true, false) => Self::Loaded,
            (false, false) if dependencies.lines().any(names) => Self::Loadable,
            (false, false) if modules => Self::Absent,
            (false, false) => Self::NoModules,
        }
    }
}

/// What the driver can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a set of abilities, each there or not")]
pub struct Abilities {
    /// It lends the requests' own pages.
    pub zero_copy: bool,
    /// Devices outlive their server, and what it had in hand is issued again.
    pub recovery: bool,
    /// A device can be stopped on the condition that nobody has it open.
    pub safe_stop: bool,
    /// A device can change its size.
    pub resize: bool,
    /// A device can be brought to rest while its server lives.
    pub quiesce: bool,
}

impl From<Features> for Abilities {
    fn from(features: Features) -> Self {
        Self {
            zero_copy: features.zero_copy(),
            recovery: features.recovery(),
            safe_stop: features.safe_stop(),
            resize: features.resize(),
            quiesce: features.quiesce(),
        }
    }
}

/// What the driver says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Driver {
    /// It can do this.
    Can(Abilities),
    /// It can be used, and does not tell what it can do.
    Silent,
    /// This user may not ask it.
    NotPermitted,
    /// It is not there.
    Missing,
    /// It is there, its node is not.
    NoNode,
    /// It cannot be asked.
    Fails {
        /// Why.
        reason: String,
        /// What helps.
        way_out: String,
    },
}

impl Driver {
    /// From the answer to the question for its features.
    #[must_use]
    pub(super) fn of(answer: &Result<Features, ExportError>) -> Self {
        let error = match answer {
            Ok(features) => return Self::Can((*features).into()),
            Err(error) => error,
        };
        match error.fault {
            ExportFault::NoDriver => Self::Missing,
            ExportFault::NoControlNode => Self::NoNode,
            ExportFault::NotPermitted => Self::NotPermitted,
            // Its node was opened; the question came with Linux 6.5.
            ExportFault::System { .. } if error.errno == Some(Errno::UNSUPPORTED) => Self::Silent,
            _ => {
                let refusal = error.refusal();
                Self::Fails { reason: refusal.reason, way_out: refusal.way_out }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT_IN: &str = "kernel/block/kyber-iosched.ko\nkernel/drivers/block/loop.ko\n";
    const DEPENDENCIES: &str = "kernel/drivers/block/rbd.ko.xz: kernel/net/ceph/libceph.ko.xz\n\
                                kernel/drivers/block/ublk_drv.ko.xz:\nkernel/drivers/block/nbd.ko.xz:\n";

    #[test]
    fn the_module_is_found_among_the_kernels_own() {
        assert_eq!(Module::judge(true, true, BUILT_IN, DEPENDENCIES), Module::Loaded);
        assert_eq!(Module::judge(false, true, BUILT_IN, DEPENDENCIES), Module::Loadable);
        assert_eq!(Module::judge(false, true, BUILT_IN, "kernel/not_ublk_drv.ko:\n"), Module::Absent);
        assert_eq!(
            Module::judge(false, true, "", "kernel/a.ko: kernel/drivers/block/ublk_drv.ko\n"),
            Module::Absent
        );
        assert_eq!(Module::judge(false, false, "", ""), Module::NoModules);
        assert_eq!(Module::judge(true, false, "", ""), Module::Loaded, "in a container");
        for loaded in [true, false] {
            let text = format!("{BUILT_IN}kernel/drivers/block/ublk_drv.ko\n");
            assert_eq!(Module::judge(loaded, true, &text, ""), Module::BuiltIn);
        }
    }

    #[test]
    fn the_drivers_answer_is_told() {
        let error = |fault, errno| ExportError { object: "ublk driver".to_owned(), fault, errno };
        let of = |fault, errno| Driver::of(&Err(error(fault, errno)));
        assert_eq!(of(ExportFault::NoDriver, None), Driver::Missing);
        assert_eq!(of(ExportFault::NoControlNode, None), Driver::NoNode);
        assert_eq!(of(ExportFault::NotPermitted, Some(Errno::from_raw(libc::EACCES))), Driver::NotPermitted);
        let step = ExportFault::System { step: "ask for its features" };
        assert_eq!(of(step.clone(), Some(Errno::UNSUPPORTED)), Driver::Silent);
        let Driver::Fails { reason, way_out } = of(step, Some(Errno::IO)) else { panic!("it fails") };
        assert!(reason.contains("Input/output error") && !way_out.is_empty(), "{reason}; {way_out}");
        let none =
            Abilities { zero_copy: false, recovery: false, safe_stop: false, resize: false, quiesce: false };
        assert_eq!(Driver::of(&Ok(Features(0))), Driver::Can(none));
    }
}
