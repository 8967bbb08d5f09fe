# migration/N: takes a running task off its processor when it must go elsewhere. Its jobs are counted.
jobs() { awk '{s+=$2}END{print s+0}' /sys/kernel/nightshift/daemons/migration/jobs; }
on() { sed 's/.*) //' /proc/$1/stat | cut -d' ' -f37; }
n=$(nproc); [ "$n" -ge 2 ] || { echo "needs two processors"; exit 1; }
sh -c 'while :; do :; done' & p=$!
a=$(jobs); bad=0; i=0
while [ $i -lt 20 ]; do
    c=$((i % n)); taskset -p $((1 << c)) $p >/dev/null
    [ "$(on $p)" = $c ] || bad=$((bad + 1))
    i=$((i + 1))
done
kill $p; b=$(jobs)
echo "20 changes of affinity of a running task: $((20 - bad)) times it was there when the call returned"
echo "the migration threads did $((b - a)) jobs"
[ $bad = 0 ] && [ $((b - a)) -ge 10 ]
