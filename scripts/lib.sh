# shellcheck shell=bash
# Shared by the scripts of this folder: where things lie, how to complain, and how what is missing gets installed.
# Source it after `set -euo pipefail`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${CLEAVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cleave}
target=${CARGO_TARGET_DIR:-$root/target}
applets=(vxassist vxdg vxedit vxmend vxplex vxprint vxrecover vxstat vxtask vxvol)

# The C headers and libclang are for bindgen, which the ublk bindings run at build time.
build_packages=(clang gcc libc6-dev libclang-dev linux-libc-dev)
# What builds and boots the guest. Its tools are taken from the host, so they are in guest_packages.
rig_packages=(cpio qemu-system-x86 zstd)
guest_packages=(
    bash bsdutils btrfs-progs busybox-static coreutils dash diffutils dmsetup e2fsprogs fdisk findutils fio gawk grep gzip
    hostname jq kmod mdadm mount procps psmisc sed strace tar util-linux xfsprogs xz-utils zstd
)

# The name under which this run complains.
me=${0##*/}

say() { printf '%s: %s\n' "$me" "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# The packages among the arguments that are not installed.
missing_packages() {
    local package
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || echo "$package"
    done
}

# install_packages PACKAGE...: installs what is missing; costs nothing when nothing is.
install_packages() {
    local -a missing
    command -v dpkg-query >/dev/null || die "this is no Debian system: install the counterparts of: $*"
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || die "not root: run 'apt-get install --no-install-recommends ${missing[*]}' first"
    say "installing ${missing[*]}"
    mkdir -p "$cache"
    # One installer at a time: apt's own lock makes the second one fail.
    (
        flock 9
        export DEBIAN_FRONTEND=noninteractive
        local -a get=(apt-get -qq -o Dpkg::Use-Pty=0 -o APT::Get::Assume-Yes=true) extra=()
        "${get[@]}" update >&2
        # A qemu-utils from a newer suite conflicts with this suite's emulator, and apt would remove it. It is moved
        # to the emulator's version instead.
        if [[ " ${missing[*]} " == *" qemu-system-x86 "* && -z $(missing_packages qemu-utils) ]] &&
            ! "${get[@]}" --no-install-recommends --simulate install "${missing[@]}" qemu-utils >/dev/null 2>&1; then
            extra=(--allow-downgrades "qemu-utils=$(apt-cache madison qemu-system-x86 | awk 'NR == 1 {print $3}')")
        fi
        "${get[@]}" --no-install-recommends install "${missing[@]}" "${extra[@]}" >"$cache/apt.log" 2>&1 ||
            { tail -n 20 "$cache/apt.log" >&2; die "apt-get could not install ${missing[*]}"; }
    ) 9>"$cache/apt.lock"
}

# Puts cargo on the PATH, or says in one line how to get it.
need_cargo() {
    local want version
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    want=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
    version=$(cargo --version 2>/dev/null | awk '{print $2}') || true
    [[ -n $version && $(printf '%s\n' "$want" "$version" | sort -V | head -n 1) == "$want" ]] ||
        die "needs cargo $want or newer, found ${version:-none}: install a stable Rust toolchain with rustup"
}
