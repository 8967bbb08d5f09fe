#!/usr/bin/env bash
# Compares what sockets answer here and on Linux. Not compared: the limits of buffers, which a host may have changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir -p target
${CC:-gcc} -static -O1 -w -o target/unix-calls lab/unix/unix.c -pthread
clean() { tr -d '\r' | sed -n '/^== creating/,$p' | grep -vE '^buf |^core/|^write back:' | grep -vE '^\[ *[0-9]+\.'; }
if [ $# -gt 0 ]; then clean <"$1" >"$out/linux"; else target/unix-calls | clean >"$out/linux"; fi
cargo run -q -- run target/unix-calls | clean >"$out/here"
diff "$out/linux" "$out/here" && echo "equal: $(wc -l <"$out/here") lines"
