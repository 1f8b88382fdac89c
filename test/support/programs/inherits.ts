// Has a dma-buf as its descriptor `inheritedFd`, not close-on-exec: the parent gave it that place in `stdio`.

import { readlinkSync } from 'node:fs';
import { DmaBuf } from 'dmabuf';
import { closeOnExec, flagsOf, inheritedFd } from '../descriptors.js';
import { until } from '../event-loop.js';
import { report } from '../programs.js';

export interface InheritsReport {
  inheritedFlag: boolean;
  importedFlag: boolean;
  afterImport: boolean;
  adoptedFd: number;
  adoptedFlag: boolean;
  releasedFlag: boolean;
  inode: number;
  text: string;
  afterClose: boolean;
}

const isSet = (fd: number): boolean => (flagsOf(fd) & closeOnExec) !== 0;

function isOpen(fd: number): boolean {
  try {
    readlinkSync(`/proc/self/fd/${fd}`);
    return true;
  } catch {
    return false;
  }
}

const observed: Partial<InheritsReport> = { inheritedFlag: isSet(inheritedFd) };
const imported = DmaBuf.import(inheritedFd);
observed.importedFlag = isSet(imported.fd);
imported.close();
observed.afterImport = isSet(inheritedFd);

const adopted = DmaBuf.adopt(inheritedFd);
observed.adoptedFd = adopted.fd;
observed.adoptedFlag = isSet(inheritedFd);
observed.inode = adopted.inode;
const bytes = new Uint8Array(5);
adopted.read(bytes);
observed.text = Buffer.from(bytes).toString();

const fd = adopted.release();
observed.releasedFlag = isSet(fd);
DmaBuf.adopt(fd).close();
await until(() => !isOpen(inheritedFd));
observed.afterClose = isOpen(inheritedFd);
report(observed);
