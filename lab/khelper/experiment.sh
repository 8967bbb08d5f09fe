# khelper: runs a program of user space on the kernel's own account, here for a core dump and for a file system nobody knows.
cat /sys/kernel/nightshift/daemons/khelper/card
calls() { cat /sys/kernel/nightshift/daemons/khelper/calls; }
before=$(calls)
cat >/tmp/helper.sh <<'X'
#!/bin/sh
p=$(awk '/^PPid/{print $2}' /proc/$$/status)
{ echo "I am $*, user $(id -u), child of $p ($(cat /proc/$p/comm))"; [ "$1" = core ] && echo "and got $(wc -c) bytes of memory"; } >>/tmp/told
X
chmod 755 /tmp/helper.sh
echo '|/tmp/helper.sh core of %e, signal %s' >/proc/sys/kernel/core_pattern
sh -c 'kill -SEGV $$'
echo /tmp/helper.sh >/proc/sys/kernel/modprobe
mount -t nosuchfs none /mnt 2>/dev/null
for i in 1 2 3 4 5 6 7 8 9 10; do [ "$(grep -c -e memory -e nosuchfs /tmp/told)" = 2 ] && break; sleep 0.2; done
echo "What the programs said:"; cat /tmp/told
echo "calls: $before before, $(calls) now. The thread for times without memory:"
grep -l khelper /proc/[0-9]*/comm | while read f; do cat $f; done
[ "$(grep -c 'user 0, child of' /tmp/told)" = 2 ] && [ "$(calls)" -ge $((before + 2)) ] && grep -q 'signal 11' /tmp/told && grep -q 'fs-nosuchfs' /tmp/told
