# kthreadd, PID 2: makes every other kernel thread.
echo "Tasks without an address space, and their parents:"
for s in /proc/[0-9]*/status; do
    grep -q '^VmSize' $s && continue
    grep -q '^State:.[ZX]' $s && continue
    awk '/^(Name|Pid|PPid):/{printf "%s %s  ", $1, $2} END{print ""}' $s
done | tee /tmp/list
n=$(grep -c 'PPid: 2' /tmp/list); echo "$n of them are kthreadd's children; only kthreadd itself is not:"
grep -v 'PPid: 2' /tmp/list
[ "$n" -ge 4 ] && [ "$(grep -vc 'PPid: 2' /tmp/list)" = 1 ]
