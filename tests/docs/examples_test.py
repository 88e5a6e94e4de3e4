"""The examples in docs/examples do what they say: built by the build, short, and talked to over real sockets.

    examples_test.py c_echo SOURCE PROGRAM
"""
import pathlib
import re
import signal
import socket
import subprocess
import sys

ECHO_LINES_MAX = 30
PATIENCE_S = 60


def listening_address(process):
    line = process.stderr.readline()
    match = re.fullmatch(r'listening on (.+):(\d+)\n', line)
    if not match:
        sys.exit(f'it does not say where it listens, but: {line}')
    return match[1], int(match[2])


def receive_exactly(sock, count):
    received = b''
    while len(received) < count:
        part = sock.recv(count - len(received))
        if not part:
            sys.exit(f'it closed a connection after {len(received)} of {count} bytes')
        received += part
    return received


def converse(address):
    """Several connections at once, each with bytes of its own; one of them is still open at the end."""
    socks = [socket.create_connection(address, PATIENCE_S) for _ in range(20)]
    for round_number in range(3):
        messages = [b'connection %d, round %d. ' % (number, round_number) * 500 for number in range(len(socks))]
        for sock, message in zip(socks, messages):
            sock.sendall(message)
        for sock, message in zip(socks, messages):
            if receive_exactly(sock, len(message)) != message:
                sys.exit('what came back is not what was sent')
    for sock in socks[1:]:
        sock.shutdown(socket.SHUT_WR)
        if rest := sock.recv(100):
            sys.exit(f'after the end it still sends {rest}')
        sock.close()
    return socks[0]


def c_echo(source, program):
    lines = pathlib.Path(source).read_text(encoding='utf-8').splitlines()
    if len(lines) > ECHO_LINES_MAX:
        sys.exit(f'{source} has {len(lines)} lines; it should have at most {ECHO_LINES_MAX}')
    with subprocess.Popen([program, '127.0.0.1:0'], stderr=subprocess.PIPE, text=True) as process:
        try:
            with converse(listening_address(process)) as idle:
                process.send_signal(signal.SIGTERM)
                if rest := idle.recv(100):
                    sys.exit(f'to a connection that waits it sends {rest} at the end')
            if status := process.wait(PATIENCE_S):
                sys.exit(f'SIGTERM ends it with status {status}')
        finally:
            process.kill()


if __name__ == '__main__':
    {'c_echo': c_echo}[sys.argv[1]](*sys.argv[2:])
