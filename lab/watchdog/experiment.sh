# The lockup detectors (migration/N does their work): a processor that is stuck in the kernel is told, with where it is stuck.
K=/proc/sys/kernel; D=/sys/kernel/debug/provoke-crash/DIRECT; last=$(($(nproc) - 1))
[ $last -ge 1 ] || { echo "needs two processors"; exit 1; }
[ -e $D ] || mount -t debugfs debug /sys/kernel/debug || exit 1
wait_for() { n=0; until dmesg | grep -q "$1"; do n=$((n + 1)); [ $n -le 200 ] || return 1; sleep 0.1; done; }
echo 1 >$K/watchdog_thresh
echo "on: soft $(cat $K/soft_watchdog), hard $(cat $K/nmi_watchdog); processors $(cat $K/watchdog_cpumask), threshold $(cat $K/watchdog_thresh) s"
taskset $((1 << last)) chrt -f 98 sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done' 2>/dev/null
[ "$(dmesg | grep -cE 'soft lockup|hard LOCKUP')" = 0 ] || exit 1
echo "a busy program is no lockup. Now processor $last takes no interrupts any more:"
taskset $((1 << last)) sh -c "echo HARDLOCKUP >$D" &
wait_for 'hard LOCKUP' || exit 1
dmesg | grep -A4 'hard LOCKUP'
wait_for 'lkdtm::hard_lockup' || exit 1
echo "its neighbour saw it and asked it by NMI where it is: $(dmesg | grep -m1 -o 'drivers::lkdtm::hard_lockup.*')"
sleep 2; echo "it is told once"
[ "$(dmesg | grep -c 'hard LOCKUP')" = 1 ] || exit 1
[ $last -ge 2 ] || exit 0
echo "processor 1 still takes interrupts, but does nothing else any more; it says so itself:"
taskset 2 sh -c "echo SOFTLOCKUP >$D" &
wait_for 'soft lockup - CPU#1'
