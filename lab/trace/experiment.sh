# Tracing: what the scheduler, the timers and the processes do, as they do it. No thread of its own: whoever hits a trace point
# records it.
T=/sys/kernel/tracing
mount -t tracefs trace $T 2>/dev/null
echo "$(wc -l <$T/available_events) events, all off: $(cat $T/events/enable)"
echo "A sleep, from the clone to the last trace of it:"
echo sched:sched_process_fork sched:sched_process_exec sched:sched_process_exit timer:hrtimer_expire_entry sched:sched_waking sched:sched_switch >$T/set_event
echo 'function == "hrtimer_wakeup"' >$T/events/timer/hrtimer_expire_entry/filter
echo >$T/trace; sleep 0.05; echo >$T/set_event
grep -E 'sleep|hrtimer' $T/trace | head -n 16
for e in sched_process_exec sched_process_exit hrtimer_expire_entry; do grep -q "$e:" $T/trace || { echo "no $e"; exit 1; }; done
grep -qE '<idle>-0 .*sched_waking: comm=sleep' $T/trace || echo "(it was not woken from idle this time)"
echo "The names of the tasks in the rings: $(wc -l <$T/saved_cmdlines); and an error with its place:"
grep -qE '^[0-9]+ sleep$' $T/saved_cmdlines || exit 1
echo 'commm == "sh"' >$T/events/sched/sched_waking/filter 2>/dev/null; cat $T/error_log; grep -q 'error: Field not found' $T/error_log || exit 1
echo 0 >$T/events/sched/sched_waking/filter
echo "A device's interrupts, handler by handler:"
echo irq:irq_handler_entry irq:irq_handler_exit >$T/set_event; echo >$T/trace; head -c 16 /dev/hwrng >/dev/null; echo >$T/set_event
grep irq_handler $T/trace | head -n 4
grep -qE 'irq_handler_entry: irq=[0-9]+ name=virtio' $T/trace && grep -qE 'irq_handler_exit: irq=[0-9]+ ret=handled' $T/trace || exit 1
echo "A filter keeps what it is told to: system calls 1 (write) of this shell alone."
echo "id == 1 && common_pid == $$" >$T/events/raw_syscalls/sys_enter/filter
echo >$T/trace; echo 1 >$T/events/raw_syscalls/sys_enter/enable; echo hello >/dev/null; /bin/true; echo 0 >$T/events/raw_syscalls/enable
grep -c 'sys_enter: NR 1 ' $T/trace; [ "$(grep 'sys_enter' $T/trace | grep -vc 'NR 1 ')" = 0 ] || { echo "others passed"; exit 1; }
echo 0 >$T/events/raw_syscalls/sys_enter/filter
echo "Too much for a small ring: what is lost is counted."
echo 8 >$T/buffer_size_kb; echo >$T/trace; echo 1 >$T/events/raw_syscalls/enable; i=0; while [ $i -lt 300 ]; do echo $i; i=$((i + 1)); done >/dev/null; echo 0 >$T/events/raw_syscalls/enable
sed -n 3p $T/trace; grep overrun $T/per_cpu/cpu*/stats
[ "$(awk '/^overrun/{n += $2} END{print n + 0}' $T/per_cpu/cpu*/stats)" -gt 0 ] || { echo "nothing was lost?"; exit 1; }
echo 1408 >$T/buffer_size_kb; echo >$T/trace
echo "trace_pipe waits for a mark:"
(head -n 1 $T/trace_pipe >/tmp/mark) & p=$!; sleep 0.1; echo "here it is" >$T/trace_marker; wait $p; cat /tmp/mark
grep -q 'tracing_mark_write: here it is' /tmp/mark
