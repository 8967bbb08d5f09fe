# An interactive machine: a login shell with job control on the console.
echo "$(uname -s -r -m): $(nproc) processors, $(awk '/^MemAvailable/{print int($2/1024)}' /proc/meminfo) MiB available. 'exit' powers off."
setsid cttyhack sh -l
poweroff -f
