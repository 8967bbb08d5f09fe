# hwrng: feeds the random-number generator from the current hardware source, here the machine's virtio entropy device.
d=/sys/kernel/nightshift/daemons/hwrng; c=/sys/class/misc/hw_random
cat $d/card
echo "sources: $(cat $c/rng_available)current: $(cat $c/rng_current), quality $(cat $c/rng_quality) of 1024"
grep -q . /proc/[0-9]*/comm && echo "the thread: $(grep -lx hwrng /proc/[0-9]*/comm)" || exit 1
r=$(cat $d/reads); sleep 5; s=$(cat $d/reads)
echo "reads in 5 seconds: $((s-r)), bytes so far $(cat $d/bytes), bits credited $(cat $d/bits)"
[ "$s" -gt "$r" ] || exit 1
echo "quality 0: the source counts nothing, so the thread goes"
echo 0 >$c/rng_quality
grep -qx hwrng /proc/[0-9]*/comm && exit 1
echo "quality 512: it comes again, and credits half"
a=$(cat $d/bytes); b=$(cat $d/bits); echo 512 >$c/rng_quality; sleep 4
a=$(($(cat $d/bytes)-a)); b=$(($(cat $d/bits)-b)); echo "$a bytes, $b bits"
[ "$a" -gt 0 ] && [ "$b" -eq $((a*4)) ] || exit 1
echo "and programs read the source raw: $(head -c 8 /dev/hwrng | od -An -tx1)"
