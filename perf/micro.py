"""Measures the scheduler's own steps beside Boost.Context, Boost.Fiber and Go, and beside what the machine allows.

The programs run in turn, row by row, in several rounds, on one CPU; the rows for two threads on two. What is shown is the
median and, in brackets, the best of all rounds, in ns. A program that was not built is left out.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

import bench

PROGRAMS = {'weft': 'micro', 'Boost': 'peers/boost', 'Go': 'peers/go', 'floors': 'floors'}

ONE_CPU = {
    'switch': 'switch',
    'switch_fp': 'switch with floating-point control words',
    'yield_2': 'yield, 2 fibers',
    'yield_1000': 'yield, 1,000 fibers',
    'yield_10000': 'yield, 10,000 fibers',
    'spawn_join': 'spawn and join, one by one',
    'spawn_join_fixedsize': '  Boost.Fiber with stacks from malloc',
    'spawn_10000': 'spawn 10,000, then join all, each',
    'spawn_10000_fixedsize': '  Boost.Fiber with stacks from malloc',
    'spawn_1000000': 'spawn 1,000,000, then join all, each',
    'semaphore': 'semaphore or channel, round trip',
    'park_wake': 'park and wake, same worker, each',
}
TWO_CPUS = {
    'handover': 'hand-over to another thread, one way',
    'wake_asleep': 'wake of a thread that sleeps, one way',
}
TABLES = [(ONE_CPU, ['weft', 'Boost.Context', 'Boost.Fiber', 'Go']),
          (TWO_CPUS, ['weft', 'Boost.Fiber', 'Go', 'cache line', 'futex', 'eventfd'])]


def built_programs(directory):
    """{name: (path, its rows)}"""
    found = {}
    for name, file in PROGRAMS.items():
        path = os.path.join(directory, file)
        if not os.path.exists(path):
            print(f'{name} is left out: {path} was not built', flush=True)
            continue
        found[name] = (path, subprocess.run([path, '--list'], capture_output=True, text=True, check=True).stdout.split())
    return found


def run(path, row, cpus, times):
    done = subprocess.run(['taskset', '-c', ','.join(map(str, cpus)), path, '--only', row, '--rounds', str(times)],
                          stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    if done.returncode:
        sys.exit(f'{path} --only {row} ended with status {done.returncode}')
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure(programs, cpus, rounds, times, only):
    results = []
    for number in range(rounds):
        for rows, used in ((ONE_CPU, cpus[:1]), (TWO_CPUS, cpus)):
            if rows is TWO_CPUS and len(cpus) < 2:
                continue
            for position, row in enumerate(row for row in rows if only in (None, row)):
                having = [(name, path) for name, (path, known) in programs.items() if row in known]
                for name, path in having if (number + position) % 2 == 0 else reversed(having):
                    bench.show_progress(f'round {number + 1} of {rounds}, {row}, {name}')
                    results += run(path, row, used, times)
    bench.show_progress('')
    return results


def values(results, program, row, unit='ns'):
    return [each[unit] for each in results if (each['program'], each['row']) == (program, row) and unit in each]


def cell(ns):
    if not ns:
        return '-'
    digits = 1 if min(ns) < 100 else 0
    return f'{statistics.median(ns):,.{digits}f} ({min(ns):,.{digits}f})'


def table(rows, columns, results):
    columns = [column for column in columns if any(values(results, column, row) for row in rows)]
    shown = [row for row in rows if any(values(results, column, row) for column in columns)]
    cells = [['ns: median (best)', *columns]] + [
        [rows[row], *(cell(values(results, column, row)) for column in columns)] for row in shown]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return [cells_of[0].ljust(widths[0]) + ''.join(text.rjust(width + 3) for text, width in zip(cells_of[1:], widths[1:]))
            for cells_of in cells] if shown else []


def sleeps(results):
    """Hand-overs are meant to find the other worker awake: says how far that was so."""
    slept = values(results, 'weft', 'handover', 'slept_percent')
    return [f'weft: in the hand-overs a worker slept in {statistics.median(slept):.2f} % of the turns'] if slept else []


def main():
    parser = argparse.ArgumentParser(prog='./run bench --micro', description=__doc__)
    parser.add_argument('--build', default='build/perf', metavar='DIRECTORY', help='where the programs are')
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='rounds of all rows (5)')
    parser.add_argument('--times', type=int, default=3, metavar='N', help='measurements of a row in each round (3)')
    parser.add_argument('--quick', action='store_true', help='one round of one measurement: does it work at all?')
    parser.add_argument('--weft-only', action='store_true', help='without the peers')
    parser.add_argument('--only', choices=[*ONE_CPU, *TWO_CPUS], metavar='ROW', help='that row alone: ' +
                        ', '.join([*ONE_CPU, *TWO_CPUS]))
    parser.add_argument('--json', metavar='FILE', help='write every single measurement there, one line each')
    options = parser.parse_args()
    rounds, times = (1, 1) if options.quick else (max(options.rounds, 1), max(options.times, 1))

    programs = built_programs(options.build)
    if options.weft_only:
        programs = {name: programs[name] for name in ('weft', 'floors') if name in programs}
    cpus = bench.choose_two_cpus()
    facts = bench.machine() | {'cpus_used': cpus, 'rounds': rounds, 'times': times}
    print('{date}; {cpu}, {cpus} CPUs, Linux {kernel}; on CPUs {cpus_used}; {rounds} rounds of {times}'.format(**facts),
          flush=True)
    results = measure(programs, cpus, rounds, times, options.only)
    parts = [table(rows, columns, results) for rows, columns in TABLES] + [sleeps(results)]
    print('\n\n'.join('\n'.join(lines) for lines in parts if lines))
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as file:
            file.writelines(json.dumps(each) + '\n' for each in [facts, *results])


if __name__ == '__main__':
    main()
