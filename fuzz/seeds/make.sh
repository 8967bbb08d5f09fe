#!/usr/bin/env bash
# Makes the seed corpora, corpus/TARGET, from real files. Needs gcc, cpio and gzip.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p corpus/{elf,script,cpio,trace_filter}
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT

# Headers are all that the parser reads: the first kilobyte holds them and the interpreter's name.
echo 'int main(void) { return 0; }' >"$t/a.c"
gcc -o "$t/static" -static "$t/a.c"
gcc -o "$t/static-pie" -static-pie "$t/a.c"
gcc -o "$t/pie" -pie "$t/a.c"
gcc -o "$t/no-pie" -no-pie "$t/a.c"
gcc -o "$t/execstack" -z execstack "$t/a.c"
gcc -o "$t/aligned" -Wl,-z,max-page-size=0x200000 "$t/a.c"
for f in static static-pie pie no-pie execstack aligned; do
    head -c 1024 "$t/$f" >"corpus/elf/$f"
done

printf '#!/bin/sh\n' >corpus/script/plain
printf '#! \t/usr/bin/env  python3 -u \t\nprint(1)\n' >corpus/script/argument
printf '#!/bin/sh' >corpus/script/no-newline
printf '#!/%0253d' 0 >corpus/script/cut
printf '#!/%0252d x' 0 >corpus/script/full

i=0
for f in 'pid == 1' 'comm ~ "sh*" && !(wide & 0x10) || small > 3' "name != 'a b' && cpu < 2" '((at >= 1))' 'yes == 1 || pid <= -5'; do
    printf '%s' "$f" >"corpus/trace_filter/$((i += 1))"
done

# One of each kind of file, names of all lengths modulo 4, and a hard link.
mkdir -p "$t/root/d/e"
(
    cd "$t/root"
    echo hello >a; echo hello >ab; printf x >abc; : >empty
    ln a d/hard; ln -s ../a d/e/soft; mkfifo pipe
    find . | LC_ALL=C sort | cpio -o -H newc --quiet >../newc
    find . | LC_ALL=C sort | cpio -o -H crc --quiet >../crc
)
cp "$t/newc" corpus/cpio/newc
cp "$t/crc" corpus/cpio/crc
gzip -9nc "$t/newc" >corpus/cpio/newc.gz
cat "$t/newc" "$t/newc" | gzip -9nc >corpus/cpio/two-in-one.gz
cat corpus/cpio/newc corpus/cpio/newc.gz >corpus/cpio/both
# A gzip header with every optional field, stored blocks.
python3 - "$t/newc" corpus/cpio/fields.gz <<'P'
import struct, sys, zlib
data = open(sys.argv[1], "rb").read()
c = zlib.compressobj(0, zlib.DEFLATED, -15)
head = b"\x1f\x8b\x08\x1e" + bytes(6) + struct.pack("<H", 3) + b"abc" + b"name\0" + b"comment\0" + bytes(2)
open(sys.argv[2], "wb").write(head + c.compress(data) + c.flush() + struct.pack("<II", zlib.crc32(data), len(data)))
P
