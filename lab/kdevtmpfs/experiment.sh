# kdevtmpfs: makes a node in /dev for every device that is registered.
cat /sys/kernel/nightshift/daemons/kdevtmpfs/card
r=$(cat /sys/kernel/nightshift/daemons/kdevtmpfs/requests); n=$(ls /sys/dev/char | wc -l)
echo "requests served: $r, devices registered: $n"
[ "$r" -ge "$n" ] || exit 1
echo "each device of sysfs has its node, with the same numbers:"
for u in /sys/dev/char/*/uevent; do
    name=$(sed -n 's/^DEVNAME=//p' $u); d=${u%/uevent}; d=${d##*/}
    got=$(printf '%d:%d' 0x$(stat -c %t /dev/$name) 0x$(stat -c %T /dev/$name))
    echo "  /dev/$name $got"
    [ "$got" = "$d" ] || { echo "  but sysfs says $d"; exit 1; }
done
