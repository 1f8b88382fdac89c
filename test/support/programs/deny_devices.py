"""deny_devices.py CGROUP MAJOR: lets nobody in the control group open character devices of this major number, as container
runtimes do with devices that were mounted and not passed (BPF_PROG_TYPE_CGROUP_DEVICE)."""
import ctypes
import os
import platform
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
BPF = {'x86_64': 321, 'aarch64': 280}[platform.machine()]


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    result = libc.syscall(BPF, command, buffer, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), 'bpf %d' % command)
    return result


def instruction(code, target=0, source=0, offset=0, value=0):
    return struct.pack('<BBhi', code, target | source << 4, offset, value)


program = ctypes.create_string_buffer(
    instruction(0xB7, 0, value=1)  # r0 = 1: allowed
    + instruction(0x61, 2, 1, 4)  # r2 = context->major
    + instruction(0x55, 2, offset=1, value=int(sys.argv[2]))  # another major: skip one
    + instruction(0xB7, 0, value=0)  # r0 = 0: EPERM
    + instruction(0x95)  # exit
)
licence = ctypes.create_string_buffer(b'GPL')
BPF_PROG_LOAD, BPF_PROG_ATTACH, CGROUP_DEVICE, BPF_CGROUP_DEVICE = 5, 8, 15, 6
load = struct.pack(
    '<IIQQIIQ', CGROUP_DEVICE, 5, ctypes.addressof(program), ctypes.addressof(licence), 0, 0, 0
)
group = os.open(sys.argv[1], os.O_RDONLY)
bpf(BPF_PROG_ATTACH, struct.pack('<IIII', group, bpf(BPF_PROG_LOAD, load), BPF_CGROUP_DEVICE, 0))
