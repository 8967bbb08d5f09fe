# idle_inject/N: makes processors rest. Its user is the cooling device intel_powerclamp: cur_state is per cent of idle time.
for d in /sys/class/thermal/cooling_device*; do [ "$(cat $d/type)" = intel_powerclamp ] && C=$d; done
[ -n "$C" ] || exit 1
injected() { awk '{s+=$2}END{print s+0}' /sys/kernel/nightshift/daemons/idle_inject/injected; }
idle() { awk '$1=="cpu0"{print $5}' /proc/stat; }
a=$(taskset 1 sh -c 'i=0; e=$(($(cut -d. -f1 /proc/uptime) + 3)); while [ $(cut -d. -f1 /proc/uptime) -lt $e ]; do i=$((i + 1)); done; echo $i')
echo 45 >$C/cur_state || exit 1
n=$(injected); x=$(idle)
b=$(taskset 1 sh -c 'i=0; e=$(($(cut -d. -f1 /proc/uptime) + 3)); while [ $(cut -d. -f1 /proc/uptime) -lt $e ]; do i=$((i + 1)); done; echo $i')
c=$(cat $C/cur_state); n=$(($(injected) - n)); x=$(($(idle) - x))
echo 0 >$C/cur_state
echo "a loop of three seconds: $a rounds, with 45 % of idle time asked for $b"
echo "$n injections, processor 0 idled $x hundredths of a second, cur_state read $c"
[ "$n" -gt 100 ] && [ "$x" -gt 60 ] && [ "$c" -ge 37 ] && [ "$c" -le 53 ]
