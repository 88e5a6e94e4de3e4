"""Installs weft into a temporary tree, builds main.cpp and an example in C against that tree as a user would, and asks
each of them one question.

    install_test.py MESON BUILD_DIRECTORY C++-COMPILER... -- C-COMPILER...
"""
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ECHO_IN_C = os.path.join(HERE, '..', '..', 'docs', 'examples', 'echo.c')
PATIENCE_S = 20


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f'{" ".join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout


def find(root, name):
    for directory, _, files in os.walk(root):
        if name in files:
            return os.path.join(directory, name)
    sys.exit(f'{name} was not installed')


def flags_of(root, package):
    """What pkg-config says, with the prefix moved to where the tree really lies."""
    description = find(root, f'{package}.pc')
    with open(description, encoding='utf-8') as file:
        prefix = next(line.split('=', 1)[1].strip() for line in file if line.startswith('prefix='))
    environment = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(description))
    return run('pkg-config', f'--define-variable=prefix={root}{prefix}', '--cflags', '--libs', '--static', package,
               env=environment).split()


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as probe:
        return probe.getsockname()[1]


def ask_for_hello(port):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=5)
    connection.request('GET', '/hello')
    answer = connection.getresponse()
    return answer.status, answer.read()


def ask_for_echo(port):
    with socket.create_connection(('127.0.0.1', port), timeout=5) as sock:
        sock.sendall(b'hello')
        sock.shutdown(socket.SHUT_WR)
        return b''.join(iter(lambda: sock.recv(100), b''))


def ask_when_it_listens(server, port, ask):
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask(port)
        except OSError as error:
            if server.poll() is not None or time.monotonic() > end:
                sys.exit(f'the server built against the installed tree does not answer: {error}')
            time.sleep(0.05)


def try_program(program, ask, expected):
    port = free_port()
    server = subprocess.Popen([program, f'127.0.0.1:{port}'])
    try:
        answer = ask_when_it_listens(server, port, ask)
        if answer != expected:
            sys.exit(f'it answers {answer}')
        server.send_signal(signal.SIGTERM)
        if status := server.wait(30):
            sys.exit(f'SIGTERM ends it with status {status}')
    finally:
        server.kill()
        server.wait()


def main(meson, build, *compilers):
    cpp, c = compilers[:compilers.index('--')], compilers[compilers.index('--') + 1:]
    with tempfile.TemporaryDirectory(prefix='weft-install-') as scratch:
        root = os.path.join(scratch, 'root')
        run(meson, 'install', '-C', build, '--no-rebuild', '--destdir', root)
        for directory, _, files in os.walk(root):
            assert all(not os.path.islink(os.path.join(directory, file)) or
                       os.path.exists(os.path.join(directory, file)) for file in files), 'a dangling link is installed'
        program = os.path.join(scratch, 'server')
        run(*cpp, os.path.join(HERE, 'main.cpp'), '-Wall', '-Wextra', '-Werror', '-o', program, *flags_of(root, 'weft'))
        try_program(program, ask_for_hello, (200, b'Hello, World!'))
        run(*c, '-std=c11', ECHO_IN_C, '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-o', program,
            *flags_of(root, 'weft-c'))
        try_program(program, ask_for_echo, b'hello')


if __name__ == '__main__':
    main(*sys.argv[1:])
