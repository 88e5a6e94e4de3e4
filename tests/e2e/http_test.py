"""weft-http, talked to over real sockets: its routes, its errors and what HTTP says about a connection."""
import datetime
import os
import socket
import subprocess
import time

import daemon
from http_client import Connection, get, post, post_chunked

MIB = 1 << 20
HELLO = b'Hello, World!'


class HttpTest(daemon.DaemonTest):
    variable = 'WEFT_HTTP'

    def open(self):
        return Connection(self.connect())

    def ask(self, request, head=False):
        """One request on a connection of its own."""
        return self.open().ask(request, head)

    def assert_closed_without_reset(self, connection):
        self.assertEqual(connection.read_to_end(), b'')

    def assert_still_serves(self):
        self.assertEqual(self.ask(get('/hello')).body, HELLO)


class Routes(HttpTest):
    def curl(self, *arguments):
        daemon.need_tool('curl')
        done = subprocess.run(['curl', '-sS', '--max-time', str(daemon.PATIENCE_S), *arguments],
                              capture_output=True, timeout=2 * daemon.PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_page(self):
        """GET / is a small page that says what this is"""
        answer = self.ask(get('/'))
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.header('content-type').startswith('text/html'), answer.headers)
        self.assertIn(b'weft', answer.body)

    def test_hello(self):
        """GET /hello is exactly `Hello, World!` in text/plain, with Date, Server and Content-Length"""
        answer = self.ask(get('/hello'))
        self.assertEqual((answer.version, answer.status, answer.reason), ('HTTP/1.1', 200, 'OK'))
        self.assertEqual(answer.body, HELLO)
        self.assertEqual(answer.header('content-type').split(';')[0], 'text/plain')
        self.assertEqual(answer.header('content-length'), '13')
        self.assertTrue(answer.header('server'))
        self.assertIsNone(answer.header('connection'))

    def test_date(self):
        """Date is an IMF-fixdate and tells the present time"""
        answer = self.ask(get('/hello'))
        self.assertRegex(answer.header('date'), r'^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|'
                                                r'Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT$')
        self.assertLess(abs((answer.date() - datetime.datetime.now(datetime.timezone.utc)).total_seconds()), 3)

    def test_date_moves_on(self):
        """Date is not frozen at start-up, also on a connection that stays open"""
        connection = self.open()
        first = connection.ask(get('/hello')).date()
        time.sleep(2.1)
        self.assertGreaterEqual((connection.ask(get('/hello')).date() - first).total_seconds(), 1)

    def test_healthz(self):
        """GET /healthz is `ok`"""
        answer = self.ask(get('/healthz'))
        self.assertEqual((answer.status, answer.body), (200, b'ok'))

    def test_query(self):
        """A query does not change the route"""
        self.assertEqual(self.ask(get('/hello?name=value&x')).body, HELLO)

    def test_absolute_target(self):
        """A request target in absolute form is routed by its path"""
        self.assertEqual(self.ask(get('http://test/hello')).body, HELLO)

    def test_curl(self):
        """curl gets every route right"""
        url = self.daemon.url
        self.assertIn(b'weft', self.curl(url + '/'))
        self.assertEqual(self.curl(url + '/hello'), HELLO)
        self.assertEqual(self.curl('--http1.0', url + '/hello'), HELLO)
        self.assertEqual(self.curl(url + '/healthz'), b'ok')
        self.assertEqual(self.curl('--data-binary', 'some text', url + '/echo'), b'some text')
        self.assertIn(b'200', self.curl('-I', url + '/hello').split(b'\r\n')[0])
        self.assertEqual(self.curl('-o', '/dev/null', '-w', '%{http_code}', url + '/nothing'), b'404')

    def test_curl_upload(self):
        """curl gets a MiB back, sent with its length (which makes curl wait for 100 Continue) and sent in chunks"""
        body = os.urandom(MIB)
        for extra in ((), ('-H', 'Transfer-Encoding: chunked')):
            with self.subTest(extra=extra):
                daemon.need_tool('curl')
                done = subprocess.run(['curl', '-sS', '--data-binary', '@-', *extra, self.daemon.url + '/echo'],
                                      input=body, capture_output=True, timeout=2 * daemon.PATIENCE_S)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(done.stdout, body)


class Bodies(HttpTest):
    def test_small(self):
        """POST /echo answers the body"""
        answer = self.ask(post('/echo', b'abc'))
        self.assertEqual((answer.status, answer.body), (200, b'abc'))

    def test_empty(self):
        """An empty body and a POST that announces none are answered with an empty body"""
        for request in (post('/echo', b''), get('/echo', method='POST'), post_chunked('/echo', [])):
            with self.subTest(request=request):
                answer = self.ask(request)
                self.assertEqual((answer.status, answer.body), (200, b''))

    def large(self, request, body):
        connection = self.open()
        sender = daemon.send_in_background(connection.sock, request)
        answer = connection.read()
        sender.join()
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.body == body, 'the body came back changed')
        self.assertEqual(connection.ask(get('/hello')).body, HELLO)

    def test_one_mib(self):
        """A body of exactly 1 MiB comes back, and the connection goes on"""
        body = os.urandom(MIB)
        self.large(post('/echo', body), body)

    def test_one_mib_chunked(self):
        """A chunked body of exactly 1 MiB in chunks of every size comes back, and the connection goes on"""
        body = os.urandom(MIB)
        chunks, at, size = [], 0, 1
        while at < len(body):
            chunks.append(body[at:at + size])
            at, size = at + size, size * 2 + 1 if size < 60000 else 1
        self.large(post_chunked('/echo', chunks), body)

    def test_chunked_with_extensions_and_trailers(self):
        """Chunk extensions and trailer fields are understood and are not part of the body"""
        answer = self.ask(get('/echo', 'Transfer-Encoding: chunked', method='POST') +
                          b'3;name=value\r\nabc\r\n2;quoted="x;y"\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n')
        self.assertEqual((answer.status, answer.body), (200, b'abcde'))

    def test_byte_by_byte(self):
        """A request that arrives in single bytes is answered like any other"""
        for request in (post('/echo', b'slowly'), post_chunked('/echo', [b'slo', b'wly'])):
            with self.subTest(request=request):
                connection = self.open()
                for at in range(len(request)):
                    connection.send(request[at:at + 1])
                    time.sleep(0.0005)
                self.assertEqual(connection.read().body, b'slowly')

    def test_body_after_a_pause(self):
        """A body that comes a while after its header is awaited"""
        connection = self.open()
        request = post('/echo', b'patience')
        connection.send(request[:-8])
        time.sleep(0.3)
        connection.send(request[-8:])
        self.assertEqual(connection.read().body, b'patience')

    def test_expect_continue(self):
        """Expect: 100-continue is answered with 100 before the body is sent"""
        connection = self.open()
        interim = connection.ask(get('/echo', 'Content-Length: 4', 'Expect: 100-continue', method='POST'))
        self.assertEqual((interim.status, interim.headers), (100, []))
        answer = connection.ask(b'body')
        self.assertEqual((answer.status, answer.body), (200, b'body'))

    def test_expect_continue_with_the_body_at_once(self):
        """A client that does not wait for 100 Continue gets its answer all the same"""
        connection = self.open()
        answer = connection.ask(post('/echo', b'body', 'Expect: 100-continue'))
        if answer.status == 100:
            answer = connection.read()
        self.assertEqual((answer.status, answer.body), (200, b'body'))

    def test_expect_continue_too_large(self):
        """Expect: 100-continue with a body that will not be taken is answered with 413 at once"""
        answer = self.ask(get('/echo', f'Content-Length: {MIB + 1}', 'Expect: 100-continue', method='POST'))
        self.assertEqual(answer.status, 413)


class Methods(HttpTest):
    def test_head(self):
        """HEAD has the header of GET and no body, and the connection goes on"""
        connection = self.open()
        for path in ('/', '/hello', '/healthz'):
            head = connection.ask(get(path, method='HEAD'), head=True)
            answer = connection.ask(get(path))
            self.assertEqual(head.status, 200)
            for name in ('content-length', 'content-type', 'server'):
                self.assertEqual(head.header(name), answer.header(name))

    def test_head_of_an_error(self):
        """HEAD of an unknown path is a 404 without a body, and the connection goes on"""
        connection = self.open()
        self.assertEqual(connection.ask(get('/nothing', method='HEAD'), head=True).status, 404)
        self.assertEqual(connection.ask(get('/hello')).body, HELLO)

    def test_not_found(self):
        """An unknown path is 404, and the connection goes on"""
        connection = self.open()
        self.assertEqual(connection.ask(get('/nothing')).status, 404)
        self.assertEqual(connection.ask(get('/hello/')).status, 404)
        self.assertEqual(connection.ask(get('/hello')).body, HELLO)

    def test_method_not_allowed(self):
        """A known method on the wrong route is 405 with Allow, and the connection goes on, past the body"""
        connection = self.open()
        answer = connection.ask(post('/hello', b'ignored'))
        self.assertEqual(answer.status, 405)
        allowed = {method.strip() for method in answer.header('allow').split(',')}
        self.assertIn('GET', allowed)
        self.assertIn('HEAD', allowed)
        self.assertNotIn('POST', allowed)
        answer = connection.ask(get('/echo'))
        self.assertEqual(answer.status, 405)
        self.assertIn('POST', answer.header('allow'))
        self.assertEqual(connection.ask(get('/hello', method='DELETE')).status, 405)
        self.assertEqual(connection.ask(get('/hello')).body, HELLO)

    def test_unknown_method(self):
        """A method that nobody knows is 501"""
        self.assertEqual(self.ask(get('/hello', method='BREW')).status, 501)


MALFORMED = [
    # bytes, why
    (b'GET\r\n\r\n', 'no target'),
    (b'GET /hello\r\n\r\n', 'no version'),
    (b'GET /hello HTTP/1.1 more\r\nHost: t\r\n\r\n', 'something after the version'),
    (b'GET /hello HTTX/1.1\r\nHost: t\r\n\r\n', 'not HTTP'),
    (b'GET /hello http/1.1\r\nHost: t\r\n\r\n', 'the name is case-sensitive'),
    (b'GET hello HTTP/1.1\r\nHost: t\r\n\r\n', 'a target in no known form'),
    (b'GET /he\x01llo HTTP/1.1\r\nHost: t\r\n\r\n', 'a control character in the target'),
    (b'G(T /hello HTTP/1.1\r\nHost: t\r\n\r\n', 'a delimiter in the method'),
    (b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n', 'TLS'),
    (b'GET /hello HTTP/1.1\r\n\r\n', 'no Host'),
    (b'GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 'two Hosts'),
    (b'GET /hello HTTP/1.1\r\nHost : t\r\n\r\n', 'a space before the colon'),
    (b'GET /hello HTTP/1.1\r\nHost: t\r\nNo colon\r\n\r\n', 'no colon'),
    (b'GET /hello HTTP/1.1\r\nHost: t\r\n: no name\r\n\r\n', 'no name'),
    (b'GET /hello HTTP/1.1\r\nHost: t\r\nX: a\r\n b\r\n\r\n', 'a folded line'),
    (b'GET /hello HTTP/1.1\r\nHost: t\r\nX: a\x00b\r\n\r\n', 'NUL in a value'),
    (b'GET /hello HTTP/1.1\r\nHost: t\r\nX: a\rb\r\n\r\n', 'a bare CR in a value'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n', 'a negative length'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: +1\r\n\r\na', 'a signed length'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 0x1\r\n\r\na', 'a hexadecimal length'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1 2\r\n\r\na', 'two numbers'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab', 'two lengths that differ'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
     'a length and chunks: the smuggler\'s pair'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n', 'a signed chunk size'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\r\n', 'no chunk size'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n', 'a chunk beyond its size'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na', 'a size that overflows'),
    (b'POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n', 'chunked is not last'),
]


class Refusals(HttpTest):
    def refused(self, request, *statuses):
        """Sends a request that is refused; what follows must not be read as another request."""
        connection = self.open()
        connection.send(request)
        answer = connection.read()
        self.assertIn(answer.status, statuses, answer.body)
        self.assertTrue(answer.closes(), answer.headers)
        self.assert_closed_without_reset(connection)
        return answer

    def test_malformed(self):
        """A malformed request is 400 and ends the connection without a reset"""
        for request, why in MALFORMED:
            with self.subTest(why=why):
                self.refused(request, *((400, 501) if b'identity' in request else (400,)))

    def test_smuggled_request_is_not_served(self):
        """What follows a malformed request is not answered"""
        connection = self.open()
        connection.send(b'GET /hello HTTP/1.1\r\nHost : t\r\n\r\n' + get('/hello'))
        self.assertEqual(connection.read().status, 400)
        self.assert_closed_without_reset(connection)

    def test_too_large(self):
        """A body above 1 MiB is 413, and the client that sent all of it can still read that"""
        for request in (post('/echo', bytes(MIB + 1)), post_chunked('/echo', [bytes(65536)] * 17)):
            with self.subTest(start=request[:80]):
                connection = self.open()
                sender = daemon.send_in_background(connection.sock, request)
                self.assertEqual(connection.read().status, 413)
                sender.join()

    def test_target_too_long(self):
        """A target of 100 KiB is 414"""
        self.refused(get('/' + 'a' * 100_000), 414)

    def test_header_too_large(self):
        """A header line of 100 KiB and ten thousand header lines are 431"""
        self.refused(get('/hello', 'X: ' + 'a' * 100_000), 431)
        self.refused(get('/hello', *(f'X{i}: {i}' for i in range(10_000))), 431)

    def test_endless_header_line(self):
        """A header that never ends is refused before it ends"""
        connection = self.open()
        connection.send(b'GET /hello HTTP/1.1\r\nHost: t\r\nX: ' + b'a' * 200_000)
        self.assertEqual(connection.read().status, 431)

    def test_unknown_transfer_coding(self):
        """A transfer coding that is not implemented is 501"""
        self.refused(get('/echo', 'Transfer-Encoding: gzip, chunked', method='POST') + b'0\r\n\r\n', 501)

    def test_unknown_version(self):
        """Another major version is 505"""
        for version in ('HTTP/2.0', 'HTTP/3.0'):
            with self.subTest(version=version):
                self.refused(get('/hello', 'Host: t', version=version), 505)

    def test_errors_have_the_usual_header(self):
        """Errors carry Date, Server and Content-Length too"""
        for request in (get('/nothing'), b'GET\r\n\r\n'):
            with self.subTest(request=request):
                answer = self.ask(request)
                for name in ('date', 'server', 'content-length'):
                    self.assertIsNotNone(answer.header(name), name)


class Connections(HttpTest):
    def test_keep_alive(self):
        """A thousand requests go over one connection"""
        connection = self.open()
        for _ in range(1000):
            self.assertEqual(connection.ask(get('/hello')).body, HELLO)

    def test_connection_close(self):
        """Connection: close is honoured, answered in kind, in any case and in a list"""
        for value in ('close', 'Close', 'foo, close'):
            with self.subTest(value=value):
                connection = self.open()
                self.assertTrue(connection.ask(get('/hello', f'Connection: {value}')).closes())
                self.assert_closed_without_reset(connection)

    def test_nothing_after_close(self):
        """A request after one with Connection: close is not answered"""
        connection = self.open()
        connection.send(get('/hello', 'Connection: close') + get('/hello'))
        self.assertEqual(connection.read().body, HELLO)
        self.assert_closed_without_reset(connection)

    def test_http10(self):
        """HTTP/1.0 needs no Host, and its connection is closed after the answer"""
        connection = self.open()
        answer = connection.ask(get('/hello', version='HTTP/1.0'))
        self.assertEqual((answer.status, answer.body), (200, HELLO))
        self.assert_closed_without_reset(connection)

    def test_http10_keep_alive(self):
        """HTTP/1.0 with Connection: keep-alive stays open and is told so"""
        connection = self.open()
        for _ in range(3):
            answer = connection.ask(get('/hello', 'Connection: keep-alive', version='HTTP/1.0'))
            self.assertEqual(answer.body, HELLO)
            self.assertEqual((answer.header('connection') or '').lower(), 'keep-alive')

    def test_pipelining_order(self):
        """Sixteen requests in one write are all answered, in order"""
        requests, expected = [], []
        for number in range(16):
            if number % 4 == 3:
                requests.append(post('/echo', b'number %d' % number))
                expected.append((200, b'number %d' % number))
            else:
                path, status, body = [('/hello', 200, HELLO), ('/healthz', 200, b'ok'), ('/nothing', 404, None)][number % 4]
                requests.append(get(path))
                expected.append((status, body))
        connection = self.open()
        connection.send(b''.join(requests))
        for status, body in expected:
            answer = connection.read()
            self.assertEqual(answer.status, status)
            if body is not None:
                self.assertEqual(answer.body, body)

    def test_pipelining_batches(self):
        """The answers of one batch leave together"""
        fewest = 16
        for _ in range(5):  # the loopback may cut the batch in two: one good round is enough
            connection = self.open()
            connection.send(get('/hello') * 16)
            for _ in range(16):
                self.assertEqual(connection.read().body, HELLO)
            fewest = min(fewest, daemon.data_segments_received(connection.sock))
        self.assertLessEqual(fewest, 2)

    def test_deep_pipelining(self):
        """Two thousand requests in one write are all answered, although no buffer holds them"""
        connection = self.open()
        sender = daemon.send_in_background(connection.sock, get('/hello') * 2000)
        for _ in range(2000):
            self.assertEqual(connection.read().body, HELLO)
        sender.join()

    def test_split_between_requests(self):
        """Two requests and a half in one write, the other half later"""
        connection = self.open()
        request = get('/hello')
        connection.send(request * 2 + request[:20])
        self.assertEqual([connection.read().body, connection.read().body], [HELLO, HELLO])
        self.assertEqual(connection.ask(request[20:]).body, HELLO)

    def test_half_close(self):
        """A client that finishes sending after its requests still gets every answer, then the end"""
        connection = self.open()
        connection.send(get('/hello') * 3)
        connection.finish_sending()
        for _ in range(3):
            self.assertEqual(connection.read().body, HELLO)
        self.assert_closed_without_reset(connection)

    def test_half_close_within_a_request(self):
        """A client that finishes sending in the middle of a request is closed and harms nobody"""
        for part in (get('/hello')[:15], post('/echo', b'abc')[:-1]):
            with self.subTest(part=part):
                connection = self.open()
                connection.send(part)
                connection.finish_sending()
                connection.read_to_end()
        self.assert_still_serves()

    def test_empty_connection(self):
        """A client that says nothing and goes is no event"""
        for _ in range(20):
            self.connect().close()
        self.assert_still_serves()

    def test_reset(self):
        """A client that resets, within a request or before its answer is read, harms nobody"""
        for part in (b'', get('/hello')[:15], get('/hello'), get('/hello') * 16, post('/echo', b'abc')[:-1],
                     post('/echo', bytes(MIB))[:-1]):
            with self.subTest(start=part[:40], length=len(part)):
                sock = self.connect()
                sock.sendall(part)
                daemon.reset(sock)
        self.assert_still_serves()

    def test_reset_while_answering(self):
        """A client that resets while a large answer is under way harms nobody"""
        sock = self.connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(post('/echo', bytes(MIB)))
        time.sleep(0.1)
        daemon.reset(sock)
        self.assert_still_serves()

    def test_descriptors_return(self):
        """Connections that have ended leave no descriptor behind"""
        self.assert_still_serves()
        time.sleep(0.2)
        before = self.daemon.descriptors()
        for number in range(50):
            sock = self.daemon.connect()
            sock.sendall(get('/hello'))
            if number % 2:
                daemon.reset(sock)
            else:
                sock.close()
        self.assertTrue(daemon.eventually(lambda: self.daemon.descriptors() <= before), 'descriptors stay open')


class ManyWorkers(Connections):
    """The same behaviour on two workers."""
    flags = ('--workers', '2')


if __name__ == '__main__':
    daemon.main()
