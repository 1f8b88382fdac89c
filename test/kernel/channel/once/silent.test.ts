import assert from 'node:assert/strict';
import { existsSync, lstatSync, mkdirSync, renameSync, symlinkSync } from 'node:fs';
import { channelTest } from '../../../support/channel-test.js';
import { Folder } from '../../../support/channels.js';
import { compiled } from '../../../support/compiled.js';
import { metricsCommand } from '../../../support/metrics-command.js';
import { MountPoint } from '../../../support/mount-point.js';
import { nodePeer, Peer } from '../../../support/peers.js';

// Paths that lead into a file system whose server does not answer (silent-fuse.c). Who goes there is a process of its own,
// in case that it should wait for ever: what it answers then is missed.

const noFuse: string | false = existsSync('/dev/fuse') ? false : 'the module fuse is not loaded';

/** FUSE_LOOKUP of <linux/fuse.h>, as silent-fuse.c tells it. */
const lookup = '!1';
/** FUSE_GETATTR. */
const getattr = '!3';

interface Scene {
  fuse: Peer;
  /** The program. */
  goer: Peer;
  /** A path that is not even looked up. */
  silent: string;
  /** An ordinary one. */
  folder: Folder;
}

function silentTest(name: string, body: (scene: Scene) => Promise<void>): void {
  channelTest(
    name,
    async () => {
      using folder = new Folder();
      const mount = new MountPoint();
      const fuse = new Peer(compiled('silent-fuse'), [mount.path, '0']);
      const goer = nodePeer('goes-to-paths');
      try {
        assert.equal(await fuse.line(), 'mounted', fuse.errors);
        await body({ fuse, goer, folder, silent: `${mount.path}/silent` });
      } finally {
        // Without its server the file system fails at once, and lets everybody go.
        fuse.kill();
        await fuse.ended;
        goer.kill();
        await goer.ended;
        mount.remove();
      }
    },
    noFuse,
  );
}

silentTest('connect() ends when its time is over', async ({ fuse, goer, silent }) => {
  assert.equal(await goer.ask(`connect ${silent}/socket 20`), 'ETIMEDOUT');
  assert.equal(await fuse.event(), lookup);
});

silentTest(
  'connect() by way of a link ends when its time is over',
  async ({ fuse, goer, silent, folder }) => {
    symlinkSync(silent, folder.file('way'));
    assert.equal(await goer.ask(`connect ${folder.file('way')}/socket 20`), 'ETIMEDOUT');
    assert.equal(await fuse.event(), lookup);
  },
);

silentTest('connect() ends with its signal', async ({ goer, silent }) => {
  assert.equal(await goer.ask(`connect-until-abort ${silent}/socket`), 'Error: aborted');
});

silentTest('connect() ends when the file system does', async ({ fuse, goer, silent }) => {
  await goer.have(`go-on-connecting ${silent} 1 1`);
  assert.equal(await fuse.event(), lookup);
  fuse.kill();
  assert.match(await goer.ask('outcomes'), /^(ECONNABORTED|ENOTCONN)$/);
});

silentTest('who tries one path again and again connects to others all the same', async (scene) => {
  const { fuse, goer, silent, folder } = scene;
  await goer.have(`listen ${folder.file()}`);
  await goer.have(`go-on-connecting ${silent} 1 40`);
  assert.equal(await fuse.event(), lookup);
  await goer.have(`connect ${folder.file()} 20000`);
  assert.equal(await goer.ask('accept'), 'itself');
});

silentTest('where all threads are kept, others are refused and names are not', async (scene) => {
  const { fuse, goer, silent, folder } = scene;
  await goer.have(`go-on-connecting ${silent} 16 1`);
  assert.equal(await fuse.event(), lookup);
  // The second time it is known that they are kept.
  for (let time = 0; time < 2; time++) {
    const refused = await goer.ask(`connect ${folder.file()} 20000`);
    assert.match(refused, /^EBUSY .*do not answer \(FUSE, NFS\).*abstract name/);
  }
  assert.match(await goer.ask(`listen ${folder.file()}`), /^EBUSY .*do not answer/);
  const name = `@dmabuf-test-${process.pid}-kept`;
  await goer.have(`listen ${name}`);
  await goer.have(`connect ${name} 20000`);
  fuse.kill();
  assert.match(await goer.ask('outcomes'), /^(ECONNABORTED|ENOTCONN| )+$/);
  await goer.have(`listen ${folder.file()}`);
});

silentTest('listen() says what it waits for', async ({ fuse, goer, silent }) => {
  const refused = await goer.ask(`listen ${silent}/socket`);
  assert.match(refused, /^ETIMEDOUT A file system on the way does not answer \(FUSE, NFS\).*abstract name/);
  assert.equal(await fuse.event(), lookup);
});

silentTest(
  'listen() in a folder that is only found says what it waits for',
  async ({ fuse, goer, silent }) => {
    const refused = await goer.ask(`listen ${silent}`);
    assert.match(refused, /^ETIMEDOUT .*does not answer/);
    assert.match(await fuse.event(), new RegExp(`^(${lookup}|${getattr})$`));
    goer.tell('exit');
    assert.equal(await goer.ended, 7);
  },
);

silentTest('close() of a server whose path leads there now removes its file', async (scene) => {
  const { goer, silent, folder } = scene;
  mkdirSync(folder.file('real'));
  symlinkSync('real', folder.file('way'));
  await goer.have(`listen ${folder.file('way/socket')}`);
  assert.ok(lstatSync(folder.file('real/socket')).isSocket());
  symlinkSync(silent, folder.file('other'));
  renameSync(folder.file('other'), folder.file('way'));
  await goer.have('close');
  assert.equal(existsSync(folder.file('real/socket')), false);
  goer.tell('exit');
  assert.equal(await goer.ended, 7);
});

silentTest('dmabuf metrics says what it waits for, and ends', async ({ fuse, silent }) => {
  await using service = metricsCommand(['--listen', `unix:${silent}/socket`]);
  assert.equal(await fuse.event(), lookup);
  const refused = await service.says(/cannot listen on (.+)/);
  assert.match(refused, /: ETIMEDOUT\. A file system on the way does not answer \(FUSE, NFS\)/);
  assert.equal(await service.ended, 2);
});

silentTest('a process that still connects there ends', async ({ fuse, goer, silent }) => {
  await goer.have(`go-on-connecting ${silent} 16 2`);
  assert.equal(await fuse.event(), lookup);
  goer.tell('exit');
  assert.equal(await goer.ended, 7);
});

silentTest('a worker that still connects there ends', async ({ fuse, goer, silent }) => {
  assert.equal(await goer.ask(`end-worker ${silent}/socket`), '1');
  assert.equal(await fuse.event(), lookup);
  // So does the process.
  goer.tell('exit');
  assert.equal(await goer.ended, 7);
});
