"""Compares weft-http with nginx under wrk: server and load each pinned to a CPU of their own, the two servers in turn.

One worker each, keep-alive, `GET /hello`. On a shared machine latencies and requests/s are noisy; the server's CPU time
per request is the figure to look at. Ratios are taken between neighbouring runs; what is shown is the median of rounds.
"""
import argparse
import dataclasses
import datetime
import http.client
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BODY = b'Hello, World!'
TICKS_PER_S = os.sysconf('SC_CLK_TCK')

NGINX_CONFIGURATION = '''
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    {temporary_paths}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location = /hello {{ return 200 "Hello, World!"; }}
    }}
}}
'''


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    connections: int
    depth: int = 1  # requests in one write


CASES = [Case('1', 1), Case('64', 64), Case('512', 512), Case('64, 16 deep', 64, 16)]


# --- processes


def pin(cpu):
    return ['taskset', '-c', str(cpu)]


def family(pid):
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f'/proc/{parent}/task'):
                with open(f'/proc/{parent}/task/{task}/children', encoding='ascii') as children:
                    found += [int(child) for child in children.read().split()]
        except FileNotFoundError:
            pass
    return found


def cpu_s(pid):
    ticks = 0
    for member in family(pid):
        with open(f'/proc/{member}/stat', encoding='ascii') as stat:
            fields = stat.read().rpartition(')')[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


def rss_bytes(pid):
    total = 0
    for member in family(pid):
        with open(f'/proc/{member}/smaps_rollup', encoding='ascii') as rollup:
            total += next(int(line.split()[1]) * 1024 for line in rollup if line.startswith('Rss:'))
    return total


class Server:
    """A server under load. Its subclasses say how it is started and where it listens."""

    def start(self, command, stderr):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)

    def check(self):
        """Waits until it answers; it must answer what the comparison is about."""
        end = time.monotonic() + 10
        while True:
            try:
                connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=5)
                connection.request('GET', '/hello')
                answer = connection.getresponse()
                body = answer.read()
                connection.close()
                break
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    sys.exit(f'{self.name} does not answer: {error}\n{self.said()}')
                time.sleep(0.05)
        kind = (answer.getheader('Content-Type') or '').split(';')[0]
        if (answer.status, body, kind) != (200, BODY, 'text/plain'):
            self.stop()
            sys.exit(f'{self.name} answers {answer.status} {kind} {body!r} instead of {BODY!r}')

    def check_alive(self):
        if self.process.poll() is not None:
            sys.exit(f'{self.name} has ended with status {self.process.returncode}: {self.said()}')

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors='replace')

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            for member in family(self.process.pid):
                os.kill(member, signal.SIGKILL)
            self.process.wait()
            print(f'{self.name} did not stop on SIGTERM and was killed', file=sys.stderr)


class Weft(Server):
    name = 'weft'

    def __init__(self, path, cpu, *flags):
        self.log = tempfile.TemporaryFile()
        self.start(pin(cpu) + [path, '--listen', '127.0.0.1:0', '--workers', '1', *flags], self.log)
        end = time.monotonic() + 10
        while not (ready := re.search(r'^listening on 127\.0\.0\.1:(\d+)$', self.said(), re.M)):
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f'{path} does not start: {self.said()}')
            time.sleep(0.02)
        self.port = int(ready[1])


class Nginx(Server):
    name = 'nginx'

    def __init__(self, path, cpu):
        self.directory = tempfile.TemporaryDirectory(prefix='weft-bench-')
        self.log = tempfile.TemporaryFile()
        os.chmod(self.directory.name, 0o755)  # started by root, its worker is somebody else
        with socket.create_server(('127.0.0.1', 0)) as probe:
            self.port = probe.getsockname()[1]
        built = subprocess.run([path, '-V'], capture_output=True, text=True, check=True).stderr
        temporary = [f'{kind.replace("-", "_")}_temp_path {self.directory.name}/{kind};'
                     for kind in re.findall(r'--http-(\S+?)-temp-path=', built)
                     if f'--without-http_{kind}_module' not in built]
        configuration = os.path.join(self.directory.name, 'nginx.conf')
        with open(configuration, 'w', encoding='ascii') as file:
            file.write(NGINX_CONFIGURATION.format(directory=self.directory.name, port=self.port,
                                                  temporary_paths=' '.join(temporary)))
        self.start(pin(cpu) + [path, '-p', self.directory.name, '-c', configuration], self.log)

    def stop(self):
        super().stop()
        self.directory.cleanup()


# --- load


DURATIONS = {'us': 1, 'ms': 1e3, 's': 1e6, 'm': 60e6}


def duration_us(text):
    number, unit = re.fullmatch(r'([\d.]+)(us|ms|s|m)', text).groups()
    return float(number) * DURATIONS[unit]


def percentile_us(report, percent, case):
    """None where wrk knows none: it corrects latencies by the rate of requests, which makes nonsense of batches."""
    found = re.search(rf'\b{percent}%\s+([\d.]+[a-z]+)', report)
    return duration_us(found[1]) if found and case.depth == 1 else None


def load(server, case, seconds, cpu):
    """One run of wrk: what it reports, and what it cost the server."""
    command = pin(cpu) + ['wrk', '--latency', '-t1', f'-c{case.connections}', f'-d{seconds}s', '--timeout', '5s']
    if case.depth > 1:
        command += ['-s', os.path.join(HERE, 'pipeline.lua')]
    command.append(f'http://127.0.0.1:{server.port}/hello')
    if case.depth > 1:
        command += ['--', str(case.depth)]
    server.check_alive()
    used_by_load = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = cpu_s(server.process.pid)
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    server.check_alive()
    used = cpu_s(server.process.pid) - before
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    load_s = now.ru_utime + now.ru_stime - used_by_load.ru_utime - used_by_load.ru_stime
    requests, elapsed = re.search(r'(\d+) requests in ([\d.]+\w+),', report).groups()
    requests = int(requests)
    return {
        'requests': requests,
        'requests_per_s': float(re.search(r'Requests/sec:\s+([\d.]+)', report)[1]),
        'p50_us': percentile_us(report, 50, case),
        'p99_us': percentile_us(report, 99, case),
        'cpu_us_per_request': used * 1e6 / max(requests, 1),
        'load_cpu': load_s * 1e6 / duration_us(elapsed),
        'rss_bytes': rss_bytes(server.process.pid),
        'errors': ' '.join(line.strip() for line in report.splitlines() if re.search('Socket errors|Non-2xx', line)),
    }


def measure(servers, rounds, seconds, cpu):
    """{case: {server: [run of each round]}}; neighbours in time are compared, and take turns in going first."""
    results = {case.name: {server.name: [] for server in servers} for case in CASES}
    for server in servers:
        load(server, CASES[1], 1, cpu)  # warms up
    for number in range(rounds):
        for position, case in enumerate(CASES):
            for server in servers if (number + position) % 2 == 0 else reversed(servers):
                show_progress(f'round {number + 1} of {rounds}, {case.name} connections, {server.name}')
                results[case.name][server.name].append(load(server, case, seconds, cpu))
    show_progress('')
    return results


def show_progress(text):
    if sys.stderr.isatty():
        print(f'\r\033[K{text}', end='', file=sys.stderr, flush=True)


# --- system calls


def enters_per_request(path, server_cpu, load_cpu):
    """What weft-http itself counts at one connection; None when it does not."""
    try:
        server = Weft(path, server_cpu, '--stats')
        server.check()
    except RuntimeError:
        return None
    load(server, CASES[0], 1, load_cpu)
    server.stop()
    counted = re.search(r'^stats:.*\benters=(\d+).*\brequests=(\d+)', server.said(), re.M)
    return int(counted[1]) / max(int(counted[2]), 1) if counted else None


def calls_per_request(path, server_cpu, load_cpu):
    """{system call: calls per request} at one connection, as strace counts them; None where it cannot."""
    if not shutil.which('strace'):
        return None
    server = Weft(path, server_cpu)
    server.check()
    with tempfile.NamedTemporaryFile('r') as table:
        tracer = subprocess.Popen(['strace', '-f', '-c', '-o', table.name, '-p', str(server.process.pid)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        run = load(server, CASES[0], 1, load_cpu)
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        server.stop()
        calls = {}
        for line in table:
            fields = line.split()
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != 'total':
                calls[fields[-1]] = int(fields[3]) / max(run['requests'], 1)
    return {name: count for name, count in calls.items() if count >= 0.005} or None


# --- report


def version(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().split('\n')[0]


def machine():
    with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as info:
        model = next((line.split(':')[1].strip() for line in info if line.startswith('model name')), platform.machine())
    return {'date': datetime.datetime.now().strftime('%Y-%m-%d %H:%M'), 'cpu': model, 'cpus': os.cpu_count(),
            'kernel': platform.release()}


def conditions(weft, nginx, server_cpu, load_cpu, rounds, seconds):
    wrk = re.search(r'wrk (\S+)', version('wrk', '-v'))
    return machine() | {
        'server_cpu': server_cpu, 'load_cpu': load_cpu, 'rounds': rounds, 'seconds': seconds,
        'weft': version(weft, '--version'), 'nginx': version(nginx, '-v').split('/')[-1], 'wrk': wrk[1] if wrk else '?',
    }


def describe(facts):
    return ('{date}; {cpu}, {cpus} CPUs, Linux {kernel}; server on CPU {server_cpu}, wrk on CPU {load_cpu}; '
            'medians of {rounds} rounds of {seconds} s; {weft}, nginx {nginx}, wrk {wrk}').format(**facts)


def median(runs, key):
    values = [run[key] for run in runs if run[key] is not None]
    return statistics.median(values) if values else None


def ratio(ours, theirs, key):
    pairs = [our[key] / their[key] for our, their in zip(ours, theirs) if their[key] and our[key] is not None]
    return f'{statistics.median(pairs):.2f}' if pairs else '-'


def time_text(us):
    if us is None:
        return '-'
    return f'{us:.0f} us' if us < 1000 else f'{us / 1000:.2f} ms'


def table(results):
    """The table's lines, and whether every request of every run was answered well."""
    columns = '{:<12} {:<6} {:>11} {:>9} {:>9} {:>11} {:>9} {:>8}'
    lines = [columns.format('connections', 'server', 'requests/s', 'p50', 'p99', 'CPU us/req', 'wrk CPU', 'RSS MiB')]
    clean = True
    for case, servers in results.items():
        for server, runs in servers.items():
            lines.append(columns.format(
                case, server, f'{median(runs, "requests_per_s"):,.0f}', time_text(median(runs, 'p50_us')),
                time_text(median(runs, 'p99_us')), f'{median(runs, "cpu_us_per_request"):.2f}',
                f'{median(runs, "load_cpu"):.0%}', f'{median(runs, "rss_bytes") / (1 << 20):.1f}'))
            for run in runs:
                if run['errors']:
                    lines.append(f'    ! {server}: {run["errors"]}')
                    clean = False
        ours, theirs = servers.values()
        lines.append(columns.format('', 'ratio', *(ratio(ours, theirs, key) for key in (
            'requests_per_s', 'p50_us', 'p99_us', 'cpu_us_per_request')), '', ratio(ours, theirs, 'rss_bytes')))
    return lines, clean


def choose_two_cpus():
    """Two CPUs that are not halves of the same core, if there is a choice; or the only one."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        return cpus
    siblings = set()
    try:
        with open(f'/sys/devices/system/cpu/cpu{cpus[0]}/topology/thread_siblings_list', encoding='ascii') as file:
            for part in file.read().strip().split(','):
                first, _, last = part.partition('-')
                siblings.update(range(int(first), int(last or first) + 1))
    except OSError:
        pass
    return [cpus[0], next((cpu for cpu in cpus[1:] if cpu not in siblings), cpus[1])]


def main():
    parser = argparse.ArgumentParser(prog='./run bench', description=__doc__)
    parser.add_argument('--weft', default='build/apps/http/weft-http', help='the server to measure')
    parser.add_argument('--rounds', type=int, default=3, metavar='N', help='rounds of all cases (3)')
    parser.add_argument('--seconds', type=int, default=5, metavar='N', help='length of one run of wrk (5)')
    parser.add_argument('--quick', action='store_true', help='one round of one second: does it work at all?')
    parser.add_argument('--json', metavar='FILE', help='write every single run there')
    options = parser.parse_args()
    rounds, seconds = (1, 1) if options.quick else (max(options.rounds, 1), max(options.seconds, 1))
    nginx = shutil.which('nginx', path=os.environ.get('PATH', '') + ':/usr/sbin')
    for tool, path in (('nginx', nginx), ('wrk', shutil.which('wrk')), ('taskset', shutil.which('taskset'))):
        if not path:
            sys.exit(f'{tool} is not installed')
    cpus = choose_two_cpus()
    if len(cpus) == 1:
        print('only one CPU: server and load share it, and disturb each other', file=sys.stderr)
    server_cpu, load_cpu = cpus[0], cpus[-1]
    facts = conditions(options.weft, nginx, server_cpu, load_cpu, rounds, seconds)
    print(describe(facts), flush=True)

    servers = []
    try:
        servers.append(Weft(options.weft, server_cpu))
        servers.append(Nginx(nginx, server_cpu))
        for server in servers:
            server.check()
        results = measure(servers, rounds, seconds, load_cpu)
    except RuntimeError as error:
        sys.exit(str(error))
    finally:
        for server in servers:
            server.stop()
    lines, clean = table(results)
    print('\n'.join(lines))

    enters = enters_per_request(options.weft, server_cpu, load_cpu)
    if enters is not None:
        print(f'weft at 1 connection: {enters:.2f} io_uring_enter per request (its own count)')
    calls = calls_per_request(options.weft, server_cpu, load_cpu)
    if calls:
        print('weft at 1 connection, system calls per request (strace): ' +
              ', '.join(f'{name} {count:.2f}' for name, count in sorted(calls.items(), key=lambda item: -item[1])))
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as file:
            json.dump({'conditions': facts, 'runs': results, 'enters_per_request': enters, 'calls_per_request': calls},
                      file, indent=2)
    if not clean:
        sys.exit('some requests failed')


if __name__ == '__main__':
    main()
