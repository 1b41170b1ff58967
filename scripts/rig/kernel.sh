# shellcheck shell=bash
# The guest's kernel: a stock Debian one, fetched through this machine's own apt configuration with a private apt state,
# so that signatures are checked and nothing outside the cache is touched.

# kernel_dir NAME: where the kernel called `6.12` or `newest` lies: `vmlinuz`, `version` and `usr/lib/modules/VERSION`.
kernel_dir() { echo "$cache/kernel-$1"; }

# fetch_kernel NAME: makes kernel_dir's contents, once.
fetch_kernel() {
    local dir suite
    dir=$(kernel_dir "$1")
    case $1 in
    6.12) suite=trixie ;;
    newest) suite=trixie-backports ;;
    *) die "no kernel is called '$1': use 6.12 or newest" ;;
    esac
    mkdir -p "$cache"
    [[ ! -e $dir/version ]] || return 0
    (
        flock 9
        [[ ! -e $dir/version ]] || exit 0
        work=$(mktemp -d "$cache/fetch.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        download_kernel "$work" "$suite"
        unpack_kernel "$work" "$work/kernel"
        rm -rf "$dir"
        mv "$work/kernel" "$dir"
    ) 9>"$dir.lock"
}

# debian_base: where this machine's own release comes from, by its apt configuration.
debian_base() {
    local base
    base=$(
        # shellcheck source=/dev/null
        . /etc/os-release
        apt-get indextargets --format "\$(CODENAME) \$(REPO_URI)" 'Created-By: Packages' |
            awk -v release="$VERSION_CODENAME" '$1 == release && !found++ {print $2}'
    )
    [[ -n $base ]] || die "apt has no Debian repository configured: what the guest is made of cannot be fetched"
    echo "$base"
}

# debian_key: the file of Debian's archive keys.
debian_key() { dpkg -L debian-archive-keyring | grep -m 1 -E '/debian-archive-keyring\.(gpg|pgp)$'; }

# download_kernel DIR SUITE: leaves the newest cloud kernel's packages of SUITE in DIR.
download_kernel() {
    local dir=$1 suite=$2 base key image
    local -a apt parts
    base=$(debian_base)
    key=$(debian_key)
    mkdir -p "$dir"/apt/{etc/preferences.d,etc/apt.conf.d,state/lists/partial,cache/archives/partial}
    : >"$dir/apt/status"
    echo "deb [signed-by=$key] $base $suite main" >"$dir/apt/etc/sources.list"
    apt=(
        -qq -o Dir::Etc="$dir/apt/etc" -o Dir::Etc::sourcelist="$dir/apt/etc/sources.list" -o Dir::Etc::sourceparts=-
        -o Dir::State="$dir/apt/state" -o Dir::State::status="$dir/apt/status" -o Dir::Cache="$dir/apt/cache"
        -o Acquire::Languages=none -o APT::Sandbox::User=root
    )
    apt-get "${apt[@]}" update >&2 || die "the package lists of $suite could not be fetched"
    image=$(
        apt-cache "${apt[@]}" pkgnames linux-image- | grep -E '^linux-image-[0-9].*-cloud-amd64$' | grep -v -- -unsigned |
            sort -V | tail -n 1
    ) || die "$suite has no cloud kernel"
    # From 7.x on the image, its modules and its shared files are packages of their own.
    mapfile -t parts < <(
        apt-cache "${apt[@]}" depends "$image" | sed -n 's/^ *Depends: \(linux-\(base\|binary\|modules\)-[0-9].*\)/\1/p'
    )
    (cd "$dir" && apt-get "${apt[@]}" download "$image" "${parts[@]}" >&2) || die "$image could not be fetched"
}

# unpack_kernel FROM TO: unpacks the packages in FROM and brings both layouts in use to one.
unpack_kernel() {
    local package modules version
    for package in "$1"/*.deb; do dpkg-deb -x "$package" "$1/root"; done
    modules=$(find "$1/root" -type d -path '*lib/modules/*' -prune)
    version=${modules##*/}
    mkdir -p "$2/usr/lib/modules"
    mv "$modules" "$2/usr/lib/modules/$version"
    if [[ -e $1/root/boot/vmlinuz-$version ]]; then
        mv "$1/root/boot/vmlinuz-$version" "$2/vmlinuz"
        mv "$1/root/boot/config-$version" "$2/config"
    else
        mv "$2/usr/lib/modules/$version"/{vmlinuz,config} "$2"
    fi
    # depmod looks below lib or usr/lib, as it was built.
    ln -s usr/lib "$2/lib"
    depmod -b "$2" "$version"
    echo "$version" >"$2/version"
}
