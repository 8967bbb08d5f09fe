# The freezer: all processes stand still and go on, and notice nothing but a hole in time.
echo 1 >/sys/module/suspend/parameters/pm_test_delay
echo freezer >/sys/power/pm_test
(while :; do cut -d' ' -f1 /proc/uptime; sleep 0.1; done) >/tmp/times & p=$!
sleep 0.5
echo mem >/sys/power/state || exit 1
sleep 0.5
kill $p
dmesg | grep -E 'PM:|Freezing|Restarting'
hole=$(awk 'NR>1 && $1-p>m{m=$1-p}{p=$1}END{print int(m*1000)}' /tmp/times)
echo "A process that notes the time each 100 ms has a hole of $hole ms."
[ "$hole" -ge 900 ] && [ "$(cat /sys/power/suspend_stats/success)" = 1 ]
