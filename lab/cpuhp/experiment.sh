# cpuhp/N: takes a processor down and brings it up. Watch a busy task go on elsewhere, and the processor's threads park.
C=/sys/devices/system/cpu; last=$(($(nproc) - 1))
[ $last -ge 1 ] || { echo "needs two processors"; exit 1; }
f() { sed 's/.*) //' /proc/$1/stat | cut -d' ' -f$(($2 - 2)); }
pid_of() { for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = "$1" ] && echo ${p#/proc/}; done; }
taskset $((1 << last)) sh -c 'while :; do :; done' & p=$!
sleep 0.5; echo "a busy task runs on processor $(f $p 39) of $(cat $C/online)"
echo 0 >$C/cpu$last/online || exit 1
sleep 0.5; u=$(f $p 14); sleep 1; u=$(($(f $p 14) - u))
echo "after cpu$last/online = 0: online $(cat $C/online), the task is on $(f $p 39) and had $u hundredths of a second in one"
k=$(f $(pid_of ksoftirqd/$last) 3); echo "ksoftirqd/$last is in state $k; $(dmesg | tail -n 1)"
echo 1 >$C/cpu$last/online || exit 1
kill $p
echo "after cpu$last/online = 1: online $(cat $C/online); $(dmesg | grep Booting | tail -n 1)"
taskset $((1 << last)) true && [ "$u" -gt 20 ] && [ "$k" = P ] && [ "$(nproc)" = $((last + 1)) ]
