//! Small texts of the kernel and of `/etc`, read without I/O.

use super::host::RingsFor;

/// A limit of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// None.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

/// The soft limit of locked memory in a text of `/proc/PID/limits`.
pub(super) fn locked_limit(text: &str) -> Option<Limit> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(Limit::Unlimited),
        number => number.parse().ok().map(Limit::Bytes),
    }
}

/// The bytes of locked memory in a text of `/proc/PID/status`.
pub(super) fn locked_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmLck:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Who may make io_urings, from the texts of the two settings: kernels before 6.6 have neither.
pub(super) fn rings_for(disabled: &str, group: &str) -> RingsFor {
    match disabled.trim() {
        "2" => RingsFor::Nobody,
        // -1 stands for no group.
        "1" => RingsFor::Privileged { group: group.trim().parse().ok() },
        _ => RingsFor::Everybody,
    }
}

/// The words of `ID` and `ID_LIKE` in the text of an os-release(5) file.
pub(super) fn distribution(text: &str) -> Vec<String> {
    let values = ["ID=", "ID_LIKE="].into_iter().filter_map(|key| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(key))?;
        Some(value.trim_matches(['"', '\'']))
    });
    values.flat_map(str::split_whitespace).map(str::to_ascii_lowercase).collect()
}

/// The number of the group called `name` in the text of a group(5) file.
pub(super) fn group_number(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_locked_memory_are_read() {
        let text = |value| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max processes             95949                95949                processes \n\
                 Max locked memory         {value}              unlimited            bytes     \n"
            )
        };
        assert_eq!(locked_limit(&text("8388608")), Some(Limit::Bytes(8 << 20)));
        assert_eq!(locked_limit(&text("unlimited")), Some(Limit::Unlimited));
        assert_eq!(locked_limit(&text("many")), None);
        assert_eq!(locked_limit(""), None);
        assert_eq!(locked_bytes("VmSize:\t  100 kB\nVmLck:\t    2048 kB\nVmPin:\t 0 kB\n"), Some(2 << 20));
        assert_eq!(locked_bytes("VmLck:\t0 kB\n"), Some(0));
        assert_eq!(locked_bytes("Name:\tkthreadd\n"), None, "a thread of the kernel");
    }

    #[test]
    fn who_may_make_rings_is_read() {
        assert_eq!(rings_for("0\n", "-1\n"), RingsFor::Everybody);
        assert_eq!(rings_for("1\n", "-1\n"), RingsFor::Privileged { group: None });
        assert_eq!(rings_for("1\n", "970\n"), RingsFor::Privileged { group: Some(970) });
        assert_eq!(rings_for("2\n", "970\n"), RingsFor::Nobody);
        assert_eq!(rings_for("", ""), RingsFor::Everybody);
    }

    #[test]
    fn distributions_are_read() {
        let mint = "NAME=\"Linux Mint\"\nVERSION_ID=\"21\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n";
        assert_eq!(distribution(mint), ["linuxmint", "ubuntu", "debian"]);
        assert_eq!(distribution("PRETTY_NAME='x'\nID='Debian'\n"), ["debian"]);
        assert!(distribution("").is_empty());
    }

    #[test]
    fn groups_are_read() {
        let text = "root:x:0:\ncleaver:x:5:\ncleave:x:970:ann,bob\nodd:x\nbad:x:many:\n";
        assert_eq!(group_number(text, "cleave"), Some(970));
        for name in ["cleav", "odd", "bad", "none"] {
            assert_eq!(group_number(text, name), None, "{name}");
        }
    }
}
