"""weft-echo, talked to over real sockets."""
import hashlib
import os
import socket
import threading
import time

import daemon

MIB = 1 << 20


class Echo(daemon.DaemonTest):
    variable = 'WEFT_ECHO'

    def assert_still_echoes(self):
        sock = self.connect()
        sock.sendall(b'still here')
        self.assertEqual(daemon.receive_exactly(sock, 10), b'still here')

    def test_one_byte(self):
        """One byte comes back, again and again"""
        sock = self.connect()
        for value in range(256):
            sock.sendall(bytes([value]))
            self.assertEqual(daemon.receive_exactly(sock, 1), bytes([value]))

    def test_one_mib(self):
        """A MiB comes back unchanged"""
        data = os.urandom(MIB)
        sock = self.connect()
        sender = daemon.send_in_background(sock, data)
        received = daemon.receive_exactly(sock, len(data))
        sender.join()
        self.assertTrue(received == data, 'the data came back changed')

    def test_many_connections(self):
        """Two hundred connections each get their own bytes back"""
        socks = [self.connect() for _ in range(200)]
        for round_number in range(3):
            for number, sock in enumerate(socks):
                sock.sendall(b'%06d %d' % (number, round_number))
            for number, sock in enumerate(socks):
                self.assertEqual(daemon.receive_exactly(sock, 8), b'%06d %d' % (number, round_number))

    def test_half_close(self):
        """A client that has finished sending gets the rest of its bytes, then the end"""
        data = os.urandom(300_000)
        sock = self.connect()
        daemon.send_in_background(sock, data, then=lambda: sock.shutdown(socket.SHUT_WR))
        self.assertTrue(daemon.receive_to_end(sock) == data, 'the data came back changed')

    def test_empty_connection(self):
        """A client that says nothing and goes is no event"""
        for _ in range(20):
            self.connect().close()
        self.assert_still_echoes()

    def test_reset(self):
        """Clients that reset, with and without data under way, harm nobody"""
        for size in (0, 1, 100_000):
            for _ in range(10):
                sock = self.connect()
                sock.sendall(bytes(size))
                daemon.reset(sock)
        self.assert_still_echoes()

    def test_backpressure(self):
        """A client that sends 64 MiB and reads nothing is held back, costs no memory, and then gets it all back"""
        size = 64 * MIB
        piece = os.urandom(MIB)
        self.assert_still_echoes()
        before = self.daemon.rss_bytes()
        sock = self.connect()
        sent = [0]

        def send():
            while sent[0] < size:
                sent[0] += sock.send(memoryview(piece)[sent[0] % MIB:])
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        seen = -1
        while seen != sent[0]:  # until it makes no progress for a while
            seen = sent[0]
            time.sleep(0.5)
        self.assertLess(seen, size, 'nothing held the sender back')
        if not daemon.SANITIZED:
            self.assertLess(self.daemon.rss_bytes() - before, 4 * MIB)
        self.assert_still_echoes()  # the others do not notice

        expected, received = hashlib.sha256(), hashlib.sha256()
        for _ in range(size // MIB):
            expected.update(piece)
            received.update(daemon.receive_exactly(sock, MIB))
        sender.join(daemon.PATIENCE_S)
        self.assertEqual(received.digest(), expected.digest())
        if not daemon.SANITIZED:
            self.assertLess(self.daemon.rss_bytes() - before, 4 * MIB)

    def test_descriptors_return(self):
        """Connections that have ended leave no descriptor behind"""
        self.assert_still_echoes()
        time.sleep(0.2)
        before = self.daemon.descriptors()
        socks = [self.daemon.connect() for _ in range(50)]
        for number, sock in enumerate(socks):
            sock.sendall(b'data')
            daemon.reset(sock) if number % 2 else sock.close()
        self.assertTrue(daemon.eventually(lambda: self.daemon.descriptors() <= before), 'descriptors stay open')


class EchoOnTwoWorkers(Echo):
    """The same behaviour on two workers."""
    flags = ('--workers', '2')


if __name__ == '__main__':
    daemon.main()
