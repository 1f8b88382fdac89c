import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { guestEnvironment, parseVariable } from '../../lib/vm/environment.js';
import { packageRoot } from '../support/programs.js';

const guestsOwn = { USER: 'root', LOGNAME: 'root', PWD: '/x', DMABUF_VM: '1' };

describe("a guest's environment", () => {
  it("has what programs, terminals and languages need of the caller's, and nothing else", () => {
    const passed = {
      ...{
        PATH: '/bin',
        HOME: '/home/me',
        SHELL: '/bin/zsh',
        TERM: 'xterm',
        COLORTERM: 'truecolor',
        NO_COLOR: '',
      },
      ...{ TZ: 'UTC', LANG: 'C.UTF-8', LANGUAGE: 'de', LC_ALL: 'C', LC_CTYPE: 'C' },
    };
    const kept = {
      ...{ USER: 'me', LOGNAME: 'me', PWD: '/home', OLDPWD: '/', CI: 'true', NODE_OPTIONS: '--expose-gc' },
      ...{ NODE_TEST_CONTEXT: 'child-v8', NODE_EXTRA_CA_CERTS: '/certs', npm_config_x: '1', TOKEN: 'secret' },
      ...{ LD_PRELOAD: '/x.so', XDG_RUNTIME_DIR: '/run/user/1', LC_SECRET: '1', TERMINAL: 'x', MYPATH: '/x' },
    };
    assert.deepEqual(guestEnvironment({}, '/x', { ...kept, ...passed }), { ...passed, ...guestsOwn });
  });

  it('has a PATH where the caller has none', () => {
    assert.match(guestEnvironment({}, '/x', {}).PATH ?? '', /(^|:)\/usr\/bin(:|$)/);
  });

  it('has what is asked for, also in place of what it has anyway', () => {
    const own = { PATH: '/bin', LANG: 'C', HOME: '/home/me' };
    const asked = {
      A: 'a b',
      LANG: 'de',
      HOME: undefined,
      B: undefined,
      USER: 'x',
      NODE_EXTRA_CA_CERTS: '/c',
    };
    assert.deepEqual(guestEnvironment(asked, '/x', own), {
      ...guestsOwn,
      ...{ PATH: '/bin', A: 'a b', LANG: 'de', USER: 'x', NODE_EXTRA_CA_CERTS: '/c' },
    });
  });

  it('says where the command starts and that it is a guest, whatever is asked for', () => {
    assert.deepEqual(guestEnvironment({ PWD: '/y', DMABUF_VM: '', PATH: undefined }, '/x', {}), guestsOwn);
  });

  it('never has the channel to a parent process that is not there', () => {
    assert.deepEqual(guestEnvironment({ NODE_CHANNEL_FD: '3', PATH: undefined }, '/x', {}), guestsOwn);
  });

  for (const [what, env] of [
    ['a name with an equals sign', { 'A=B': '1' }],
    ['an empty name', { '': '1' }],
    ['a NUL character', { A: '\0' }],
  ] as const) {
    it(`refuses ${what}`, () => {
      assert.throws(() => guestEnvironment(env, '/x', {}), {
        code: 'ERR_INVALID_ARG_VALUE',
        message: /env: /,
      });
    });
  }
});

describe('--env', () => {
  const own = { CI: 'true', EMPTY: '' };
  for (const [word, variable] of [
    ['CI', ['CI', 'true']],
    ['CI=', ['CI', '']],
    ['CI=a=b\nc', ['CI', 'a=b\nc']],
    ['EMPTY', ['EMPTY', '']],
    ['UNSET', ['UNSET', undefined]],
  ] as const) {
    it(`takes ${JSON.stringify(word)}`, () => assert.deepEqual(parseVariable(word, own), variable));
  }

  for (const word of ['', '=', '=x', '--', '--output', '-x=1']) {
    it(`refuses '${word}' with status 125 and its name`, () => {
      const main = join(packageRoot, 'dist/package/cli.js');
      const { status, stderr } = spawnSync(process.execPath, [main, 'vm', '--env', word, '--', 'true'], {
        encoding: 'utf8',
      });
      assert.match(
        stderr,
        /option '--env <name\[=value\]>' argument '[-=outpux1]*' is invalid. It must be NAME or NAME=VALUE/,
      );
      assert.equal(status, 125);
    });
  }
});
