"""How much Python does in a call, counted: the same on every machine, however busy it is."""

import sys
from collections.abc import Callable


def instructions(function: Callable[[], object]) -> int:
    """The bytecode instructions that `function` runs in compactbio's own code."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if "compactbio" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count
