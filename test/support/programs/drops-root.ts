// Starts as root and becomes an ordinary user, as daemons do: the kernel then guards such a process's /proc entries.

import { lstatSync } from 'node:fs';
import { DmaBufChannel } from 'dmabuf';
import { Folder } from '../channels.js';
import { report } from '../programs.js';

process.setgid?.(65534);
process.setuid?.(65534);
process.umask(0o077);
using folder = new Folder();
using server = DmaBufChannel.listen(folder.file(), { mode: 0o660 });
report(lstatSync(server.path).mode & 0o777);
