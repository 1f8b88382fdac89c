/**
 * Ends this process as the signal does to who does not know of it. The one way out when the terminal has gone: Node.js gives
 * a terminal its modes back before it exits, and crashes where there is none any more.
 */
export function endBySignal(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}
