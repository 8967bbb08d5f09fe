#!/bin/busybox sh
# First user process of an interactive machine: the usual mounts, then a login shell with job control on the console.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=${TERM:-vt100}
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts 2>/dev/null
exec </dev/console >/dev/console 2>&1
cd /root
echo "$(uname -s -r -m): $(nproc) processors, $(awk '/^MemAvailable/{print int($2/1024)}' /proc/meminfo) MiB available. 'exit' powers off."
setsid cttyhack sh -l
poweroff -f
