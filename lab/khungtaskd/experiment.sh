# khungtaskd: finds tasks that sleep uninterruptibly and never run. Watch one hang on request, and be told twice, then no more.
K=/proc/sys/kernel; D=/sys/kernel/debug/provoke-crash/DIRECT; N=/sys/kernel/nightshift/daemons/khungtaskd
[ -e $D ] || mount -t debugfs debug /sys/kernel/debug || exit 1
cat $N/card
count() { dmesg | grep -c 'blocked for more than'; }
echo 2 >$K/hung_task_warnings; echo 1 >$K/hung_task_timeout_secs
sleep 60 & s=$!
sh -c "echo HUNG_TASK >$D" & p=$!
sleep 0.5; echo "state of $p: $(grep State /proc/$p/status)"
n=0; until [ "$(cat $K/hung_task_warnings)" = 0 ]; do n=$((n + 1)); [ $n -le 100 ] || exit 1; sleep 0.1; done
dmesg | grep -A6 'blocked for more than' | head -n 7
dmesg | grep -m1 -o 'drivers::lkdtm::hung_task.*' || exit 1
sleep 3; echo "scans $(cat $N/scans), tasks looked at $(cat $N/tasks), reports $(cat $N/reports); allowance left: $(cat $K/hung_task_warnings)"
[ "$(count)" = 2 ] || exit 1
kill -9 $p; sleep 0.3; [ -d /proc/$p ] || exit 1
echo "SIGKILL does not end it. A task that merely sleeps was never named:"
[ "$(dmesg | grep -c "INFO: task sleep:$s")" = 0 ]
