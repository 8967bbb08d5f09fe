#!/bin/sh
# Makes and stops a kernel thread again and again: hwrng, which is there while the device's quality is not 0.
#	churn.sh [ROUNDS]
# Ends with 0 if the thread came and went each time, and the memory is back.
R=/sys/class/misc/hw_random/rng_quality rounds=${1:-100000}
[ -e $R ] || { echo "needs virtio-rng"; exit 1; }
available() { echo 3 >/proc/sys/vm/drop_caches; sleep 1; sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo; }
threads() { set -- /proc/[0-9]*; echo $#; }
turn() {
    i=0
    while [ $i -lt $1 ]; do
        echo 0 >$R && echo 1000 >$R || { echo "failed after $i rounds"; exit 1; }
        i=$((i + 1))
        [ $((i % 10000)) = 0 ] && echo "$i rounds"
    done
}
made() { cut -d' ' -f1 /sys/kernel/nightshift/daemons/kthreadd/work; }
turn 500; a=$(available) t=$(threads) m=$(made)
turn $rounds
b=$(available) u=$(threads) n=$(($(made) - m))
echo "$rounds rounds: $n threads made; MemAvailable $a KiB before, $b after; processes $t before, $u after"
dmesg | grep -E 'BUG|WARNING|lockdep' && exit 1
[ $n -ge $rounds ] && [ $((a - b)) -lt 1024 ] && [ "$t" = "$u" ]
