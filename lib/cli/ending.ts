/**
 * Ends this process as the signal does by default. This is the only way out when the terminal has gone: Node.js
 * restores a terminal's modes before it exits, and crashes if the terminal no longer exists.
 */
export function endBySignal(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}
