# init, PID 1: adopts orphans and collects them; no signal that it has not asked for reaches it.
echo "A shell starts a sleeper in the background and ends. Who is the sleeper's parent now?"
sh -c 'sleep 2 & echo $! >/tmp/pid'
p=$(cat /tmp/pid); sleep 0.2
grep -E '^(Name|PPid)' /proc/$p/status
[ "$(awk '/^PPid/{print $2}' /proc/$p/status)" = 1 ] || { echo "not PID 1"; exit 1; }
echo "When it ends, PID 1 collects it: no zombie stays."
sleep 2.5; [ -d /proc/$p ] && { echo "it is still there"; exit 1; }
echo "SIGKILL to PID 1 is accepted and does nothing:"
kill -9 1; kill -STOP 1; sleep 0.2
grep -E '^(Name|State)' /proc/1/status
