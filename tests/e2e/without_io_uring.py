"""Runs a program to which the kernel refuses io_uring, as many containers do: without_io_uring.py PROGRAM [ARGUMENT...]"""
import ctypes
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, EPERM = 0x7fff0000, 0x00050000, 1
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
IO_URING_SETUP = 425  # the same number on every architecture

FILTER = b''.join(struct.pack('HBBI', *instruction) for instruction in (
    (LOAD, 0, 0, 0),  # the system call's number
    (JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
    (RETURN, 0, 0, SECCOMP_RET_ERRNO | EPERM),
    (RETURN, 0, 0, SECCOMP_RET_ALLOW)))


class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('instructions', ctypes.c_char_p)]


program = Program(len(FILTER) // 8, FILTER)
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)):
    sys.exit(f'cannot install the filter: {os.strerror(ctypes.get_errno())}')
os.execv(sys.argv[1], sys.argv[1:])
