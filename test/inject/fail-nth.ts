// Allocations that fail inside the kernel (CONFIG_FAULT_INJECTION, Documentation/fault-injection/fault-injection.rst).

import { existsSync, writeFileSync } from 'node:fs';

/** Why no allocation can be made to fail here; false when it can. */
export const noFailingAllocations: string | false = existsSync('/proc/self/fail-nth')
  ? false
  : 'this kernel fails in no allocation when told (CONFIG_FAULT_INJECTION): npm run prove:kernel';

/** By default the kernel spares those that may wait for memory, which are nearly all. */
const settings = {
  'failslab/ignore-gfp-wait': 'N',
  'failslab/cache-filter': 'N',
  'failslab/verbose': '0',
  'fail_page_alloc/ignore-gfp-wait': 'N',
  'fail_page_alloc/ignore-gfp-highmem': 'N',
  'fail_page_alloc/min-order': '0',
  'fail_page_alloc/verbose': '0',
} as const;

/** Has the kernel obey /proc/self/task/N/fail-nth for allocations of every kind. */
export function allowAllocationsToFail(): void {
  if (noFailingAllocations !== false) throw new Error(noFailingAllocations);
  for (const [name, value] of Object.entries(settings)) writeFileSync(`/sys/kernel/debug/${name}`, value);
}
