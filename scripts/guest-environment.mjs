/**
 * What tests read of their environment, for those that run in a guest: the endurance tests' numbers, the binary to load,
 * Prometheus' program. Nothing else of the caller's gets there (docs/vm.md).
 */
export function testVariables() {
  const read = /^(CI|UV_THREADPOOL_SIZE|DMABUF_(?!VM_)\w+)$/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => read.test(name)));
}
