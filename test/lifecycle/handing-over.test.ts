import { scenarios } from './handing-over.scenarios.js';
import { testTogether } from './run.js';

testTogether(
  'what is handed over to another process belongs to it, and goes with the last who holds it',
  new URL('./handing-over.scenarios.js', import.meta.url),
  scenarios,
);
