#!/bin/sh
# Runs `load` in a guest and judges the machine afterwards: is the memory back, did the kernel complain?
#	run.sh [SECONDS [SEED [KIND]]]		LEAK_KIB=n: how much less memory is tolerated (default 4096)
# Only what BusyBox has. build.sh appends the program and says its size here:
size=0
seconds=${1:-60} seed=${2:-1} leak=${LEAK_KIB:-4096} bad=0
[ $# -ge 2 ] && shift 2 || set --

load=${0%/*}/load
if [ "$size" != 0 ]; then
	load=/tmp/load.$$
	tail -c "$size" "$0" >"$load" && chmod +x "$load" || exit 1
fi
available() {
	sync
	echo 3 2>/dev/null >/proc/sys/vm/drop_caches
	sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo
}

# A short first run fills the caches that stay filled for good: it is not what is measured.
"$load" 5 "$seed" "$@" || exit 1
sleep 1
before=$(available)
"$load" "$seconds" "$seed" "$@" || bad=1
# What is freed later (grace periods, write-back, orphans) has 15 s.
for i in 1 2 3 4 5; do
	sleep 3
	after=$(available)
	[ "$after" -ge $((before - leak)) ] && break
done
echo "MemAvailable: $before KiB before, $after KiB after ($((after - before)))"
[ "$after" -ge $((before - leak)) ] || { echo "memory is missing: more than $leak KiB"; bad=1; }
if dmesg | grep -E 'BUG|WARNING|lockdep'; then
	echo "the kernel complained"
	bad=1
fi
[ "$size" = 0 ] || rm -f "$load"
[ $bad = 0 ] && echo "RUN ok" || echo "RUN FAILED"
exit $bad
