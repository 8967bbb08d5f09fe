# kapmd: reports events of the power hardware. Nobody presses the button here, so this shows it waiting, once a second.
d=/sys/kernel/nightshift/daemons/kapmd
cat $d/card
grep -h . /proc/bus/input/devices
k=$(grep -lx kapmd /proc/[0-9]*/comm); k=${k%/comm}
echo "the thread: $k, child of $(sed -n 's/^PPid:\t//p' $k/status)"
p=$(cat $d/polls); v=$(sed -n 's/^voluntary_ctxt_switches:\t//p' $k/status); sleep 4
q=$(($(cat $d/polls)-p)); w=$(($(sed -n 's/^voluntary_ctxt_switches:\t//p' $k/status)-v))
echo "in 4 seconds: looked $q times, slept $w times; presses so far: $(cat $d/presses)"
[ "$q" -ge 3 ] && [ "$q" -le 5 ] && [ "$w" -ge 3 ] && [ -c /dev/input/event0 ]
