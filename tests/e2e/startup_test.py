"""How both daemons start, and how they refuse to: flags, addresses, what is missing."""
import os
import re
import resource
import signal
import socket
import sys
import unittest

import daemon
from http_client import Connection, get

WITHOUT_IO_URING = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'without_io_uring.py')


class StartUp:
    """The behaviour that both daemons share; a subclass names the program and says how one sees that it serves."""

    def start(self, *flags, **options):
        running = daemon.Daemon(self.program, *flags, **options)
        self.addCleanup(running.kill)
        return running

    def assert_refuses(self, statuses, *command):
        """It ends by itself with one of the statuses and one clear line."""
        done = daemon.run_to_end(*command)
        self.assertIn(done.returncode, statuses, done.stderr)
        self.assertEqual(done.stdout, '')
        lines = [line for line in done.stderr.splitlines() if line]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertNotRegex(done.stderr, r'terminate called|#0|what\(\)')
        return lines[0]

    def test_help(self):
        """--help lists the flags on stdout and exits with 0"""
        done = daemon.run_to_end(self.program, '--help')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        for flag in ('--listen', '--workers', '--cpus', '--version', 'SIGUSR2'):
            self.assertIn(flag, done.stdout)

    def test_version(self):
        """--version is one line on stdout, exit status 0"""
        done = daemon.run_to_end(self.program, '--version')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertRegex(done.stdout, r'^\S.*\d+\.\d+\.\d+\n$')

    def test_ready_line(self):
        """On readiness there is exactly one line `listening on ADDRESS:PORT`, with the real port"""
        with self.start() as running:
            self.assert_serves(running.address)
            host, port = running.address
            self.assertEqual(host, '127.0.0.1')
            self.assertGreater(port, 0)
        self.assertEqual([line for line in running.lines if 'listening on' in line], [f'listening on 127.0.0.1:{port}'])

    def test_ipv6(self):
        """It listens on IPv6"""
        if not socket.has_ipv6 or not os.path.exists('/proc/net/if_inet6'):
            self.skipTest('no IPv6 here')
        with self.start(listen=['[::1]:0']) as running:
            self.assertEqual(running.address[0], '::1')
            self.assertTrue(any(line.startswith('listening on [::1]:') for line in running.lines))
            self.assert_serves(running.address)

    def test_two_addresses(self):
        """Two --listen flags: both addresses are announced and served"""
        with self.start('--workers', '2', listen=['127.0.0.1:0', '127.0.0.2:0']) as running:
            self.assertEqual({host for host, _ in running.addresses}, {'127.0.0.1', '127.0.0.2'})
            for address in running.addresses:
                for _ in range(4):
                    self.assert_serves(address)

    def test_port_that_was_given(self):
        """A free port that is asked for is the one that it listens on, also right after a previous run"""
        with self.start() as running:
            self.assert_serves(running.address)
            port = running.address[1]
        with self.start(listen=[f'127.0.0.1:{port}']) as running:
            self.assertEqual(running.address[1], port)

    def test_cpus(self):
        """--cpus keeps its workers on those CPUs"""
        cpu = min(os.sched_getaffinity(0))
        with self.start('--workers', '1', '--cpus', str(cpu)) as running:
            self.assert_serves(running.address)
            pinned = [task for task in os.listdir(f'/proc/{running.pid}/task')
                      if os.sched_getaffinity(int(task)) == {cpu}]
            self.assertTrue(pinned, 'no thread is pinned')

    def test_bad_flag(self):
        """A flag that does not exist: one line that names it, exit status 2"""
        self.assertIn('--no-such-flag', self.assert_refuses([2], self.program, '--no-such-flag'))

    def test_bad_value(self):
        """A value that makes no sense: one line, exit status 2"""
        for flags in (('--workers', 'many'), ('--workers', '-1'), ('--cpus', 'first'), ('--workers',)):
            with self.subTest(flags=flags):
                self.assert_refuses([2], self.program, '--listen', '127.0.0.1:0', *flags)

    def test_bad_address(self):
        """An address that is none: one line that quotes it, exit status 1 or 2"""
        for address in ('nonsense', '127.0.0.1', '127.0.0.1:', '127.0.0.1:x', '127.0.0.1:65536', '127.0.0.1:-1',
                        '[::1:80', '300.1.1.1:80'):
            with self.subTest(address=address):
                self.assertIn(address, self.assert_refuses([1, 2], self.program, '--listen', address))

    def test_foreign_address(self):
        """An address that this machine does not have: one line, exit status 1"""
        self.assertIn('192.0.2.1', self.assert_refuses([1], self.program, '--listen', '192.0.2.1:0'))

    def test_port_in_use(self):
        """A port in use: one line that names it, exit status 1"""
        with socket.create_server(('127.0.0.1', 0)) as taken:
            port = taken.getsockname()[1]
            line = self.assert_refuses([1], self.program, '--listen', f'127.0.0.1:{port}')
            self.assertIn(str(port), line)
            self.assertIn('in use', line)

    def test_port_in_use_by_its_like(self):
        """A second daemon on the port of the first is refused, not silently given a share of its connections"""
        with self.start() as running:
            self.assertIn('in use', self.assert_refuses([1], self.program, '--listen', f'127.0.0.1:{running.address[1]}'))

    def test_cpu_that_does_not_exist(self):
        """A CPU that the machine does not have: one line, exit status 1 or 2"""
        self.assertIn('4000', self.assert_refuses([1, 2], self.program, '--listen', '127.0.0.1:0', '--cpus', '4000'))

    @unittest.skipIf(daemon.SANITIZED, 'the sanitizer\'s runtime wants system calls of its own')
    def test_no_io_uring(self):
        """Where io_uring is forbidden: one line that names it, exit status 1"""
        self.assertIn('io_uring', self.assert_refuses(
            [1], sys.executable, WITHOUT_IO_URING, self.program, '--listen', '127.0.0.1:0'))

    def test_out_of_descriptors(self):
        """A daemon that runs out of descriptors keeps its connections and serves new ones when some are free again"""
        def few():
            resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
        with self.start('--workers', '1', preexec=few) as running:
            first = running.connect()
            socks = [running.connect() for _ in range(150)]
            first.close()
            for sock in socks:
                sock.close()
            self.assert_serves(running.address)

    @unittest.skipIf(daemon.SANITIZED, 'ThreadSanitizer keeps signals from a thread for as long as it waits in the kernel')
    def test_list_of_fibers(self):
        """SIGUSR2: each connection's fiber is listed on stderr, with what it waits for; the daemon serves on"""
        with self.start('--workers', '1') as running:
            connections = [running.connect() for _ in range(2)]
            def listed():
                return [line for line in running.lines if re.match(
                    r"weft: fiber \d+\.\d+ '.*' parked on worker 0 for \d+\.\d+ s, waiting for a receive", line)]
            def asked():
                running.signal(signal.SIGUSR2)
                return len(listed()) >= 2
            self.assertTrue(daemon.eventually(asked), running.lines)
            self.assertTrue(any(re.match(r'weft: \d+ fibers on 1 workers$', line) for line in running.lines), running.lines)
            for connection in connections:
                self.assert_serves(running.address)
                connection.close()

    def test_interrupt(self):
        """SIGINT ends it like SIGTERM, with exit status 0"""
        running = self.start()
        running.signal(2)
        running.await_exit()


class HttpStartUp(StartUp, unittest.TestCase):
    program = daemon.program('WEFT_HTTP')

    def assert_serves(self, address):
        with socket.create_connection(address, daemon.PATIENCE_S) as sock:
            self.assertEqual(Connection(sock).ask(get('/hello')).body, b'Hello, World!')


class EchoStartUp(StartUp, unittest.TestCase):
    program = daemon.program('WEFT_ECHO')

    def assert_serves(self, address):
        with socket.create_connection(address, daemon.PATIENCE_S) as sock:
            sock.sendall(b'hello')
            self.assertEqual(daemon.receive_exactly(sock, 5), b'hello')


if __name__ == '__main__':
    daemon.main()
