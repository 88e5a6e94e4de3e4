"""The documents keep their word: README's echo server is short, compiles and echoes; the names in backticks exist.

    readme_test.py extract README OUTPUT.cpp   writes the first cpp block, for the build
    readme_test.py echo README PROGRAM         looks at that block's length and talks to the program built from it
    readme_test.py names ROOT                  looks for the names in README.md and docs/
"""
import glob
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

ECHO_LINES_MAX = 15
SOURCE_SUFFIXES = ('.hpp', '.cpp', '.h', '.S', '.py')
FOLDERS = ('.ci', 'apps', 'docs', 'net', 'perf', 'runtime', 'subprojects', 'switchers', 'tests', 'tools')


# --- the echo server


def first_block(readme):
    found = re.search(r'^```cpp\n(.*?)^```', pathlib.Path(readme).read_text(encoding='utf-8'), re.M | re.S)
    if not found:
        sys.exit(f'{readme} has no ```cpp block')
    return found[1]


def extract(readme, output):
    """Writes the block as it stands, but for the port: a test takes any that is free."""
    block, count = re.subn(r'"127\.0\.0\.1:\d+"', '"127.0.0.1:0"', first_block(readme))
    if count != 1:
        sys.exit('the echo server in README.md should listen on one address, "127.0.0.1:PORT"')
    pathlib.Path(output).write_text(block, encoding='utf-8')


def listening_port(process):
    """The port on which a process listens, as the kernel tells."""
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        owned = set()
        for descriptor in glob.glob(f'/proc/{process.pid}/fd/*'):
            try:
                owned.add(os.readlink(descriptor))
            except FileNotFoundError:
                pass  # closed in between
        for line in pathlib.Path('/proc/net/tcp').read_text(encoding='ascii').splitlines()[1:]:
            fields = line.split()
            if fields[3] == '0A' and f'socket:[{fields[9]}]' in owned:
                return int(fields[1].split(':')[1], 16)
        time.sleep(0.05)
    sys.exit('the echo server of README.md does not listen')


def echo(readme, program):
    lines = [line for line in first_block(readme).splitlines() if line.strip()]
    if len(lines) > ECHO_LINES_MAX:
        sys.exit(f'the echo server in README.md has {len(lines)} lines; it should have at most {ECHO_LINES_MAX}')
    process = subprocess.Popen([program])
    try:
        with socket.create_connection(('127.0.0.1', listening_port(process)), 20) as sock:
            message = b'the README tells the truth' * 1000
            sock.sendall(message)
            sock.shutdown(socket.SHUT_WR)
            received = b''.join(iter(lambda: sock.recv(65536), b''))
        if received != message:
            sys.exit(f'the echo server of README.md answers {len(received)} bytes that are not what was sent')
        process.terminate()
        if status := process.wait(60):
            sys.exit(f'SIGTERM ends the echo server of README.md with status {status}')
    finally:
        process.kill()
        process.wait()


# --- the names


def names_in(document):
    """What stands in backticks, outside of code blocks."""
    prose = re.sub(r'^```.*?^```', '', document.read_text(encoding='utf-8'), flags=re.M | re.S)
    return re.findall(r'`([^`\n]+)`', prose)


def alternatives(name):
    """`a.{hpp,cpp}` stands for both."""
    found = re.search(r'\{([^}]*,[^}]*)\}', name)
    if not found:
        return [name]
    return [name[:found.start()] + part + name[found.end():] for part in found[1].split(',')]


def file_exists(root, name):
    if (include := re.fullmatch(r'(?:#include )?<weft/(.+)>|weft/(.+\.hpp)', name)):
        name = include[1] or include[2]
        return any((root / folder / name).exists() for folder in ('', 'net', 'net/http'))
    name = re.sub(r'(?<=\w):.*$', '', name).removeprefix('./')  # path:line, path:function
    if '/' not in name:
        return name in tree_names(root)
    return bool(glob.glob(str(root / name)) or glob.glob(str(root / name) + '.*'))


def looks_like_a_file(name):
    name = name.removeprefix('#include ')
    if name.startswith('<'):
        return name.startswith('<weft/')  # other headers are not ours
    if re.search(r'\s|://|^/', name):
        return False
    if name.startswith('./'):
        return True
    folder, slash, _ = name.partition('/')
    return bool(slash) and folder in FOLDERS or re.sub(r':.*$', '', name).endswith(SOURCE_SUFFIXES)


def tree_files(root):
    for directory, folders, files in os.walk(root):
        if pathlib.Path(directory) == root:
            folders[:] = [folder for folder in folders if folder in FOLDERS]
        for file in files:
            yield pathlib.Path(directory) / file


def tree_names(root):
    return {path.name for path in tree_files(root)}


def words_of_sources(root):
    words = set()
    for path in tree_files(root):
        if path.suffix in SOURCE_SUFFIXES and 'subprojects' not in path.parts:
            words.update(re.findall(r'\w+', path.read_text(encoding='utf-8', errors='replace')))
    return words


def names(root):
    root = pathlib.Path(root)
    known_words = words_of_sources(root)
    lost = []
    for document in [root / 'README.md', *sorted((root / 'docs').rglob('*.md'))]:
        for name in names_in(document):
            if looks_like_a_file(name):
                found = all(file_exists(root, one) for one in alternatives(name))
            elif re.fullmatch(r'(?!std::|boost::|tl::)\w+(::~?\w+)+(\(\))?', name):
                found = all(word in known_words for word in re.findall(r'\w+', name))
            else:
                continue
            if not found:
                lost.append(f'{document.relative_to(root)} names `{name}`, which is not in the tree')
    if lost:
        sys.exit('\n'.join(lost))


if __name__ == '__main__':
    {'extract': extract, 'echo': echo, 'names': names}[sys.argv[1]](*sys.argv[2:])
