import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { type Installed, installCopy, type Outcome, ownBuild, useInstalled } from '../support/installed.js';
import { packageRoot } from '../support/programs.js';

const asRoot = process.geteuid?.() === 0 ? {} : { skip: 'only root may do this' };

let installed: Installed;
beforeEach(() => {
  installed = installCopy();
});
afterEach(() => rmSync(installed.project, { recursive: true }));

function assertRefused(outcome: Outcome, what: RegExp, hint: RegExp | undefined): void {
  assert.equal(outcome.code, 'ERR_DMABUF_UNSUPPORTED_PLATFORM', JSON.stringify(outcome));
  assert.match(outcome.message ?? '', what);
  if (hint === undefined) assert.equal(outcome.hint, undefined);
  else assert.match(outcome.hint ?? '', hint);
}

/** Puts a library into the binary's place that was linked against another of this name, with this in its version script. */
function linkAgainst(soname: string, version?: string): void {
  const { project, binary } = installed;
  const at = (name: string) => join(project, name);
  writeFileSync(at('needed.c'), 'int needed(void) { return 0; }');
  writeFileSync(at('addon.c'), 'int needed(void); int napi_register_module_v1(void) { return needed(); }');
  writeFileSync(at('versions'), `${version ?? 'ANY'} { needed; };`);
  const shared = ['-shared', '-fPIC', '-nostdlib'];
  const versions = version === undefined ? [] : [`-Wl,--version-script=${at('versions')}`];
  execFileSync('cc', [
    ...shared,
    `-Wl,-soname,${soname}`,
    ...versions,
    '-o',
    at('needed.so'),
    at('needed.c'),
  ]);
  execFileSync('cc', [...shared, '-o', binary, at('addon.c'), at('needed.so')]);
}

describe('the addon', () => {
  test('is loaded at the first use, not on import', () => {
    assert.deepEqual(useInstalled(installed), { loaded: installed.binary });
  });

  test('is named by the doctor, with its path', () => {
    const code = `
      import { examine } from 'dmabuf/inspect';
      const { text } = (await examine()).find(({ subject }) => subject === 'addon');
      console.log(JSON.stringify({ loaded: text }));
      process.exit();`;
    assert.deepEqual(useInstalled(installed, { code }), { loaded: `loaded from ${installed.binary}` });
  });

  test('is the one that was built in the package, where there is one', () => {
    const built = join(installed.folder, 'native/build/Release/dmabuf.node');
    mkdirSync(dirname(built), { recursive: true });
    copyFileSync(ownBuild, built);
    cpSync(join(packageRoot, 'node_modules/bindings'), join(installed.project, 'node_modules/bindings'), {
      recursive: true,
    });
    cpSync(
      join(packageRoot, 'node_modules/file-uri-to-path'),
      join(installed.project, 'node_modules/file-uri-to-path'),
      {
        recursive: true,
      },
    );
    assert.deepEqual(useInstalled(installed), { loaded: built });
  });

  test('is not what was built in the package for another processor', () => {
    const built = join(installed.folder, 'native/build/Release/dmabuf.node');
    mkdirSync(dirname(built), { recursive: true });
    const bytes = readFileSync(ownBuild);
    bytes.writeUInt16LE(process.arch === 'x64' ? 183 : 62, 18); // e_machine
    writeFileSync(built, bytes);
    assert.deepEqual(useInstalled(installed), { loaded: installed.binary });
  });

  test('is the one that DMABUF_BINARY names, relative to the working directory too', () => {
    const own = join(installed.project, 'own.node');
    copyFileSync(ownBuild, own);
    rmSync(installed.binary);
    assert.deepEqual(useInstalled(installed, { env: { DMABUF_BINARY: own } }), { loaded: own });
    assert.deepEqual(useInstalled(installed, { env: { DMABUF_BINARY: 'own.node' } }), { loaded: own });
  });

  test('is looked for by DMABUF_BINARY as the program has set it before the first use', () => {
    const own = join(installed.project, 'own.node');
    copyFileSync(ownBuild, own);
    const code = `process.env.DMABUF_BINARY = ${JSON.stringify(own)};`;
    assert.deepEqual(useInstalled(installed, { code }), { loaded: own });
  });
});

describe('an addon that cannot be loaded says why', () => {
  test('DMABUF_BINARY names nothing', () => {
    const outcome = useInstalled(installed, { env: { DMABUF_BINARY: '/nowhere/dmabuf.node' } });
    assertRefused(outcome, /DMABUF_BINARY names \/nowhere\/dmabuf\.node, which does not exist/, undefined);
  });

  test('addons are disabled', () => {
    const outcome = useInstalled(installed, { flags: ['--no-addons'] });
    assertRefused(outcome, /: addons are disabled/, /without --no-addons/);
    assert.match(outcome.cause ?? '', /loading addons is disabled/);
  });

  test('addons are disabled in a worker', async () => {
    const code = `
      import { DmaBuf } from 'dmabuf';
      import { parentPort } from 'node:worker_threads';
      try { DmaBuf.pageSize } catch (error) { parentPort.postMessage({ ...error, message: error.message }) }`;
    const file = join(installed.project, 'worker.mjs');
    writeFileSync(file, code);
    const worker = new Worker(file, { execArgv: ['--no-addons'] });
    const outcome = await new Promise<Outcome>((resolve, reject) => {
      worker.on('message', resolve).on('error', reject);
      worker.on('exit', () => reject(new Error('it was loaded')));
    });
    assertRefused(outcome, /: addons are disabled/, /the worker, without --no-addons/);
  });

  test('the permission model does not allow addons', () => {
    const known = process.allowedNodeEnvironmentFlags;
    const flag = known.has('--permission') ? '--permission' : '--experimental-permission';
    const outcome = useInstalled(installed, { flags: [flag, '--allow-fs-read=*', '--no-warnings'] });
    assertRefused(outcome, /permission model does not allow addons/, /with --allow-addons/);
  });

  test('the permission model does not allow it to be read', () => {
    const known = process.allowedNodeEnvironmentFlags;
    const flag = known.has('--permission') ? '--permission' : '--experimental-permission';
    // The code has to be readable, or nothing says anything.
    const code = join(installed.folder, 'dist');
    const reads = [code, join(installed.folder, 'package.json'), '/proc'].map(
      (path) => `--allow-fs-read=${path}*`,
    );
    const outcome = useInstalled(installed, {
      flags: [
        flag,
        '--allow-addons',
        ...reads,
        `--allow-fs-read=${installed.project}/package.json`,
        '--no-warnings',
      ],
    });
    assertRefused(outcome, /does not allow \S+\.glibc\.node to be read/, /--allow-fs-read/);
  });

  test('its file system is mounted noexec', asRoot, () => {
    const { folder, project } = installed;
    const before = `
      cp -r ${folder} ${project}/copy
      mount -t tmpfs -o noexec tmpfs ${folder}
      cp -r ${project}/copy/. ${folder}`;
    const outcome = useInstalled(installed, { before });
    assertRefused(outcome, /\.node may not be executed, since \S+\/dmabuf is mounted noexec/, /remount,exec/);
  });

  test('it may not be read', asRoot, () => {
    chmodSync(installed.binary, 0);
    const outcome = useInstalled(installed, { uid: 65534 });
    assertRefused(outcome, /\.glibc\.node may not be read/, /chmod/);
  });

  const { size } = statSync(ownBuild);
  for (const length of [200, 4096, Math.floor(size / 2), size - 1]) {
    test(`it was cut off at ${length < size - 1 ? length : 'its last byte'}`, () => {
      truncateSync(installed.binary, length);
      const outcome = useInstalled(installed);
      assertRefused(outcome, new RegExp(`was cut off: it has ${length} of \\d+ bytes`), /disk is not full/);
    });
  }

  test('it is empty', () => {
    truncateSync(installed.binary);
    assertRefused(useInstalled(installed), /\.node is empty$|\.node is empty\./, /disk is not full/);
  });

  for (const [what, command] of [
    ['a FIFO', ['mkfifo']],
    ['a folder', ['mkdir']],
    ['a device', ['ln', '-s', '/dev/tty']],
  ] as const) {
    test(`DMABUF_BINARY names ${what}`, () => {
      const path = join(installed.project, 'own.node');
      execFileSync(command[0], [...command.slice(1), path]);
      const outcome = useInstalled(installed, { env: { DMABUF_BINARY: path } });
      assertRefused(outcome, /own\.node is not a regular file/, undefined);
    });
  }

  test("it is another package's", () => {
    const other = join(packageRoot, 'test/fences/build/Release/fences.node');
    const outcome = useInstalled(installed, { env: { DMABUF_BINARY: other } });
    assertRefused(outcome, /fences\.node is not the addon of this version of dmabuf/, /DMABUF_BINARY/);
  });

  test('it is made for another processor', () => {
    const bytes = readFileSync(installed.binary);
    bytes.writeUInt16LE(process.arch === 'x64' ? 183 : 62, 18); // e_machine
    writeFileSync(installed.binary, bytes);
    assertRefused(
      useInstalled(installed),
      /is damaged or made for another processor/,
      /Install the package again/,
    );
  });

  test('it is a pointer of Git LFS', () => {
    writeFileSync(
      installed.binary,
      'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'.repeat(9),
    );
    assertRefused(
      useInstalled(installed),
      /is damaged or made for another processor/,
      /Install the package again/,
    );
  });

  test('it is made for the other C library', () => {
    linkAgainst('libc.so');
    assertRefused(useInstalled(installed), /is made for the other C library/, /DMABUF_BINARY/);
  });

  test('it needs a newer C library', () => {
    linkAgainst('libc.so.6', 'GLIBC_2.99');
    assertRefused(
      useInstalled(installed),
      /C or C\+\+ library is older .*GLIBC_2\.99/,
      /node-gyp rebuild -C '\S+\/native'/,
    );
  });

  test('it needs a library that is not there', () => {
    linkAgainst('libnowhere.so.1');
    assertRefused(
      useInstalled(installed),
      /needs libnowhere\.so\.1, which does not exist/,
      /Install that library/,
    );
  });

  test('it was left out by what copied the package', () => {
    rmSync(installed.binary);
    const outcome = useInstalled(installed);
    assertRefused(
      outcome,
      /the package's binary is missing: \S+\.glibc\.node/,
      /copy \S+prebuilds along with it/,
    );
  });

  test('there is none for this processor: the way to build it names the right folder', () => {
    const code = "Object.defineProperty(process, 'arch', { value: 'riscv64' });";
    const outcome = useInstalled(installed, { code });
    const folder = join(installed.folder, 'native');
    assertRefused(outcome, /the package has no binary for linux-riscv64/, /g\+\+, make and python3/);
    assert.ok(outcome.hint?.endsWith(`-C '${folder}'.`), outcome.hint);
  });

  test('this is Android', () => {
    const code = "Object.defineProperty(process, 'platform', { value: 'android' });";
    assertRefused(useInstalled(installed, { code }), /no binary for Android's C library/, /Termux/);
  });

  test('this is another system', () => {
    const code = "Object.defineProperty(process, 'platform', { value: 'darwin' });";
    assertRefused(useInstalled(installed, { code }), /exist on Linux only, and this is darwin/, undefined);
  });
});

describe('the code out of a bundler', () => {
  /** Has the bundle stand in the place of the package. */
  function putInPlace(path: string): void {
    rmSync(installed.folder, { recursive: true });
    mkdirSync(installed.folder);
    writeFileSync(
      join(installed.folder, 'package.json'),
      JSON.stringify({ exports: { '.': './i.mjs', './inspect': './i.mjs' } }),
    );
    writeFileSync(join(installed.folder, 'i.mjs'), `export * from '${path}';`);
  }

  /** The binary in a folder `prebuilds`. */
  function putPrebuilds(folder: string): string {
    const path = join(folder, `prebuilds/linux-${process.arch}/dmabuf.glibc.node`);
    mkdirSync(dirname(path), { recursive: true });
    copyFileSync(ownBuild, path);
    return path;
  }

  /** The package's core as one file, in which import.meta.url is what the bundler makes of it. */
  function bundle(url: string, format: 'cjs' | 'es'): string {
    const config = join(installed.project, 'rollup.config.mjs');
    const output = join(installed.project, format === 'cjs' ? 'bundle.cjs' : 'bundle.mjs');
    writeFileSync(
      config,
      `export default {
        input: ${JSON.stringify(join(installed.folder, 'dist/package/index.js'))},
        external: (id) => id.startsWith('node:'),
        plugins: [{ resolveImportMeta: () => ${JSON.stringify(url)} }],
        output: { file: ${JSON.stringify(output)}, format: '${format}' },
      };`,
    );
    execFileSync(join(packageRoot, 'node_modules/.bin/rollup'), ['-c', config, '--silent'], {
      cwd: installed.project,
    });
    return output;
  }

  for (const [title, url, format] of [
    ['as CommonJS, where import.meta.url is nothing', 'undefined', 'cjs'],
    ['as an ES module', 'import.meta.url', 'es'],
    ['with the place where it was built', '"file:///nowhere/dmabuf/dist/package/core.js"', 'cjs'],
  ] as const) {
    test(`is imported, and says at the first use what to do: ${title}`, () => {
      const path = bundle(url, format);
      putInPlace(path);
      const outcome = useInstalled(installed);
      assertRefused(outcome, /was bundled without its binary/, /DMABUF_BINARY/);
      assert.deepEqual(useInstalled(installed, { env: { DMABUF_BINARY: ownBuild } }), { loaded: ownBuild });
    });
  }

  test('loads the binary of a folder prebuilds beside it', () => {
    putInPlace(bundle('import.meta.url', 'es'));
    const binary = putPrebuilds(installed.project);
    assert.deepEqual(useInstalled(installed), { loaded: binary });
  });

  test('loads the binary beside the file that it names, into which ncc has put JavaScript', () => {
    const url = new URL('a/b/core.js', `file://${installed.project}/`).href;
    putInPlace(bundle(JSON.stringify(url), 'cjs'));
    writeFileSync(putPrebuilds(installed.project), 'module.exports = 1'); // what ../../prebuilds names
    const beside = putPrebuilds(join(installed.project, `prebuilds/linux-${process.arch}`));
    assert.deepEqual(useInstalled(installed), { loaded: beside });
  });

  test('loads the binary of a folder prebuilds beside the program, as single executables have it', () => {
    putInPlace(bundle('undefined', 'cjs'));
    const program = join(installed.project, 'bin/program');
    const binary = putPrebuilds(dirname(program));
    copyFileSync(process.execPath, program);
    assert.deepEqual(useInstalled(installed, { program }), { loaded: binary });
  });
});
