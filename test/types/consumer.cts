// The same from CommonJS: Node.js from 20.19 on lets it require ES modules, and TypeScript from 5.8 on knows.

import dmabuf = require('dmabuf');
import inspect = require('dmabuf/inspect');
import metrics = require('dmabuf/metrics');
import vm = require('dmabuf/vm');

export async function use(buffer: dmabuf.DmaBuf, options: vm.VmOptions): Promise<number> {
  const { size }: inspect.DmaBufInfo = buffer.info();
  const registered: metrics.DmaBufMetrics = metrics.registerMetrics();
  registered.unregister();
  if (!(buffer instanceof dmabuf.DmaBuf)) throw new dmabuf.DmaBufError('not one', { code: 'ERR_NO_DMABUF' });
  // @ts-expect-error There is no default export.
  console.log(dmabuf.default);
  // @ts-expect-error An access is one of three words.
  dmabuf.allocateSync(4096, { access: 'readwrite' });
  const { exitCode } = await vm.runInVm(options);
  return size + exitCode;
}
