# `trace`: a program with trace events on; then the trace, to the second serial port.
t=/sys/kernel/tracing
mount -t tracefs tracefs $t
echo @BUFFER@ >$t/buffer_size_kb
for e in @EVENTS@; do
    echo "$e" >>$t/set_event || { echo "trace: no event $e"; echo "@TOKEN@ 2"; poweroff -f; }
done
echo >$t/trace
setsid cttyhack @PROGRAM@
s=$?
echo 0 >$t/tracing_on
stty -F /dev/ttyS1 raw -echo
{ cat $t/trace; echo "@END@"; } >/dev/ttyS1
# What is written waits in the port's buffer: this returns when it is out.
stty -F /dev/ttyS1 raw
echo "@TOKEN@ $s"
poweroff -f
