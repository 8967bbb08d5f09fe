# rcu_sched: drives RCU's grace periods, after which memory that readers might still have seen is freed.
cat /sys/kernel/nightshift/daemons/rcu_sched/card
p=; for d in /proc/[0-9]*; do [ "$(cat $d/comm 2>/dev/null)" = rcu_sched ] && p=${d#/proc/}; done
[ -n "$p" ] || { echo "there is no such thread"; exit 1; }
grep -E '^(Name|State|PPid)' /proc/$p/status
