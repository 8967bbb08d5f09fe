# ksoftirqd/N: runs softirqs that came up outside of an interrupt, or too many of them at once. One per processor.
for p in /proc/[0-9]*; do
    case $(cat $p/comm) in ksoftirqd/*)
        echo "$(cat $p/comm): pid ${p#/proc/}, may run on $(awk '/^Cpus_allowed_list/{print $2}' $p/status), $(awk '/^voluntary/{print $2}' $p/status) switches"
        [ "ksoftirqd/$(awk '/^Cpus_allowed_list/{print $2}' $p/status)" = "$(cat $p/comm)" ] || exit 1
        echo x >>/tmp/n;;
    esac
done
echo "there are as many as processors: $(nproc)"
[ "$(wc -l </tmp/n)" = "$(nproc)" ]
