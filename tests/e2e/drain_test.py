"""How the daemons stop: what is under way is answered, what is idle is closed with a FIN, and the end is near."""
import socket
import time
import unittest

import daemon
from http_client import Connection, get, post

HELLO = b'Hello, World!'
DEADLINE_S = 15 * (3 if daemon.SANITIZED else 1)  # with nothing under way the end comes long before


class HttpDrain(unittest.TestCase):
    workers = '1'

    def setUp(self):
        self.daemon = daemon.Daemon(daemon.program('WEFT_HTTP'), '--workers', self.workers)
        self.addCleanup(self.daemon.kill)

    def open(self):
        sock = self.daemon.connect()
        self.addCleanup(sock.close)
        return Connection(sock)

    def refuses_connections(self):
        try:
            self.daemon.connect(timeout_s=1).close()
        except OSError:
            return True
        return False

    def test_nothing_to_drain(self):
        """Without connections SIGTERM ends it at once, with exit status 0"""
        started = time.monotonic()
        self.daemon.signal()
        self.daemon.await_exit()
        self.assertLess(time.monotonic() - started, DEADLINE_S / 3)

    def test_idle_connection(self):
        """An idle keep-alive connection is closed with a FIN, not with a reset"""
        connection = self.open()
        self.assertEqual(connection.ask(get('/hello')).body, HELLO)
        self.daemon.signal()
        self.assertEqual(connection.read_to_end(), b'')
        connection.sock.close()
        self.daemon.await_exit(DEADLINE_S)

    def test_silent_connection(self):
        """A connection on which nothing was ever sent is closed with a FIN too"""
        connection = self.open()
        self.open().ask(get('/hello'))
        self.daemon.signal()
        self.assertEqual(connection.read_to_end(), b'')
        connection.sock.close()
        self.daemon.await_exit(DEADLINE_S)

    def test_peer_that_never_closes(self):
        """A peer that does not close its side in turn does not keep the daemon alive"""
        connection = self.open()
        connection.ask(get('/hello'))
        self.daemon.signal()
        self.assertEqual(connection.read_to_end(), b'')
        self.daemon.await_exit(DEADLINE_S)

    def test_upload_under_way(self):
        """A slow upload that was under way is completed, answered and closed"""
        connection = self.open()
        request = post('/echo', b'x' * 3000)
        connection.send(request[:-3000])
        time.sleep(0.1)
        self.daemon.signal()
        for _ in range(6):
            time.sleep(0.25)
            connection.send(b'x' * 500)
        answer = connection.read()
        self.assertEqual((answer.status, answer.body), (200, b'x' * 3000))
        self.assertTrue(answer.closes())
        self.assertEqual(connection.read_to_end(), b'')
        connection.sock.close()
        self.daemon.await_exit(DEADLINE_S)

    def test_header_under_way(self):
        """A request whose header was under way is completed and answered"""
        connection = self.open()
        request = get('/hello')
        connection.send(request[:20])
        time.sleep(0.1)
        self.daemon.signal()
        time.sleep(0.3)
        answer = connection.ask(request[20:])
        self.assertEqual((answer.status, answer.body), (200, HELLO))
        self.assertTrue(answer.closes())

    def test_request_during_the_drain(self):
        """What still arrives on a keep-alive connection is answered with Connection: close"""
        connection = self.open()
        self.assertFalse(connection.ask(get('/hello')).closes())
        self.daemon.signal()
        answer = connection.ask(get('/hello'))
        while not answer.closes():  # it may take a moment until the signal has gone round
            self.assertEqual((answer.status, answer.body), (200, HELLO))
            answer = connection.ask(get('/hello'))
        self.assertEqual((answer.status, answer.body), (200, HELLO))
        self.assertEqual(connection.read_to_end(), b'')

    def test_busy_connections(self):
        """Of clients that ask without a pause, each gets an answer to its last request: none is dropped"""
        connections = [self.open() for _ in range(20)]
        for connection in connections:
            connection.ask(get('/hello'))
        for connection in connections:
            connection.send(get('/hello'))
        self.daemon.signal()
        for connection in connections:
            while not connection.read().closes():
                connection.send(get('/hello'))
            self.assertEqual(connection.read_to_end(), b'')
            connection.sock.close()
        self.daemon.await_exit(DEADLINE_S)

    def test_no_new_connections(self):
        """While it drains, new connections are refused"""
        connection = self.open()
        connection.send(post('/echo', b'abc')[:-1])
        time.sleep(0.1)
        self.daemon.signal()
        self.assertTrue(daemon.eventually(self.refuses_connections, 3))
        self.assertEqual(connection.ask(b'c').body, b'abc')

    def test_second_signal(self):
        """A second SIGTERM does not wait for an upload that does not come: exit status 0 at once"""
        connection = self.open()
        connection.send(post('/echo', b'abc')[:-1])
        time.sleep(0.1)
        self.daemon.signal()
        time.sleep(0.5)
        self.assertIsNone(self.daemon.process.poll(), 'it did not wait for the upload')
        self.daemon.signal()
        self.daemon.await_exit(5)

    def test_many_idle_connections(self):
        """Two hundred idle connections are all closed with a FIN, and the daemon ends"""
        connections = [self.open() for _ in range(200)]
        for connection in connections:
            connection.ask(get('/healthz'))
        self.daemon.signal()
        for connection in connections:
            self.assertEqual(connection.read_to_end(), b'')
            connection.sock.close()
        self.daemon.await_exit(DEADLINE_S)


class HttpDrainOnTwoWorkers(HttpDrain):
    """The same behaviour on two workers."""
    workers = '2'


class EchoDrain(unittest.TestCase):
    def setUp(self):
        self.daemon = daemon.Daemon(daemon.program('WEFT_ECHO'), '--workers', '2')
        self.addCleanup(self.daemon.kill)

    def test_idle_connections(self):
        """Idle connections are closed with a FIN, and the daemon ends"""
        socks = [self.daemon.connect() for _ in range(20)]
        for sock in socks:
            self.addCleanup(sock.close)
            sock.sendall(b'hello')
            self.assertEqual(daemon.receive_exactly(sock, 5), b'hello')
        self.daemon.signal()
        for sock in socks:
            self.assertEqual(daemon.receive_to_end(sock), b'')
            sock.close()
        self.daemon.await_exit(DEADLINE_S)

    def test_client_that_does_not_read(self):
        """A client that sends and does not read cannot keep the daemon beyond the second signal"""
        sock = self.daemon.connect(timeout_s=1)
        self.addCleanup(sock.close)
        try:
            while True:
                sock.send(bytes(1 << 20))
        except socket.timeout:
            pass
        self.daemon.signal()
        time.sleep(0.2)
        if self.daemon.process.poll() is None:
            self.daemon.signal()
        self.daemon.await_exit(5)


if __name__ == '__main__':
    daemon.main()
