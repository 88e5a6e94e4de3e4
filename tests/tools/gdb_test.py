"""tools/weft-gdb.py shows the fibers of a live process, and those in a core file.

    gdb_test.py SUBJECT SCRIPT   the program gdb_subject, and the script
"""
import contextlib
import functools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

SUBJECT, SCRIPT = sys.argv[1:3]
PATIENCE_S = 60
# Nothing from the user's or the system's settings, and no look at the network.
GDB = ['gdb', '-batch', '-nx', '-iex', 'set debuginfod enabled off', '-iex', 'set auto-load no']


@contextlib.contextmanager
def subject(*flags, **options):
    """The program, when it is ready to be looked at."""
    with subprocess.Popen([SUBJECT, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          **options) as process:
        try:
            if process.stdout.readline() != 'ready\n':
                raise AssertionError('gdb_subject does not get ready')
            yield process
        finally:
            process.kill()


def gdb(*arguments, commands):
    for command in commands:
        arguments += ('-ex', command)
    done = subprocess.run([*GDB, *arguments], capture_output=True, text=True, timeout=PATIENCE_S)
    if 'ptrace: Operation not permitted' in done.stderr:
        raise unittest.SkipTest('this process may not trace others')
    return done.stdout + done.stderr


def look_at(process, *commands):
    return gdb('-p', str(process.pid), commands=[f'source {SCRIPT}', *commands])


def backtraces_of(look, rows):
    """Of the fibers that have one, by name; `look` runs commands of gdb."""
    commands = []
    for name in ('sleeper', 'receiver', 'spinner'):
        commands += [f'echo BACKTRACE OF {name}\\n', f'weft bt {rows[name]["id"]}']
    parts = re.split(r'^BACKTRACE OF (\w+)\n', look(*commands), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def rows_of(text):
    """The table of `weft fibers`, by the fibers' names."""
    rows = {}
    for line in text.splitlines():
        if match := re.match(r'(\d+\.\d+)  (\w*) +(\w+) +(\d+)(.*)', line):
            rows[match[2]] = dict(zip(('id', 'state', 'worker', 'rest'), (match[1], match[3], match[4], match[5].strip())))
    return rows


@unittest.skipUnless(shutil.which('gdb'), 'gdb is not installed')
class GdbTest(unittest.TestCase):
    """What is the same in a process and in its core file; the subclass says how to get at one."""

    def assert_lists(self, text):
        rows = rows_of(text)
        self.assertEqual({name: (row['state'], row['worker']) for name, row in rows.items()},
                         {'sleeper': ('parked', '0'), 'joiner': ('parked', '0'), 'receiver': ('parked', '0'),
                          'finished': ('finished', '0'), 'spinner': ('running', '1'), 'queued': ('new', '1')}, text)
        for name, waits_for in (('sleeper', 'a time'), ('joiner', 'the end of a fiber'), ('receiver', 'a receive')):
            self.assertRegex(rows[name]['rest'], rf'^\d+\.\d{{3}}  +{waits_for} ', text)
        self.assertIn('main', rows['joiner']['rest'])
        self.assertIn('6 fibers on 2 workers', text)
        return rows

    def assert_shows_calls(self, text, *functions):
        """The functions are in the backtrace in this order, the innermost first, and it ends where a fiber begins."""
        frames = re.findall(r'^#\d+ +(?:0x[0-9a-f]+ in )?(.*)', text, re.M)
        at = -1
        for function in functions + ('weft::fiber_main', 'weft_context_entry'):
            found = [n for n, frame in enumerate(frames) if n > at and function in frame]
            self.assertTrue(found, f'{function} is not where it should be in:\n{text}')
            at = found[0]
        self.assertEqual(at, len(frames) - 1, text)
        self.assertRegex(text, r'(?m)^#0 ')

    def assert_shows_the_calls_of_all(self, shown):
        self.assert_shows_calls(shown['sleeper'], 'sleep_for', 'nap', 'take_a_rest')
        self.assert_shows_calls(shown['receiver'], 'tcp_stream::read_some', 'read_a_byte')
        self.assert_shows_calls(shown['spinner'], 'spin')


class LiveTest(GdbTest):
    def test_list(self):
        """weft fibers lists each fiber with its state, its worker, and what it waits for"""
        with subject() as process:
            text = look_at(process, 'weft fibers')
        self.assert_lists(text)
        self.assertIn('seconds until now', text)

    def test_summary(self):
        """weft fibers --summary counts fibers that do the same"""
        with subject() as process:
            text = look_at(process, 'weft fibers --summary')
        self.assertRegex(text, r'(?m)^1 +parked +\d+\.\d+ +a receive ')
        self.assertIn('6 fibers on 2 workers', text)

    def test_backtraces(self):
        """weft bt shows a parked fiber's calls from its saved context, and a running one's from its thread"""
        with subject() as process:
            rows = self.assert_lists(look_at(process, 'weft fibers'))
            shown = backtraces_of(functools.partial(look_at, process), rows)
        self.assertIn("'sleeper' parked, waits for a time", shown['sleeper'])
        self.assert_shows_the_calls_of_all(shown)

    def test_leaves_things_as_they_were(self):
        """After weft bt the thread, its own backtrace and its registers are what they were before"""
        state = ('thread', 'backtrace', 'info registers')
        with subject() as process:
            text = look_at(process, 'echo BEFORE\\n', *state, 'echo BETWEEN\\n', 'weft bt 0', 'weft bt 4',
                           'echo AFTER\\n', *state, 'echo END\\n')
        before, after = (re.search(rf'{mark}\n(.*?){end}\n', text, re.S)
                         for mark, end in (('BEFORE', 'BETWEEN'), ('AFTER', 'END')))
        self.assertIn('main', before[1])
        self.assertEqual(before[1], after[1])

    def test_errors(self):
        """What cannot be shown is said in a sentence"""
        sentences = {'weft bt 63': 'There is no fiber 63', 'weft bt 0.77': 'There is no fiber 0.77 any more',
                     'weft bt sleeper': "'sleeper' is no fiber's ID", 'weft bt': 'Usage: weft bt ID',
                     'weft bt 1:0': 'There is no runtime 1', 'weft bt 3': 'has ended', 'weft bt 5': 'has not run yet',
                     'weft fibers --all': 'Usage: weft fibers'}
        with subject() as process:
            text = look_at(process, *sentences)
        for sentence in sentences.values():
            self.assertIn(sentence, text)
        self.assertNotIn('Traceback', text)

    def test_no_runtime(self):
        """A process without a runtime, a program that does not run, and one without weft are said to be that"""
        with subject('--without-runtime') as process:
            self.assertIn('There is no weft runtime in this process', look_at(process, 'weft fibers'))
        commands = [f'source {SCRIPT}', 'weft fibers']
        self.assertIn('No process runs and no core file is loaded', gdb(SUBJECT, commands=commands))
        self.assertIn('There is no weft in this program', gdb(commands=commands))


class CoreTest(GdbTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix='weft-core-')
        cls.addClassCleanup(cls.folder.cleanup)
        cls.core = os.path.join(cls.folder.name, 'core')
        cls.write_core()

    def look_at(self, *commands):
        return gdb(SUBJECT, self.core, commands=[f'source {SCRIPT}', *commands])

    def test_list(self):
        """weft fibers lists the fibers in a core file, with times as of the last that a worker saw"""
        text = self.look_at('weft fibers')
        self.assert_lists(text)
        self.assertIn('seconds until the latest turn of a worker', text)

    def test_backtraces(self):
        """weft bt shows the calls of parked and of running fibers in a core file"""
        self.assert_shows_the_calls_of_all(backtraces_of(self.look_at, rows_of(self.look_at('weft fibers'))))


class KernelsCoreTest(CoreTest):
    """The core file of a process that died."""

    @classmethod
    def write_core(cls):
        with open('/proc/sys/kernel/core_pattern', encoding='ascii') as pattern:
            if pattern.read().strip() != 'core':
                raise unittest.SkipTest('core files do not go to the working directory here')
        unlimited = resource.RLIM_INFINITY
        try:
            with subject(cwd=cls.folder.name,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (unlimited, unlimited))) as process:
                process.send_signal(signal.SIGABRT)
                process.wait(PATIENCE_S)
        except subprocess.SubprocessError:
            raise unittest.SkipTest('this process may have no core files') from None
        # The name may be followed by the process's number.
        found = [name for name in os.listdir(cls.folder.name) if name.startswith('core')]
        if not found:
            raise unittest.SkipTest('the kernel writes no core file here')
        cls.core = os.path.join(cls.folder.name, found[0])


class GdbsCoreTest(CoreTest):
    """What gdb writes of a live process; it does not get across guard pages that are no mappings of their own."""

    @classmethod
    def write_core(cls):
        with subject('--guards-by-mprotect') as process:
            gdb('-p', str(process.pid), commands=[f'generate-core-file {cls.core}'])


del GdbTest, CoreTest  # they are no tests by themselves

if __name__ == '__main__':
    result = unittest.main(argv=sys.argv[:1] + sys.argv[3:], exit=False, verbosity=2).result
    for test, reason in result.skipped:
        print(f'skipped: {test}: {reason}')
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if len(result.skipped) == result.testsRun else 0)
