"""A daemon under test: starts it, knows where it listens, measures it, stops it and looks at how it ended.

The program comes from the environment: WEFT_HTTP and WEFT_ECHO name the executables, WEFT_SANITIZED=1 says that
they are sanitizer builds (slower, and their memory is not worth measuring), WEFT_TEST_LONG=1 asks for the long tests:
`WEFT_TEST_LONG=1 meson test -C build e2e_load_test -t 10`.
"""
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest

SANITIZED = os.environ.get('WEFT_SANITIZED') == '1'
LONG = os.environ.get('WEFT_TEST_LONG') == '1'
PATIENCE_S = 60 if SANITIZED else 20  # what may take a moment is a failure only after this
READY = re.compile(r'^listening on (.+):(\d+)$')

soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def program(variable):
    path = os.environ.get(variable)
    if not path:
        sys.exit(f'{variable} must name the program under test')
    return path


def run_to_end(*command, **options):
    """Runs a command that is expected to end by itself."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, **options)
    except subprocess.TimeoutExpired as slow:
        raise AssertionError(f'it still runs after {PATIENCE_S} s; it said: {slow.stdout} {slow.stderr}') from None


class Daemon:
    """A running daemon. As a context manager it is stopped at the end and must have ended well."""

    def __init__(self, path, *flags, listen=('127.0.0.1:0',), preexec=None):
        command = [path]
        for address in listen:
            command += ['--listen', address]
        self.process = subprocess.Popen(command + list(flags), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, preexec_fn=preexec)
        self.pid = self.process.pid
        self.lines = []
        self.addresses = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._await_ready(len(listen))
        except BaseException:
            self.kill()
            raise

    def _read(self):
        for raw in self.process.stderr:
            line = raw.decode(errors='replace').rstrip('\n')
            with self._changed:
                self.lines.append(line)
                if match := READY.match(line):
                    self.addresses.append((match[1].strip('[]'), int(match[2])))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _await_ready(self, count):
        with self._changed:
            self._changed.wait_for(lambda: len(self.addresses) >= count or self._ended, PATIENCE_S)
            if len(self.addresses) < count:
                raise AssertionError('the daemon does not get ready; it said:\n' + '\n'.join(self.lines))

    @property
    def address(self):
        return self.addresses[0]

    @property
    def url(self):
        host, port = self.address
        return f'http://{"[" + host + "]" if ":" in host else host}:{port}'

    def connect(self, timeout_s=PATIENCE_S, address=None):
        sock = socket.create_connection(address or self.address, timeout=timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    # --- what it uses

    def rss_bytes(self):
        with open(f'/proc/{self.pid}/smaps_rollup', encoding='ascii') as rollup:
            return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith('Rss:'))

    def cpu_s(self):
        with open(f'/proc/{self.pid}/stat', encoding='ascii') as stat:
            fields = stat.read().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.pid}/fd'))

    # --- how it ends

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def await_exit(self, within_s=PATIENCE_S):
        """Waits for the end and asserts that it was a good one."""
        try:
            status = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f'the daemon has not ended after {within_s} s; it said:\n' +
                                 '\n'.join(self.lines)) from None
        self._reader.join(PATIENCE_S)
        self.process.stderr.close()
        if status != 0:
            raise AssertionError(f'exit status {status}; the daemon said:\n' + '\n'.join(self.lines))

    def stop(self):
        self.signal()
        self.await_exit()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(PATIENCE_S)
        self.process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None and self.process.poll() is None:
            self.stop()
        elif kind is None:
            self.await_exit()  # it should have lived until now, or have been awaited: its status tells
        else:
            self.kill()


class DaemonTest(unittest.TestCase):
    """Tests that share one daemon. A subclass names its program and, if need be, its flags."""
    variable = None
    flags = ('--workers', '1')

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(program(cls.variable), *cls.flags)
        cls.addClassCleanup(cls._stop)

    @classmethod
    def _stop(cls):
        if cls.daemon.process.poll() is None:
            cls.daemon.stop()
        else:
            cls.daemon.await_exit()

    def connect(self):
        sock = self.daemon.connect()
        self.addCleanup(sock.close)
        return sock


# --- pieces that tests of sockets share


def receive_exactly(sock, count):
    parts = []
    while count:
        part = sock.recv(min(count, 1 << 20))
        if not part:
            raise AssertionError(f'the peer closed {count} bytes early')
        parts.append(part)
        count -= len(part)
    return b''.join(parts)


def receive_to_end(sock):
    parts = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b''.join(parts)


def send_in_background(sock, data, then=None):
    """Sends while the caller receives, so that neither waits for the other."""
    def work():
        sock.sendall(data)
        if then:
            then()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def reset(sock):
    """Closes with a reset instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()


def data_segments_received(sock):
    """tcpi_data_segs_in: how many pieces with data the peer has sent, roughly one per send on the loopback."""
    return struct.unpack_from('I', sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152)[0]


def eventually(condition, within_s=PATIENCE_S):
    """Whether a condition becomes true in time."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def need_tool(name):
    if not shutil.which(name):
        raise unittest.SkipTest(f'{name} is not installed')


def open_files_possible():
    """How many connections a test may open and leave room for what else the two processes need."""
    return hard_limit - 200


def main():
    """unittest.main, but a program whose every test was skipped exits with 77, as Meson wants it."""
    result = unittest.main(module='__main__', exit=False, verbosity=2).result
    for test, reason in result.skipped:
        print(f'skipped: {test}: {reason}')
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun and len(result.skipped) == result.testsRun else 0)
