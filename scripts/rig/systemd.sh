# shellcheck shell=bash
# What is laid over the guest's system to boot it under systemd: the host's own, with as little of it started as a service
# needs, so that the boot stays short. There is no bus and no udev; systemctl talks to the manager itself.

systemd_packages=(systemd)
systemd_tools=(journalctl systemctl systemd-analyze systemd-sysusers systemd-tmpfiles)

# build_systemd: prints the path of that layer as an archive, made once per version of it.
build_systemd() {
    local key layer work
    key=$( (dpkg-query -W "${systemd_packages[@]}"; cat "$root"/scripts/rig/{systemd.sh,image.sh}) | sha256sum | cut -c 1-16)
    layer=$cache/image-systemd-$key
    if [[ ! -e $layer ]]; then
        work=$(mktemp -d "$cache/layer.XXXXXX")
        fill_systemd "$work/root"
        pack "$work/root" >"$work/layer"
        mv "$work/layer" "$layer"
        rm -rf "$work"
    fi
    touch -c "$layer"
    echo "$layer"
}

# fill_systemd DIR: the manager, the journal, their tools, all units; and of these only what is needed made to start.
fill_systemd() {
    local dir=$1 lib=/usr/lib/systemd name
    [[ -e $lib/systemd ]] || lib=/lib/systemd
    mkdir -p "$dir"/{etc/systemd/system,usr/bin,usr/lib/systemd}
    for name in systemd systemd-executor systemd-journald systemd-shutdown; do
        [[ ! -e $lib/$name ]] || cp -L "$lib/$name" "$dir/usr/lib/systemd/"
    done
    for name in "${systemd_tools[@]}"; do cp -L "$(command -v "$name")" "$dir/usr/bin/"; done
    copy_libraries "$dir" "$dir"/usr/{bin,lib/systemd}/*
    cp -a "$lib/system" "$dir/usr/lib/systemd/"
    # What one unit makes start by being installed is of no use to a guest.
    rm -rf "$dir"/usr/lib/systemd/system/*.wants
    echo 0123456789abcdef0123456789abcdef >"$dir/etc/machine-id"
    printf 'ID=guest\nNAME=guest\n' >"$dir/etc/os-release"
    cat >"$dir/usr/lib/systemd/system/guest.target" <<'END'
[Unit]
Description=The guest's command
Requires=sysinit.target guest.service
Wants=systemd-journald.service
AllowIsolate=yes
END
    cat >"$dir/usr/lib/systemd/system/guest.service" <<'END'
[Unit]
Description=The guest's command
DefaultDependencies=no
After=sysinit.target systemd-journald.service

[Service]
ExecStart=/init
StandardInput=null
StandardOutput=null
StandardError=null
END
}
