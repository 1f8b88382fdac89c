"""The other end of a FrameSender or a FrameReceiver, as somebody would write it in Python: the standard library alone.

`frame_peer.py receive <fd>` prints of each frame its number, layout, metadata and the sum of its bytes, and returns it.
`frame_peer.py send <fd> <count>` sends so many frames in two buffers of udmabuf's or the system heap's, and prints the
numbers that are returned.
"""

import array
import fcntl
import json
import mmap
import os
import socket
import struct
import sys

HEADER = struct.Struct("<4sBBBBQ4sIIIQQ")
PLANE = struct.Struct("<IIQQ")
RETURN = struct.Struct("<4sBxxxQ")
FRAME, RETURNED = 1, 2
HAS_READY, HAS_METADATA = 1, 2
DMA_BUF_IOCTL_SYNC = 0x40086200
DMA_HEAP_IOCTL_ALLOC = 0xC0184800
READ, WRITE, END = 1, 2, 4


def synchronise(buffer, flags):
    fcntl.ioctl(buffer, DMA_BUF_IOCTL_SYNC, struct.pack("=Q", flags))


def total(buffer, offset, size):
    with mmap.mmap(buffer, os.lseek(buffer, 0, os.SEEK_END)) as data:
        synchronise(buffer, READ)
        result = sum(data[offset : offset + size])
        synchronise(buffer, READ | END)
    return result


def receive(channel):
    buffers = {}
    while True:
        data, fds, _, _ = socket.recv_fds(channel, 1 << 20, 8)
        if not data:
            return
        magic, kind, count, introduced, flags, number, fourcc, width, height, forgotten, modifier, _ = (
            HEADER.unpack_from(data)
        )
        assert magic == b"FRM1" and kind == FRAME
        at = HEADER.size
        planes = [PLANE.unpack_from(data, at + index * PLANE.size) for index in range(count)]
        at += count * PLANE.size
        for index, (buffer, *_) in enumerate(planes):
            if introduced & 1 << index:
                buffers[buffer] = fds.pop(0)
        for (buffer,) in struct.iter_unpack("<I", data[at : at + 4 * forgotten]):
            os.close(buffers.pop(buffer))
        at += 4 * forgotten
        metadata = json.loads(data[at:]) if flags & HAS_METADATA else None
        if flags & HAS_READY:
            os.close(fds.pop())
        sums = [total(buffers[buffer], offset, size) for buffer, _, offset, size in planes]
        layout = f"{fourcc.decode()} {width}x{height} {modifier}"
        print(number, layout, json.dumps(metadata), sums, len(buffers), flush=True)
        channel.send(RETURN.pack(b"FRM1", RETURNED, number))


def allocate(size):
    heap = os.open("/dev/dma_heap/system", os.O_RDWR)
    request = array.array("B", struct.pack("=QIIQ", size, 0, os.O_RDWR | os.O_CLOEXEC, 0))
    fcntl.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, request)
    os.close(heap)
    return struct.unpack("=QIIQ", request)[1]


def send(channel, count):
    buffers = [allocate(4096), allocate(4096)]
    for number in range(count):
        name = number % 2
        with mmap.mmap(buffers[name], 4096) as data:
            synchronise(buffers[name], WRITE)
            data[:64] = bytes([number]) * 64
            synchronise(buffers[name], WRITE | END)
        is_new = number < 2
        header = HEADER.pack(
            b"FRM1", FRAME, 1, is_new, HAS_METADATA, number, b"GREY", 8, 8, 0, 0, 0
        )
        plane = PLANE.pack(name, 8, 0, 64)
        metadata = json.dumps({"number": number}).encode()
        socket.send_fds(channel, [header + plane + metadata], [buffers[name]] if is_new else [])
        magic, kind, returned = RETURN.unpack(channel.recv(RETURN.size))
        assert magic == b"FRM1" and kind == RETURNED
        print(returned, flush=True)


end = socket.socket(fileno=int(sys.argv[2]))
if sys.argv[1] == "receive":
    receive(end)
else:
    send(end, int(sys.argv[3]))
