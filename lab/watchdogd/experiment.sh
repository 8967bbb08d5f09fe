# watchdogd: feeds watchdog hardware on behalf of user space. Here the watchdog is softdog: /dev/watchdog without other hardware.
cat /sys/kernel/nightshift/daemons/watchdogd/card
p=; for d in /proc/[0-9]*; do [ "$(cat $d/comm 2>/dev/null)" = watchdogd ] && p=${d#/proc/}; done
[ -n "$p" ] || { echo "there is no such thread"; exit 1; }
# Field 41 of stat is the policy (1: SCHED_FIFO), 40 the real-time priority.
set -- $(sed 's/.*) //' /proc/$p/stat)
shift 37; echo "priority $1, policy $2"
[ "$1 $2" = "50 1" ] || exit 1
w=/sys/class/watchdog/watchdog0
echo "$(cat $w/identity): time-out $(cat $w/timeout) s, $(cat $w/state)"
[ "$(cat $w/state)" = inactive ] || exit 1
echo "opening it starts the watch; every write postpones the reset"
exec 3>/dev/watchdog
echo fed >&3
[ "$(cat $w/state)" = active ] || exit 1
echo "only one may have it open:"
(exec 4>/dev/watchdog) 2>/dev/null && exit 1
echo "a V before the close ends the watch"
printf V >&3
exec 3>&-
echo "it is $(cat $w/state) again; the thread has fed $(cat /sys/kernel/nightshift/daemons/watchdogd/feeds) times: user space kept its promise itself"
[ "$(cat $w/state)" = inactive ]
