"""Adds up test results into the one line that ends `./run test`, and picks tests by a part of their name.

    summary.py RESULT...                      RESULT is a testlog.json of Meson, or VERDICT:WHAT
    summary.py --select NAME... < tests.json  the tests of `meson introspect --tests` whose names contain a NAME
"""
import json
import sys

VERDICTS = {'OK': 'passed', 'EXPECTEDFAIL': 'passed', 'SKIP': 'skipped'}


def outcomes(result):
    """Yields (verdict, what) for each test of one result."""
    if not result.endswith('.json'):
        yield tuple(result.split(':', 1))
        return
    try:
        with open(result, encoding='utf-8') as log:
            tests = [json.loads(line) for line in log]
    except FileNotFoundError:
        tests = []
    if not tests:
        yield 'failed', f'{result}: no test ran'
    for test in tests:
        yield VERDICTS.get(test['result'], 'failed'), f'{result.split("/meson-logs/")[0]}: {test["name"]}'


def summarise(results):
    counts = {'passed': 0, 'failed': 0, 'skipped': 0}
    for result in results:
        for verdict, what in outcomes(result):
            counts[verdict] += 1
            if verdict != 'passed':
                print(f'{verdict}: {what}')
    print('tests: ' + ', '.join(f'{count} {verdict}' for verdict, count in counts.items()))
    return 1 if counts['failed'] else 0


def select(names):
    for test in json.load(sys.stdin):
        if any(name in test['name'] for name in names):
            print(test['name'])
    return 0


if __name__ == '__main__':
    sys.exit(select(sys.argv[2:]) if sys.argv[1:2] == ['--select'] else summarise(sys.argv[1:]))
