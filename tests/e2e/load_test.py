"""weft-http under load: no errors under wrk, memory that returns, idle connections that cost next to nothing."""
import re
import subprocess
import threading
import time
import unittest

import daemon
from http_client import Connection, get

KIB = 1024


def wrk(url, seconds, connections, threads=1):
    daemon.need_tool('wrk')
    done = subprocess.run(['wrk', f'-t{threads}', f'-c{connections}', f'-d{seconds}s', '--timeout', '5s', url],
                          capture_output=True, text=True, timeout=seconds + 60, check=True)
    return done.stdout


class Load(unittest.TestCase):
    def start(self, workers, *flags):
        running = daemon.Daemon(daemon.program('WEFT_HTTP'), '--workers', str(workers), *flags)
        self.addCleanup(running.kill)
        return running

    def assert_clean(self, report):
        self.assertNotIn('Socket errors', report)
        self.assertNotIn('Non-2xx', report)
        self.assertGreater(int(re.search(r'(\d+) requests in', report)[1]), 100)

    def test_wrk(self):
        """wrk with 64 connections sees no socket error and nothing but 200, on one worker and on two"""
        for workers in (1, 2):
            with self.subTest(workers=workers), self.start(workers) as running:
                self.assert_clean(wrk(running.url + '/hello', 2, 64))

    def test_wrk_with_more_connections(self):
        """The same with 512 connections"""
        with self.start(2) as running:
            self.assert_clean(wrk(running.url + '/hello', 2, 512))

    def test_short_connections(self):
        """Five hundred connections of one request each, from several clients at once, are all answered"""
        failures = []

        def client(running):
            try:
                for _ in range(125):
                    with running.connect() as sock:
                        if Connection(sock).ask(get('/hello', 'Connection: close')).body != b'Hello, World!':
                            failures.append('wrong body')
            except (OSError, EOFError) as error:
                failures.append(error)
        with self.start(2) as running:
            clients = [threading.Thread(target=client, args=[running]) for _ in range(4)]
            for thread in clients:
                thread.start()
            for thread in clients:
                thread.join()
        self.assertEqual(failures, [])

    @unittest.skipIf(daemon.SANITIZED, 'the memory of a sanitizer build says nothing')
    def test_memory_after_load(self):
        """The memory after a load is what it was after its first second"""
        seconds = 600 if daemon.LONG else 4
        with self.start(2) as running:
            report = []
            load = threading.Thread(target=lambda: report.append(wrk(running.url + '/hello', seconds, 64)))
            load.start()
            time.sleep(1)
            early = running.rss_bytes()
            load.join()
            self.assert_clean(report[0])
            late = running.rss_bytes()
            print(f'RSS after the first second {early // KIB} KiB, after the load {late // KIB} KiB')
            self.assertLessEqual(late, early * 1.1 + 512 * KIB)

    def test_enters(self):
        """At one connection a request costs one io_uring_enter: what is sent and what is awaited go together"""
        count = 2000
        with self.start(1, '--stats') as running:
            with running.connect() as sock:
                connection = Connection(sock)
                for _ in range(count):
                    connection.ask(get('/hello'))
        stats = next((line for line in running.lines if line.startswith('stats:')), '')
        values = {name: int(value) for name, value in re.findall(r'(\w+)=(\d+)', stats)}
        self.assertEqual(values.get('requests'), count, running.lines)
        self.assertLessEqual(values['enters'] / count, 1.1)

    def test_idle_cpu(self):
        """A daemon with nothing to do uses no CPU, also after a load and with connections that stay open"""
        with self.start(2) as running:
            self.assert_clean(wrk(running.url + '/hello', 1, 64))
            socks = [running.connect() for _ in range(50)]
            for sock in socks:
                Connection(sock).ask(get('/hello'))
            time.sleep(1)
            before = running.cpu_s()
            time.sleep(2)
            self.assertLessEqual(running.cpu_s() - before, 0.1)
            for sock in socks:
                sock.close()

    @unittest.skipIf(daemon.SANITIZED, 'the memory of a sanitizer build says nothing')
    def test_client_that_does_not_read(self):
        """A client that pipelines requests and reads no answer is held back and costs no memory"""
        with self.start(1) as running:
            with running.connect() as sock:
                Connection(sock).ask(get('/hello'))
            before = running.rss_bytes()
            batch = get('/hello') * 1000
            with running.connect(timeout_s=2) as sock:
                sent = 0
                try:
                    while sent < 64 * KIB * KIB:
                        sent += sock.send(batch)
                    self.fail('nothing held the client back')
                except TimeoutError:
                    pass
                self.assertLessEqual(running.rss_bytes() - before, 4 * KIB * KIB)
                with running.connect() as other:
                    self.assertEqual(Connection(other).ask(get('/hello')).status, 200)
                daemon.reset(sock)

    def test_idle_connections(self):
        """Thousands of idle keep-alive connections cost at most 8 KiB of RSS each, and the daemon still answers"""
        count = min(10_000 if daemon.LONG else 2000, daemon.open_files_possible())
        if daemon.SANITIZED:
            count = min(count, 500)
        with self.start(1) as running:
            for _ in range(50):  # what the first connections cost once is not the cost of a connection
                with running.connect() as sock:
                    Connection(sock).ask(get('/hello'))
            before = running.rss_bytes()
            socks = []
            try:
                for _ in range(count):
                    socks.append(running.connect())
                    self.assertEqual(Connection(socks[-1]).ask(get('/hello')).status, 200)
                time.sleep(0.5)
                each = (running.rss_bytes() - before) / count
                print(f'{count} idle connections: {each:.0f} bytes of RSS each')
                if not daemon.SANITIZED:
                    self.assertLessEqual(each, 8 * KIB)
                with running.connect() as sock:
                    self.assertEqual(Connection(sock).ask(get('/hello')).status, 200)
                for sock in (socks[0], socks[-1]):
                    self.assertEqual(Connection(sock).ask(get('/hello')).status, 200)
            finally:
                for sock in socks:
                    sock.close()
            self.assertTrue(daemon.eventually(lambda: running.descriptors() < count), 'descriptors stay open')


if __name__ == '__main__':
    daemon.main()
