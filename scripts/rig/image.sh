# shellcheck shell=bash
# The guest's system: the host's own tools with the libraries they need, and all modules of the kernel, as one initramfs.

# build_image KERNEL: prints the path of the base initramfs for that kernel, made once per kernel and set of tools.
build_image() {
    local kernel version key image
    kernel=$(kernel_dir "$1")
    version=$(<"$kernel/version")
    key=$( (dpkg-query -W "${guest_packages[@]}"; cat "$root"/scripts/rig/{image.sh,init}) | sha256sum | cut -c 1-16)
    image=$cache/image-$version-$key
    if [[ ! -e $image ]]; then
        (
            flock 9
            [[ ! -e $image ]] || exit 0
            work=$(mktemp -d "$cache/image.XXXXXX")
            trap 'rm -rf "$work"' EXIT
            fill_root "$work/root"
            mkdir -p "$work/root/usr/lib/modules"
            cp -a "$kernel/usr/lib/modules/$version" "$work/root/usr/lib/modules/"
            expand_modules "$work/root" "$version"
            # Not compressed: an emulated processor takes longer to unpack it than this host takes to read it.
            pack "$work/root" >"$work/image"
            mv "$work/image" "$image"
            # Another checkout may be using one with other contents, so only what is long unused goes.
            find "$cache" -maxdepth 1 -name 'image-*' -mtime +7 -delete
        ) 9>"$kernel.lock"
    fi
    touch -c "$image"
    echo "$image"
}

# pack DIR: DIR as an uncompressed archive, owned by root.
pack() { (cd "$1" && find . -print0 | cpio --null -o -H newc -R 0:0 --quiet); }

# fill_root DIR: everything but the kernel's modules.
fill_root() {
    local dir=$1 tool name
    local -a tools
    mkdir -p "$dir"/{cleave,dev,etc,mnt,proc,root,run,sys,tmp,usr/bin,usr/sbin,usr/lib,usr/lib64,usr/share,var/lib/cleave,var/log,var/tmp}
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$dir/$name"; done
    ln -s ../run "$dir/var/run"
    install -m 755 "$root/scripts/rig/init" "$dir/init"

    mapfile -t tools < <(dpkg -L "${guest_packages[@]}" | grep -E '^(/usr)?/s?bin/[^/]+$' | sort -u)
    tools+=("$(command -v awk)")
    for tool in "${tools[@]}"; do
        if is_runnable "$tool"; then cp -L "$tool" "$dir/usr/${tool#"${tool%/*bin/*}"/}"; fi
    done
    copy_libraries "$dir" "$dir"/usr/{bin,sbin}/*
    # busybox stands in only for tools that are not there for real.
    for name in $("$dir/usr/bin/busybox" --list); do
        [[ -e $dir/usr/bin/$name || -e $dir/usr/sbin/$name ]] || ln -s busybox "$dir/usr/bin/$name"
    done

    mkdir -p "$dir/usr/lib/locale"
    cp -a /usr/lib/locale/C.utf8 "$dir/usr/lib/locale/"
    mkdir -p "$dir/usr/lib/terminfo"
    cp -rL /lib/terminfo/{d,l,s,v,x} "$dir/usr/lib/terminfo/"
    cp /etc/mke2fs.conf "$dir/etc/"
    printf '%s\n' 'root:x:0:0:root:/root:/bin/bash' 'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin' >"$dir/etc/passwd"
    printf '%s\n' 'root:x:0:' 'disk:x:6:' 'nogroup:x:65534:' >"$dir/etc/group"
    printf '%s: files\n' passwd group shadow hosts services >"$dir/etc/nsswitch.conf"
    printf '127.0.0.1 localhost guest\n::1 localhost\n' >"$dir/etc/hosts"
    ln -s /proc/self/mounts "$dir/etc/mtab"
    cat >"$dir/etc/fstab" <<'END'
proc     /proc             proc     defaults                0 0
sysfs    /sys              sysfs    defaults                0 0
devpts   /dev/pts          devpts   mode=620,ptmxmode=666   0 0
tmpfs    /dev/shm          tmpfs    mode=1777               0 0
tmpfs    /tmp              tmpfs    mode=1777,size=80%      0 0
tmpfs    /run              tmpfs    mode=755                0 0
tmpfs    /var/lib/cleave   tmpfs    mode=755,size=80%       0 0
debugfs  /sys/kernel/debug debugfs  defaults                0 0
cgroup2  /sys/fs/cgroup    cgroup2  defaults                0 0
END
}

# expand_modules DIR VERSION: unpacks the modules that tests load; an emulated processor takes seconds for a large one.
expand_modules() {
    local modules=$1/usr/lib/modules/$2
    find "$modules"/kernel/{arch,block,crypto,drivers/block,drivers/md,drivers/scsi,fs,lib} -name '*.ko.xz' -print0 |
        xargs -0 xz -d
    depmod -b "$1" "$2"
}

# Whether FILE is a program or shell script: there is no other interpreter in the guest.
is_runnable() {
    local start
    [[ -f $1 && -x $1 ]] || return 1
    start=$(head -c 64 "$1" | tr -d '\0' | head -n 1)
    [[ $start == $'\x7f'ELF* || $start == '#!'*sh* ]]
}

# copy_libraries DIR FILE...: the shared libraries that the given programs load, at the paths where they are looked for.
copy_libraries() {
    local dir=$1 library
    shift
    # ldd complains about what is no dynamic program, and gives its complaint as its status.
    ldd "$@" 2>/dev/null | awk '$2 == "=>" && $3 ~ "^/" {print $3} $1 ~ "^/" && $2 ~ "^\\(" {print $1}' | sort -u |
        while read -r library; do
            # /lib and /lib64 are links in the guest, which a directory of that name would replace.
            [[ $library == /usr/* ]] || library=/usr$library
            [[ ! -e $dir$library ]] || continue
            mkdir -p "$dir${library%/*}"
            cp -L "$library" "$dir$library"
        done || true
}
