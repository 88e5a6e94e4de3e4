"""What gdb shows of a fiber: every backtrace ends at weft_context_entry, and each instruction of a switch has one.

    gdb_test.py PROGRAM   which is backtrace_test
"""
import re
import shutil
import subprocess
import sys

SKIPPED = 77
COMPLAINTS = ('corrupt stack', 'Backtrace stopped', 'Cannot access memory', '0x0000000000000000 in')
# Those of a switch on x86-64, and some of what is before and after it.
INSTRUCTIONS = 30


def gdb(program, *commands):
    options = [word for command in ('set pagination off', 'set debuginfod enabled off', *commands) for word in ('-ex', command)]
    done = subprocess.run(['gdb', '-batch', '-nx', *options, '--args', program], capture_output=True, text=True, timeout=120)
    if re.search(r'ptrace: Operation not permitted|Could not trace the inferior', done.stdout + done.stderr):
        print('skipped: gdb may not trace a process here')
        sys.exit(SKIPPED)
    return done.stdout + done.stderr


def backtraces(text):
    """The frames of each backtrace in what gdb said."""
    found = []
    for line in text.splitlines():
        if re.match(r'#0 ', line):
            found.append([])
        if re.match(r'#\d', line):
            found[-1].append(line)
    return found


def check(text, condition, sentence):
    if not condition:
        sys.exit(f'{sentence}:\n{text}')


def check_no_complaints(text):
    for complaint in COMPLAINTS:
        check(text, complaint not in text, f'gdb complains of "{complaint}"')


def test_inside_a_fiber(program):
    text = gdb(program, 'break look_around', 'run', 'bt')
    check_no_complaints(text)
    frames = backtraces(text)
    check(text, len(frames) == 1 and len(frames[0]) > 3, 'there is no backtrace')
    check(text, 'look_around' in frames[0][0] and 'bake_bread' in frames[0][1], 'the fiber\'s functions are not shown')
    check(text, 'weft::fiber_main' in frames[0][-2], 'the fiber\'s first function is not fiber_main')
    check(text, 'weft_context_entry' in frames[0][-1], 'the backtrace does not end at weft_context_entry')


def test_each_instruction(program, switcher):
    step = ['bt', 'stepi'] * INSTRUCTIONS
    # The first switch leads to a fiber that has not run yet, the second out of it, the third back into it.
    text = gdb(program, f'break {switcher}', 'run', *step, 'continue', *step, 'continue', *step)
    check_no_complaints(text)
    frames = backtraces(text)
    check(text, len(frames) == 3 * INSTRUCTIONS, 'backtraces are missing')
    ends = [each[-1] for each in frames]
    check(text, all(re.search(r'weft_context_entry|clone|switch_\w+\.S', end) for end in ends),
          'a backtrace ends elsewhere than where a thread or a fiber begins')
    check(text, any('clone' in end for end in ends) and any('weft_context_entry' in end for end in ends),
          'not both stacks were seen')


def main(program):
    if not shutil.which('gdb'):
        print('skipped: gdb is missing')
        return SKIPPED
    test_inside_a_fiber(program)
    for switcher in 'weft_switch_same_thread', 'weft_switch_same_thread_fp':
        test_each_instruction(program, switcher)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
