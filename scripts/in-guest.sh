#!/bin/sh
# in-guest.sh COMMAND...: runs a command in a guest, and has the kernel say in its log what it knows of itself afterwards
# (scripts/kernel-log.mjs reads it).

say() {
  echo "<4>dmabuf: $*" >/dev/kmsg
}

say "the command starts"
"$@"
status=$?

kmemleak=/sys/kernel/debug/kmemleak
if [ -e "$kmemleak" ]; then
  # It spares what is younger than five seconds, and what has changed since the scan before.
  sleep 6
  for _ in 1 2; do echo scan >"$kmemleak"; done
  while read -r line; do say "$line"; done <"$kmemleak"
fi

locks=$(grep debug_locks: /proc/lockdep_stats 2>/dev/null)
say "the command has ended, tainted $(cat /proc/sys/kernel/tainted) $locks"
exit "$status"
