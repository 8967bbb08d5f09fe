#!/bin/sh
# Takes processors down and up while checksums are made of data that goes through pipes.
#	cycles.sh [CYCLES]
# Ends with 0 if every cycle succeeded and every checksum is right.
C=/sys/devices/system/cpu; cycles=${1:-1000} last=$(($(nproc) - 1)) bad=0
[ $last -ge 1 ] || { echo "needs two processors"; exit 1; }
sum() { seq 1 20000 | gzip -1 | gunzip | md5sum; }
want=$(sum); : >/tmp/sums; : >/tmp/late; touch /tmp/more
for i in 1 2 3 4; do (while [ -e /tmp/more ]; do sum; done >>/tmp/sums) & done
# A sleeper that measures: two seconds must not become four.
(while [ -e /tmp/more ]; do
    a=$(cut -d. -f1 /proc/uptime); sleep 2; b=$(cut -d. -f1 /proc/uptime)
    [ $((b - a)) -le 4 ] || echo $((b - a)) >>/tmp/late
done) &
i=0
while [ $i -lt $cycles ]; do
    n=$((1 + i % last))
    echo 0 >$C/cpu$n/online || bad=$((bad + 1))
    [ "$(cat $C/cpu$n/online)" = 0 ] || bad=$((bad + 1))
    echo 1 >$C/cpu$n/online || bad=$((bad + 1))
    [ "$(cat $C/cpu$n/online)" = 1 ] || bad=$((bad + 1))
    i=$((i + 1))
    [ $((i % 100)) = 0 ] && echo "$i cycles, $bad bad, $(wc -l </tmp/sums) checksums"
done
rm /tmp/more; wait
wrong=$(grep -vcx "$want" /tmp/sums)
echo "$cycles cycles, $bad bad; $(wc -l </tmp/sums) checksums, $wrong wrong; $(wc -l </tmp/late) sleeps too long; online $(cat $C/online)"
dmesg | grep -E 'BUG|WARNING|lockdep' && exit 1
[ $bad = 0 ] && [ "$wrong" = 0 ] && [ ! -s /tmp/late ] && [ "$(nproc)" = $((last + 1)) ]
