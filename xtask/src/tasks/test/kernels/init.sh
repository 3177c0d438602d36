#!/bin/busybox sh
# The first and only program of a guest: mounts the file system of the machine outside, read-only, and runs test
# programs from there. The kernel's words go to the first serial line, the tests' to the second.
#
# It stays in the initramfs, and so does what the kernel calls to load a module; only the tests are confined to
# the other machine's files.

/bin/busybox mkdir -p /dev /proc /sys /sbin /host
/bin/busybox --install -s /bin
ln -s /bin/busybox /sbin/modprobe
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

say() {
    echo "underpass-guest: $*" > /dev/ttyS1
}

give_up() {
    say "broken $*"
    poweroff -f
}

# It complains of those that are built in.
modprobe -a virtio_pci 9pnet_virtio 9p 2> /dev/null
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288 host /host ||
    give_up "cannot mount the files of the machine outside"

# Sets $modules, $program and $patience, and defines the function `tests`, which calls `run`.
. /plan

mount --bind "/host$modules" /lib/modules || give_up "cannot find $modules"
mount -t proc proc /host/proc
mount -t sysfs sys /host/sys
mount -t devtmpfs dev /host/dev
mount -t tmpfs run /host/run
mkdir /host/run/tmp
mount -t bpf bpf /host/sys/fs/bpf || give_up "no BPF file system"
ip link set lo up
# Nobody asks the kernel for it, and every node of a cluster has it.
modprobe br_netfilter || say "no br_netfilter"

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/run/tmp TMPDIR=/run/tmp LC_ALL=C.UTF-8
export UNDERPASS_SKIP_LOG=/run/tmp/skips UNDERPASS_PATIENCE="$patience"

# run TITLE DIRECTORY PROGRAM ARGUMENT...
run() {
    title=$1
    shift
    say "begin $title"
    CARGO_MANIFEST_DIR=$1 chroot /host /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$@" > /dev/ttyS1 2>&1
    say "end $? $title"
}

if chroot /host "$program" check > /dev/ttyS1 2>&1; then
    tests
    cat /host/run/tmp/skips > /dev/ttyS1 2> /dev/null
else
    say "unfit"
fi
say "done"
poweroff -f
