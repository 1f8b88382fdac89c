import { provideAdvice } from '../errors.js';

const otherAddress = "use a path that does not lead through one, or an abstract name ('@name')";

const adviceOnPaths =
  'All threads that look up paths wait for file systems that do not answer (FUSE, NFS): repair ' +
  `these, or ${otherAddress}`;

const adviceToListen = 'No server listens there: start it first, or wait for it with the option retry';

const kinds =
  'A DmaBufChannel is a Unix socket of type SOCK_SEQPACKET, and an FdStream one of type SOCK_STREAM';
const adviceOnType = `${kinds}; this is a socket of another kind`;

provideAdvice({
  'bind EACCES': 'The folder may not be written',
  'bind EBUSY': adviceOnPaths,
  'bind ENOENT': 'The folder does not exist',
  'bind ETIMEDOUT': `A file system on the way does not answer (FUSE, NFS), so ${otherAddress}`,
  'connect EACCES': "The socket's file may not be written: its server can allow it by the option mode",
  'connect EBUSY': adviceOnPaths,
  'connect ECONNREFUSED': adviceToListen,
  'connect ENOENT': adviceToListen,
  'connect EPROTOTYPE': adviceOnType,
  'getpeername ENOTCONN': 'The socket is not connected',
  'getsockopt EINVAL': 'The socket does not listen',
  'getsockopt ENOTSOCK': `${kinds}; this is not a socket`,
  'getsockopt EPROTOTYPE': adviceOnType,
  'recvmsg EMFILE': 'Close what is no longer needed, or raise the limit (ulimit -n); nothing was lost',
  'sendmsg EBADF': 'One of the handles is not an open descriptor',
  'sendmsg EPIPE': 'The peer has closed its end',
  'sendmsg ETOOMANYREFS':
    'Too many descriptors of this user are in unreceived messages: let the receivers read them, or raise the limit ' +
    '(ulimit -n)',
  'unlink EBUSY': 'Something is mounted on the file: unmount it',
});
