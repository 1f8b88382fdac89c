import { testTogether } from '../run.js';
import { scenarios } from './mapping.scenarios.js';

testTogether(
  'released memory cannot crash the process',
  new URL('./mapping.scenarios.js', import.meta.url),
  scenarios,
);
