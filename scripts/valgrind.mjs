// npm run test:valgrind: the addon under valgrind's memcheck, on this machine. An error counts when a frame of its stack
// is the addon's; Node itself has some of its own.

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root, setup } from './setup.mjs';

const options = [
  '--error-limit=no',
  '--num-callers=40',
  '--smc-check=all-non-file',
  '--leak-check=full',
  '--show-leak-kinds=definite',
];

setup();
process.stderr.write('valgrind: half a minute\n');
const program = [process.execPath, '--jitless', join(root, 'dist/test/valgrind/exercise.js')];
const child = spawn('valgrind', [...options, ...program], {
  cwd: root,
  stdio: ['ignore', 'inherit', 'pipe'],
});
let log = '';
child.stderr.setEncoding('utf8').on('data', (text) => {
  log += text;
});
const code = await new Promise((resolve, reject) => {
  child.on('error', (cause) =>
    reject(new Error("valgrind could not be started; is Debian's package installed?", { cause })),
  );
  child.on('close', resolve);
});

const blocks = log.split(/^==\d+== *$/m).filter((block) => block.includes('dmabuf.node'));
for (const block of blocks) console.error(block.replace(/^==\d+==/gm, ''));
if (!log.includes('ERROR SUMMARY')) console.error(log);
if (code !== 0) console.error(`valgrind: the program ended with ${code}\n${log}`);
console.log(`valgrind: ${blocks.length} errors in the addon`);
if (code !== 0 || blocks.length > 0 || !log.includes('ERROR SUMMARY')) process.exitCode = 1;
