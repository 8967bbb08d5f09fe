# swapper/N, PID 0 of each processor: runs when nothing else wants to. Its time is the idle time of /proc/stat.
idle() { awk -v c=cpu$1 '$1==c{print $5}' /proc/stat; }
n=$(nproc)
a=$(idle 0); sleep 1; b=$(idle 0)
echo "an idle second: processor 0 idled $((b - a)) hundredths"
[ $((b - a)) -ge 50 ] || exit 1
i=0; while [ $i -lt $n ]; do sh -c 'while :; do :; done' & pids="$pids $!"; i=$((i + 1)); done
sleep 0.3; a=$(idle 0); sleep 1; b=$(idle 0); kill $pids
echo "with $n spinning shells: processor 0 idled $((b - a)) hundredths in a second"
[ $((b - a)) -le 20 ]
