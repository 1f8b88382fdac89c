#!/bin/sh
# in-guest.sh COMMAND...: runs a command in a guest, and looks afterwards for what only the guest sees of its kernel: faults that
# have left no report in its log, and memory to which nothing points. It says so in that log, where
# scripts/kernel-log.mjs reads it.

say() {
  echo "<4>dmabuf: $*" >/dev/kmsg
}

"$@"
status=$?

# What the kernel sets when it has found a fault of its own. Not bit 14, a soft lockup, which has a report: sw_sync sets it for
# each fence, since a program that never signals one can have the kernel wait.
tainted=$(cat /proc/sys/kernel/tainted)
for taint in '5 a bad page' '7 an oops' '9 a warning'; do
  [ $((tainted >> ${taint%% *} & 1)) = 0 ] || say "fault: the kernel is tainted by ${taint#* } ($tainted)"
done
if grep -q 'debug_locks: *0' /proc/lockdep_stats 2>/dev/null; then say 'fault: lockdep has turned itself off'; fi

kmemleak=/sys/kernel/debug/kmemleak
if [ -e "$kmemleak" ]; then
  # It spares what is younger than five seconds, and what has changed since the scan before.
  sleep 6
  for _ in 1 2; do echo scan >"$kmemleak"; done
  while read -r line; do
    case $line in unreferenced*) line="fault: $line" ;; esac
    say "$line"
  done <"$kmemleak"
fi

say 'the kernel was looked at'
exit "$status"
