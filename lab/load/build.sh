#!/bin/sh
# Builds `load`, `forkexec`, and `load-guest`: run.sh with `load` appended, one file to copy into a guest.
set -eu
cd "$(dirname "$0")"
${CC:-gcc} -static -O2 -Wall -Wextra -Wno-format-extra-args -pthread -s -o load load.c
${CC:-gcc} -static -O2 -Wall -Wextra -s -o forkexec forkexec.c
{ sed "s/^size=0\$/size=$(wc -c <load)/" run.sh; cat load; } >load-guest
chmod +x load-guest
