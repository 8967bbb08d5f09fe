#!/bin/busybox sh
# First user process: the usual mounts, and the console; what follows is what the machine was started for.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=${TERM:-vt100}
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts 2>/dev/null
exec </dev/console >/dev/console 2>&1
cd /root
# `--monitor`: whoever asks on the second serial port is told what the daemons do.
if grep -q nightshift.monitor /proc/cmdline; then
    stty -F /dev/ttyS1 raw -echo
    while read -r _; do cat /sys/kernel/nightshift/summary; echo; done </dev/ttyS1 >/dev/ttyS1 &
fi
