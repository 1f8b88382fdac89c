"""A program at the other end of channels, as somebody would write it in Python: the standard library alone.

Serves the inherited socket whose number it was given, and what its standard input asks for: `connect <path>` and
`listen <path>`, one line each. It blocks wherever it waits. A message that begins with "!" is a request, any other
is sent back.
"""

import array
import fcntl
import mmap
import os
import socket
import struct
import sys
import threading

MOST_FDS = 253
CAPACITY = 8 << 20
DMA_BUF_IOCTL_SYNC = 0x40086200
DMA_BUF_SET_NAME_B = 0x40086201
DMA_HEAP_IOCTL_ALLOC = 0xC0184800
READ, WRITE, END = 1, 2, 4


def say(text):
    print(text, flush=True)


def send(channel, data, fds=()):
    socket.send_fds(channel, [data], list(fds))


def pattern(size, factor, offset):
    return bytes((index * factor + offset) & 255 for index in range(256)) * (size // 256)


class Access:
    """The bytes of a buffer, bracketed."""

    def __init__(self, buffer, direction):
        self.buffer, self.direction = buffer, direction

    def synchronise(self, flags):
        fcntl.ioctl(self.buffer, DMA_BUF_IOCTL_SYNC, struct.pack("=Q", flags))

    def __enter__(self):
        self.bytes = mmap.mmap(self.buffer, os.lseek(self.buffer, 0, os.SEEK_END))
        self.synchronise(self.direction)
        return self.bytes

    def __exit__(self, *_):
        self.synchronise(self.direction | END)
        self.bytes.close()


def allocate(size):
    heap = os.open("/dev/dma_heap/system", os.O_RDWR)
    request = array.array("B", struct.pack("=QIIQ", size, 0, os.O_RDWR | os.O_CLOEXEC, 0))
    fcntl.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, request)
    os.close(heap)
    return struct.unpack("=QIIQ", request)[1]


def exchange(channel, fds):
    if len(fds) != 1:
        return send(channel, b"not one descriptor")
    (buffer,) = fds
    if not os.readlink(f"/proc/self/fd/{buffer}").startswith("/dmabuf:"):
        return send(channel, b"not a dma-buf")
    with Access(buffer, READ) as data:
        if data[:] != pattern(len(data), 7, 1):
            return send(channel, b"not the pattern")
    with Access(buffer, WRITE) as data:
        data[:] = pattern(len(data), 13, 5)

    own = allocate(8192)
    fcntl.ioctl(own, DMA_BUF_SET_NAME_B, b"of the peer\0")
    with Access(own, WRITE) as data:
        data[:] = pattern(len(data), 31, 2)
    reader, writer = os.pipe()
    os.write(writer, b"through the pipe")
    os.close(writer)
    inodes = f"inodes {os.fstat(buffer).st_ino} {os.fstat(own).st_ino}"
    send(channel, inodes.encode(), [buffer, own, reader])
    os.close(own)
    os.close(reader)


def send_nulls(channel, count):
    nulls = [os.open("/dev/null", os.O_RDWR) for _ in range(count)]
    send(channel, b"", nulls)
    for fd in nulls:
        os.close(fd)


def answer(channel, data, fds):
    request, *arguments = data[:100].split(b" ")
    if request == b"!exchange":
        exchange(channel, fds)
    elif request == b"!flags":
        send(channel, f"flags {fcntl.fcntl(channel, fcntl.F_GETFL):o}".encode())
    elif request == b"!fds":
        send_nulls(channel, int(arguments[0]))
    elif request == b"!sizes":
        for size in data.split(b" ")[1:]:
            channel.send(bytes([int(size) % 251]) * int(size))
    elif request == b"!room":
        channel.setsockopt(socket.SOL_SOCKET, 32, int(arguments[0]) // 2 + 32)  # SO_SNDBUFFORCE
        send(channel, b"room")
    else:
        send(channel, data, fds)


def serve(channel):
    with channel:
        while True:
            data, fds, flags, _ = socket.recv_fds(channel, CAPACITY, MOST_FDS)
            assert flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) == 0
            if not data and not fds:
                return
            answer(channel, data, fds)
            for fd in fds:
                os.close(fd)


def start(channel):
    threading.Thread(target=serve, args=[channel], daemon=True).start()


def new_socket():
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def listen(path):
    with new_socket() as listener:
        listener.bind(path)
        listener.listen(5)
        say("listening")
        start(listener.accept()[0])
    os.unlink(path)


start(socket.socket(fileno=int(sys.argv[1])))
for line in sys.stdin:
    way, path = line.split()
    if way == "connect":
        channel = new_socket()
        channel.connect(path)
        start(channel)
    else:
        listen(path)
