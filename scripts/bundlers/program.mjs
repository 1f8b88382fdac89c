// What prove-bundlers.mjs has every tool bundle: a program as users have them. One line of JSON says what came of it.

import { use } from './use.mjs';

use().then(
  (report) => console.log(`used: ${JSON.stringify(report)}`),
  ({ code, message }) => {
    console.log(`refused: ${JSON.stringify({ code, message })}`);
    process.exitCode = 1;
  },
);
