"""Shows the fibers of a process that uses weft, in gdb 12 or later: live, or from a core file.

    gdb -p PID -x tools/weft-gdb.py           or, inside of gdb: source tools/weft-gdb.py
    gdb PROGRAM CORE -x tools/weft-gdb.py

    weft fibers             all fibers: what each does, where, and since when
    weft fibers --summary   the same, grouped by function and by what they wait for: for many fibers
    weft bt ID              where a fiber is; ID is as in the list, 7.2 or just 7

The program needs its debugging information (-g); it may be optimised. Core files are best written by the kernel: they
hold only the pages that were touched. gdb's own generate-core-file leaves the stacks out where guard pages are no mappings
of their own (Linux 6.13 and later, unless runtime_options::allow_guard_install is false), and writes a lot of zeros.
"""
import collections
import re
import time

import gdb
import gdb.unwinder

# The saved context of a fiber that does not run, as in switchers/switch_layout.h: where each register lies from the saved
# stack pointer upwards, and how many bytes the frame has. `return` is where it goes on.
SAVED_CONTEXTS = {
    'i386:x86-64': {
        'pc': 'rip', 'sp': 'rsp', 'return': 0x38, 'bytes': 0x40,
        'registers': {'r15': 0x08, 'r14': 0x10, 'r13': 0x18, 'r12': 0x20, 'rbx': 0x28, 'rbp': 0x30},
    },
    'aarch64': {
        'pc': 'pc', 'sp': 'sp', 'return': 0xa8, 'bytes': 0xb0,
        'registers': {f'x{n}': 0x50 + 8 * (n - 19) for n in range(19, 30)},
    },
    'riscv:rv64': {
        'pc': 'pc', 'sp': 'sp', 'return': 0xc8, 'bytes': 0xd0,
        'registers': {**{f's{n}': 0x68 + 8 * (n - 1) for n in range(1, 12)}, 's0': 0xc0},
    },
}

# fiber_word in runtime/fiber_state.hpp: the generation in the upper half, then three bits of stage, then the wake-ups.
STAGE_SHIFT = 29
INITIAL, LIVE, FINISHED, FAILED = range(4)

NO_SLOT = 0xffffffff


# --- reading C++ objects


def type_named(name):
    try:
        return gdb.lookup_type(name)
    except gdb.error:
        raise gdb.GdbError(f'This program has no debugging information for {name}: build it and weft with -g.') from None


def read_as(value, target):
    """The bytes of a member as another type: what lies in an atomic, or in a unique_ptr."""
    return value.address.cast(target.pointer()).dereference()


def pointer_in(value, name):
    """What a unique_ptr, or an atomic pointer, points to: its address alone is in there."""
    return read_as(value, type_named(name).pointer())


def integer_in(value, bits=64):
    return int(read_as(value, gdb.selected_inferior().architecture().integer_type(bits, False)))


def elements(vector):
    start, finish = vector['_M_impl']['_M_start'], vector['_M_impl']['_M_finish']
    return [start[n] for n in range(int(finish - start))]


def string_at(pointer):
    return pointer.string() if int(pointer) else ''


# --- runtimes, workers, fibers


class Runtime:
    def __init__(self, scheduler):
        self.scheduler = scheduler
        self.workers = [pointer_in(each, 'weft::worker').dereference() for each in elements(scheduler['workers_'])]
        self.arena = pointer_in(scheduler['arena_'], 'weft::arena').dereference()
        self.running = {int(pointer_in(each['running_'], 'weft::fiber_block')): each for each in self.workers}
        self.now_ns, self.clock = self._time()

    def _time(self):
        """The time now, in nanoseconds of the runtime's clock, and where it is from."""
        inferior = gdb.selected_inferior()
        system_clock = 'system_monotonic_clock' in str(self.scheduler['clock_'].dynamic_type)
        if system_clock and inferior.connection is not None and inferior.connection.type == 'native':
            return time.clock_gettime_ns(time.CLOCK_MONOTONIC), 'now'
        latest = max((nanoseconds(worker['now_']) for worker in self.workers), default=0)
        return latest, 'the latest turn of a worker'

    def fibers(self):
        blocks = self.arena['blocks_']
        for index in range(integer_in(self.arena['fresh_blocks_'], 32)):
            fiber = Fiber(self, index, blocks[index])
            if fiber.stage != INITIAL:
                yield fiber


def nanoseconds(time_point):
    return int(read_as(time_point, gdb.selected_inferior().architecture().integer_type(64, True)))


class Fiber:
    def __init__(self, runtime, index, block):
        self.runtime, self.index, self.block = runtime, index, block
        word = integer_in(block['word'])
        self.generation = word >> 32
        self.stage = (word & 0xffffffff) >> STAGE_SHIFT
        self.wakes = word & ((1 << STAGE_SHIFT) - 1)

    @property
    def id(self):
        return f'{self.index}.{self.generation}'

    @property
    def name(self):
        words = self.block['name']
        text = gdb.selected_inferior().read_memory(int(words.address), words.type.sizeof).tobytes()
        return text[:text[-1]].decode(errors='replace')

    @property
    def worker(self):
        return pointer_in(self.block['home'], 'weft::worker').dereference()

    @property
    def runs_on(self):
        """The worker that is on its stack, or None."""
        return self.runtime.running.get(int(self.block.address))

    @property
    def state(self):
        if self.stage == FINISHED:
            return 'finished'
        if self.stage == FAILED:
            return 'failed'
        if self.runs_on is not None:
            return 'running'
        if self.wakes == 0:
            return 'parked'
        return 'runnable' if self.has_stack else 'new'

    @property
    def has_stack(self):
        return integer_in(self.block['stack_slot'], 32) != NO_SLOT

    @property
    def waits_for(self):
        if self.state != 'parked':
            return ''
        return string_at(read_as(self.block['waits_for'], gdb.lookup_type('char').pointer()))

    @property
    def waiting_s(self):
        if not self.waits_for:
            return None
        return max(0, self.runtime.now_ns - nanoseconds(self.block['waits_since'])) / 1e9

    @property
    def function(self):
        code = pointer_in(self.block['code'], 'weft::fiber_code')
        if not int(code):
            return ''
        decorated = string_at(code.dereference()['function'])
        found = re.search(r'Function = (.*)\]$', decorated)
        return found[1] if found else decorated


def runtimes():
    try:
        symbol = gdb.lookup_global_symbol('weft::detail::all_runtimes')
        each = symbol.value() if symbol else None
    except gdb.error:
        each = None
    if each is None:
        raise gdb.GdbError('There is no weft in this program, or it has no debugging information.')
    if not gdb.selected_inferior().threads():
        raise gdb.GdbError('No process runs and no core file is loaded: use gdb -p PID, or gdb PROGRAM CORE.')
    found = []
    while int(each):
        found.append(Runtime(each['registered'].referenced_value()))
        each = each['next']
    if not found:
        raise gdb.GdbError('There is no weft runtime in this process: none has been made yet, or all have ended.')
    return found


def find(text):
    """The fiber that an ID as in the list names: INDEX.GENERATION, or INDEX."""
    match = re.fullmatch(r'(?:(\d+):)?(\d+)(?:\.(\d+))?', text)
    if not match:
        raise gdb.GdbError(f"'{text}' is no fiber's ID: it is a number, or two, like 7 or 7.2; `weft fibers` lists them.")
    all_runtimes = runtimes()
    number = int(match[1] or 0)
    if number >= len(all_runtimes):
        raise gdb.GdbError(f'There is no runtime {number} in this process.')
    arena = all_runtimes[number].arena
    index = int(match[2])
    if index >= integer_in(arena['fresh_blocks_'], 32):
        raise gdb.GdbError(f'There is no fiber {text}: there never were so many.')
    fiber = Fiber(all_runtimes[number], index, arena['blocks_'][index])
    if match[3] is not None and int(match[3]) != fiber.generation:
        raise gdb.GdbError(f'There is no fiber {text} any more: it has ended, and its slot is at generation '
                           f'{fiber.generation}.')
    if fiber.stage == INITIAL:
        raise gdb.GdbError(f'There is no fiber {text}: its slot is free.')
    return fiber


# --- backtraces


class SavedContextUnwinder(gdb.unwinder.Unwinder):
    """While it is enabled, gdb takes a fiber's saved context for the caller of a thread's innermost frame."""

    def __init__(self):
        super().__init__('weft-fiber')
        self.enabled = False

    def show(self, layout, stack_pointer, innermost_sp):
        self.layout, self.stack_pointer, self.innermost_sp = layout, stack_pointer, innermost_sp

    def __call__(self, pending):
        if int(pending.read_register(self.layout['sp'])) != self.innermost_sp:
            return None
        # The innermost frame is said to lie at the context: below all of the fiber's frames, as gdb wants it.
        frame_id = collections.namedtuple('FrameId', 'sp pc')(gdb.Value(self.stack_pointer),
                                                              pending.read_register(self.layout['pc']))
        unwound = pending.create_unwind_info(frame_id)
        word = gdb.lookup_type('unsigned long')

        def saved(offset):
            return gdb.Value(self.stack_pointer + offset).cast(word.pointer()).dereference()

        unwound.add_saved_register(self.layout['pc'], saved(self.layout['return']))
        unwound.add_saved_register(self.layout['sp'], gdb.Value(self.stack_pointer + self.layout['bytes']).cast(word))
        for register, offset in self.layout['registers'].items():
            unwound.add_saved_register(register, saved(offset))
        return unwound


unwinder = SavedContextUnwinder()
gdb.unwinder.register_unwinder(None, unwinder, replace=True)


def backtrace(options):
    return gdb.execute(f'backtrace {options}', to_string=True)


def thread_of(worker):
    number = int(worker['thread_id_'])
    for thread in gdb.selected_inferior().threads():
        if thread.ptid[1] == number:
            return thread
    raise gdb.GdbError(f'The thread {number} of worker {int(worker["index_"])} is not there.')


class Selected:
    """What the user had selected is selected again afterwards."""

    def __enter__(self):
        self.thread, self.frame = gdb.selected_thread(), gdb.selected_frame()

    def __exit__(self, *_):
        self.thread.switch()
        if self.frame.is_valid():
            self.frame.select()


def backtrace_of_running(fiber):
    with Selected():
        thread_of(fiber.runs_on).switch()
        return backtrace('')


def frames_of_innermost_function():
    """One, and one more for each function that was inlined there."""
    frame = gdb.newest_frame()
    count = 1
    while frame.type() == gdb.INLINE_FRAME:
        frame = frame.older()
        count += 1
    return count


def backtrace_of_saved(fiber):
    architecture = gdb.newest_frame().architecture().name()
    if architecture not in SAVED_CONTEXTS:
        raise gdb.GdbError(f'weft-gdb.py does not know how weft saves a context on {architecture}.')
    layout = SAVED_CONTEXTS[architecture]
    with Selected():
        innermost = gdb.newest_frame()
        unwinder.show(layout, int(fiber.block['stack_pointer']), int(innermost.read_register(layout['sp'])))
        try:
            unwinder.enabled = True
            gdb.invalidate_cached_frames()
            threads_own = frames_of_innermost_function()
            text = backtrace('')
        finally:
            unwinder.enabled = False
            gdb.invalidate_cached_frames()
    frames = re.split(r'^(?=#\d)', text, flags=re.M)[1 + threads_own:]
    return ''.join(re.sub(r'^#\d+ *', f'#{n:<3}', frame) for n, frame in enumerate(frames))


# --- commands


class WeftCommand(gdb.Command):
    """Shows the fibers of a process that uses weft."""

    def __init__(self):
        super().__init__('weft', gdb.COMMAND_STACK, gdb.COMPLETE_NONE, True)


def table(rows):
    """Columns as wide as need be, but for the last one."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]) - 1)]
    return ''.join('  '.join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip() + '\n'
                   for row in rows)


def seconds(value):
    return '' if value is None else f'{value:.3f}'


class FibersCommand(gdb.Command):
    """Lists all fibers: weft fibers [--summary]

States: running (its worker is on its stack), runnable (queued), new (queued, and has not run yet), parked, finished
and failed (nobody has joined it yet). With --summary they are grouped by function and by what they wait for."""

    def __init__(self):
        super().__init__('weft fibers', gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        if argument.strip() not in ('', '--summary'):
            raise gdb.GdbError('Usage: weft fibers [--summary]')
        show = self.summary if argument.strip() else self.list
        all_runtimes = runtimes()
        for number, runtime in enumerate(all_runtimes):
            if len(all_runtimes) > 1:
                gdb.write(f'runtime {number}: its fibers\' IDs begin with {number}:\n')
            show(runtime, f'{number}:' if number else '')

    @staticmethod
    def list(runtime, prefix):
        rows = [('ID', 'NAME', 'STATE', 'WORKER', 'SECONDS', 'WAITS FOR', 'FUNCTION')]
        for fiber in runtime.fibers():
            rows.append((prefix + fiber.id, fiber.name, fiber.state, str(int(fiber.worker['index_'])),
                         seconds(fiber.waiting_s), fiber.waits_for, fiber.function))
        gdb.write(table(rows))
        gdb.write(f'{len(rows) - 1} fibers on {len(runtime.workers)} workers; seconds until {runtime.clock}\n')

    @staticmethod
    def summary(runtime, _prefix):
        groups = collections.defaultdict(list)
        for fiber in runtime.fibers():
            groups[fiber.state, fiber.waits_for, fiber.function].append(fiber.waiting_s or 0)
        rows = [('FIBERS', 'STATE', 'SECONDS AT MOST', 'WAITS FOR', 'FUNCTION')]
        for (state, waits_for, function), waits in sorted(groups.items(), key=lambda group: -len(group[1])):
            rows.append((str(len(waits)), state, seconds(max(waits) if waits_for else None), waits_for, function))
        gdb.write(table(rows))
        total = sum(len(waits) for waits in groups.values())
        gdb.write(f'{total} fibers on {len(runtime.workers)} workers; seconds until {runtime.clock}\n')


class BacktraceCommand(gdb.Command):
    """Shows where a fiber is: weft bt ID

ID is as `weft fibers` lists it, 7.2, or the first number alone. A fiber that runs is shown from its worker's thread."""

    def __init__(self):
        super().__init__('weft bt', gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        if not argument.strip():
            raise gdb.GdbError('Usage: weft bt ID, with an ID from `weft fibers`')
        fiber = find(argument.strip())
        if fiber.state in ('finished', 'failed'):
            raise gdb.GdbError(f'Fiber {fiber.id} has {"ended" if fiber.state == "finished" else "failed"}: it has no '
                               'stack any more.')
        if fiber.state == 'new':
            raise gdb.GdbError(f'Fiber {fiber.id} has not run yet: it has no stack. It is to run {fiber.function}')
        gdb.write(f"fiber {fiber.id} '{fiber.name}' {fiber.state}"
                  f'{", waits for " + fiber.waits_for if fiber.waits_for else ""}\n')
        gdb.write(backtrace_of_running(fiber) if fiber.state == 'running' else backtrace_of_saved(fiber))


WeftCommand()
FibersCommand()
BacktraceCommand()
