// Listens at DMABUF_TEST_SOCKET, says so, and waits for its end.

import { DmaBufChannel } from 'dmabuf';

const server = DmaBufChannel.listen(process.env.DMABUF_TEST_SOCKET as string);
process.stdout.write('listening\n');
for await (const channel of server) channel.close();
