// Runs scenarios: node --expose-gc child.js <file of scenarios> <name>...

import { writeSync } from 'node:fs';
import type { Report, Scenario } from './scenario.js';

const [, , file, ...names] = process.argv as [string, string, string, ...string[]];
const { scenarios } = (await import(file)) as { scenarios: readonly Scenario[] };

for (const name of names) {
  const report: Report = { name };
  try {
    await scenarios.find((scenario) => scenario.name === name)?.run();
  } catch (error) {
    report.error = (error as Error).stack ?? String(error);
  }
  // Synchronously: the next scenario may end the process.
  writeSync(1, `${JSON.stringify(report)}\n`);
}
