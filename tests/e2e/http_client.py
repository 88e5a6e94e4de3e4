"""An HTTP/1.x client that hides nothing: it sends the bytes that it is told to and reads one answer at a time."""
import email.utils
import socket


class Answer:
    def __init__(self, version, status, reason, headers):
        self.version, self.status, self.reason, self.headers = version, status, reason, headers
        self.body = b''

    def header(self, name):
        """The value of a header that must occur at most once; None when it does not occur."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f'{name} occurs {len(values)} times'
        return values[0] if values else None

    def date(self):
        return email.utils.parsedate_to_datetime(self.header('date'))

    def closes(self):
        return (self.header('connection') or '').lower() == 'close'


class Connection:
    """Reads answers from a connected socket."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b''
        self.receives = 0

    def send(self, data):
        self.sock.sendall(data)

    def _fill(self):
        part = self.sock.recv(1 << 18)
        if not part:
            raise EOFError(f'closed by the peer, after {self.buffer[:200]!r}')
        self.receives += 1
        self.buffer += part

    def _until(self, mark):
        while mark not in self.buffer:
            self._fill()
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    def _exactly(self, count):
        while len(self.buffer) < count:
            self._fill()
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    def read(self, head=False):
        """One answer. `head` says that the request was a HEAD, whose answer has no body."""
        lines = self._until(b'\r\n\r\n').decode('ascii').split('\r\n')
        version, status, reason = (lines[0] + ' ').split(' ', 2)
        headers = []
        for line in lines[1:]:
            name, _, value = line.partition(':')
            assert name and name == name.strip(), f'malformed header line {line!r}'
            headers.append((name.lower(), value.strip()))
        answer = Answer(version, int(status), reason.strip(), headers)
        if head or answer.status < 200 or answer.status in (204, 304):
            return answer
        if (answer.header('transfer-encoding') or '').lower() == 'chunked':
            while size := int(self._until(b'\r\n'), 16):
                answer.body += self._exactly(size)
                assert self._exactly(2) == b'\r\n', 'a chunk does not end with CRLF'
            assert self._exactly(2) == b'\r\n', 'the last chunk is not followed by an empty line'
        elif answer.header('content-length') is not None:
            answer.body = self._exactly(int(answer.header('content-length')))
        else:
            self.read_to_end()
            answer.body, self.buffer = self.buffer, b''
        return answer

    def read_to_end(self):
        """Reads until the peer's FIN; a reset raises ConnectionResetError."""
        try:
            while True:
                self._fill()
        except EOFError:
            return self.buffer

    def ask(self, request, head=False):
        self.send(request)
        return self.read(head)

    def finish_sending(self):
        self.sock.shutdown(socket.SHUT_WR)


def get(path, *headers, version='HTTP/1.1', method='GET'):
    """A request without a body; with a Host unless a header says one or the version knows none."""
    lines = [f'{method} {path} {version}']
    if version == 'HTTP/1.1' and not any(header.lower().startswith('host:') for header in headers):
        lines.append('Host: test')
    return '\r\n'.join([*lines, *headers, '', '']).encode()


def post(path, body, *headers):
    return get(path, *headers, f'Content-Length: {len(body)}', method='POST') + body


def post_chunked(path, chunks, *headers):
    encoded = b''.join(b'%x\r\n%s\r\n' % (len(chunk), chunk) for chunk in chunks)
    return get(path, *headers, 'Transfer-Encoding: chunked', method='POST') + encoded + b'0\r\n\r\n'
