#!/usr/bin/env bash
# A machine for a test: systemd as the first process of namespaces of its own.  See machine.py.
#
#   machine.sh DIRECTORY PYTHON PACKAGES SOURCE
#
# DIRECTORY is empty and becomes the machine's root, which lives in memory.  /usr is the one of this machine, read-only;
# PYTHON, PACKAGES and SOURCE are lent as /opt/python, /opt/packages and /src.  Only units named below exist beside
# those that the test installs, so it matters little what this machine has installed.  Needs root.
set -euo pipefail

# The units that a machine has without tpops.
units=(
    basic final local-fs local-fs-pre multi-user network network-online network-pre nss-lookup paths remote-fs
    remote-fs-pre shutdown slices sockets swap sysinit time-set time-sync timers umount
)
services=(systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket)

# Beside the machine: a control group that is its root one, and then everything else.
outside() {
    local groups=/run/$$.groups machine status=0
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir "$groups"
    mount -t cgroup2 cgroup2 "$groups"
    machine=$groups/tpops-machine-$$
    mkdir "$machine"
    (
        echo 0 >"$machine/cgroup.procs"
        exec setpriv --pdeathsig KILL unshare --mount --cgroup --net --uts --ipc --pid --fork --kill-child \
            bash "$0" inside "$@"
    ) || status=$?
    find "$machine" -depth -type d -exec rmdir {} +
    exit "$status"
}

inside() {
    local root=$1 python=$2 packages=$3 source=$4 name
    mount -t tmpfs -o mode=755 tmpfs "$root"
    cd "$root"
    mkdir -p usr etc proc sys dev run tmp var/{lib,log,mail,tmp} root home srv opt/{python,packages} src old
    chmod 1777 tmp var/tmp
    chmod 700 root
    ln -s ../run var/run
    ln -s usr/{bin,sbin,lib} .
    [ ! -e /usr/lib64 ] || ln -s usr/lib64 .
    lend /usr usr
    lend "$python" opt/python
    lend "$packages" opt/packages
    lend "$source" src
    mount -t proc proc proc
    lend proc/sys proc/sys
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs run
    devices
    files
    pivot_root . old
    umount -l /old
    rmdir /old
    ldconfig
    exec env -i container=tpops PATH=/usr/sbin:/usr/bin SYSTEMD_UNIT_PATH=/etc/systemd/system:/etc/machine \
        SYSTEMD_GENERATOR_PATH=/etc/none /usr/lib/systemd/systemd --system --log-target=journal --show-status=0
}

# lend FROM TO: read-only.
lend() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}

devices() {
    local name
    mount -t tmpfs -o mode=755 tmpfs dev
    for name in null zero full random urandom tty; do
        touch "dev/$name"
        mount --bind "/dev/$name" "dev/$name"
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
    mount -t tmpfs tmpfs dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
}

files() {
    local name
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n' >etc/passwd
    printf 'root:x:0:\nadm:x:4:\nmail:x:8:\nutmp:x:43:\nnogroup:x:65534:\n' >etc/group
    printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files\n' >etc/nsswitch.conf
    printf '127.0.0.1 localhost machine.example.org\n' >etc/hosts
    printf '%032d\n' 1 >etc/machine-id
    printf '/opt/python/lib\ninclude /etc/ld.so.conf.d/*.conf\n' >etc/ld.so.conf
    # Programs of Debian's alternatives, and the certificates that are trusted.
    for name in alternatives ssl ld.so.conf.d; do
        [ ! -e "/etc/$name" ] || cp -a "/etc/$name" etc/
    done
    mkdir -p etc/systemd/system etc/machine/{sysinit,sockets}.target.wants etc/{sysusers,tmpfiles,logrotate}.d
    for name in "${units[@]}"; do
        [ ! -e "/usr/lib/systemd/system/$name.target" ] || cp "/usr/lib/systemd/system/$name.target" etc/machine/
    done
    for name in "${services[@]}"; do
        cp "/usr/lib/systemd/system/$name" etc/machine/
    done
    ln -s ../systemd-journald.service etc/machine/sysinit.target.wants/
    ln -s ../systemd-journald.socket ../systemd-journald-dev-log.socket etc/machine/sockets.target.wants/
    ln -s multi-user.target etc/machine/default.target
}

case $1 in
inside)
    shift
    inside "$@"
    ;;
*)
    outside "$@"
    ;;
esac
