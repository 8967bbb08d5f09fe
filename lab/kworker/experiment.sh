# kworker/…: executes work items. Here: a pseudo-terminal's bytes, passed on by the item flush_to_ldisc on events_unbound.
T=/sys/kernel/tracing
mount -t tracefs trace $T 2>/dev/null
mkdir -p /dev/pts; mount -t devpts devpts /dev/pts 2>/dev/null; [ -e /dev/ptmx ] || ln -s pts/ptmx /dev/ptmx
echo "The workers, by the processor or pool that they belong to, with the queue that they last worked for:"
for p in /proc/[0-9]*; do
    case $(cat $p/comm 2>/dev/null) in kworker/*)
        echo "$(cat $p/comm): pid ${p#/proc/}, may run on $(awk '/^Cpus_allowed_list/{print $2}' $p/status), nice $(sed 's/.*) //' $p/stat | cut -d' ' -f17), $(awk '/^State/{print $2}' $p/status)"
        echo x >>/tmp/n;;
    esac
done
[ "$(wc -l </tmp/n)" -ge $(($(nproc) * 2)) ] || { echo "too few"; exit 1; }
echo "Lines through a pseudo-terminal, item by item:"
echo workqueue:workqueue_queue_work workqueue:workqueue_execute_start workqueue:workqueue_execute_end >$T/set_event; echo >$T/trace
exec 3<>/dev/ptmx
for i in 1 2 3; do echo "line $i" >&3; head -n 1 <&3 || exit 1; sleep 0.1; done # the echo comes back
sleep 0.2; exec 3>&-; echo >$T/set_event
grep flush_to_ldisc $T/trace | head -n 12
for e in workqueue_queue_work workqueue_execute_start workqueue_execute_end; do grep -q "$e: .*flush_to_ldisc" $T/trace || { echo "no $e"; exit 1; }; done
[ "$(grep 'execute_start' $T/trace | grep -vc ' kworker/')" = 0 ] || { echo "executed by others"; exit 1; }
echo "The pods of unbound queues, by their affinity scope:"
D=/sys/module/workqueue/parameters/default_affinity_scope
pods() { sleep 0.2; awk '$3 ~ /^u/ && /nice=0/{sub("pod=", "", $6); printf " %s", $6}' /sys/kernel/nightshift/daemons/kworker/pools; }
for s in system cpu cache; do
    echo $s >$D; p=$(pods); echo "$s:$p"
    [ $s != cpu ] || [ "$(echo $p | wc -w)" = "$(nproc)" ] || { echo "not a pod for each processor"; exit 1; }
done
echo "What queues and pools have done so far:"
cat /sys/kernel/nightshift/daemons/kworker/queues /sys/kernel/nightshift/daemons/kworker/pools
[ "$(awk '/^events_unbound/{print $2}' /sys/kernel/nightshift/daemons/kworker/queues)" -gt 0 ]
