# All daemons: their cards have figures, which move when the daemon works and only then add up.
d=/sys/kernel/nightshift/daemons
cat /sys/kernel/nightshift/summary
for c in $d/*; do
    for f in card wakeups last_wake busy_ns work threads; do [ -r $c/$f ] || { echo "${c##*/} has no $f"; exit 1; }; done
done
n() { awk '{print $1}' $d/$1; }
echo "kthreadd: $(cat $d/kthreadd/work); kworker: $(cat $d/kworker/work), $(wc -l <$d/kworker/threads) threads, busy $(n kworker/busy_ns) ns"
[ "$(n kthreadd/work)" -gt 10 ] || exit 1
echo "a helper runs: its card counts one more"
h=$(n khelper/work); i=$(n khelper/wakeups)
cat /proc/self/does-not-exist /dev/no-such-device 2>/dev/null; mount -t no-such-fs none /mnt 2>/dev/null
echo "programs $h -> $(n khelper/work), items $i -> $(n khelper/wakeups)"
[ "$(n khelper/work)" -gt "$h" ] || exit 1
echo "a processor rests: its swapper wakes, and idles"
a=$(n swapper/wakeups); b=$(n swapper/work); sleep 2; a=$(($(n swapper/wakeups)-a)); b=$(($(n swapper/work)-b))
echo "in 2 seconds: $a wake-ups, $b ms idle on $(nproc) processors"
[ "$a" -gt 0 ] && [ "$b" -gt 1000 ] && [ "$b" -le $((2600*$(nproc))) ] || exit 1
echo "the sum of a daemon's threads is the daemon's"
for c in migration ksoftirqd cpuhp rcu_sched; do
    s=$(awk '{s+=$3} END {print s+0}' $d/$c/threads); w=$(n $c/wakeups); s2=$(awk '{s+=$3} END {print s+0}' $d/$c/threads)
    echo "$c: $s <= $w <= $s2, $(cat $d/$c/work), last $(cat $d/$c/last_wake)"
    [ "$s" -le "$w" ] && [ "$w" -le "$s2" ] || exit 1
done
