"""How many processors a process may use, by files as Linux writes them; memory that it gives back."""

import os
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from compactbio.processes import cores

ALL = cores(Path("/nowhere"))
HALF = {"cpu.max": "50000 100000\n"}
V1 = "4:memory:/a\n3:cpu,cpuacct:/a/b\n"


def tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A file system with /proc/self/cgroup and files below /sys/fs/cgroup."""
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


CASES = {
    "no limit": ("0::/a\n", {"a/cpu.max": "max 100000\n"}, ALL),
    "v2": ("0::/a/b\n", {"a/b/cpu.max": "100000 100000\n"}, 1),
    "v2 of a group around": ("0::/a/b\n", {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),
    "v2 in a container": ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
    "v2 with a host's path": ("0::/../../kubepods/pod1\n", {"cpu.max": "100000 100000\n"}, 1),
    "v2 without a period": ("0::/a\n", {"a/cpu.max": "100000\n"}, 1),
    "less than one": ("0::/\n", HALF, 1),
    "more than there are": ("0::/\n", {"cpu.max": f"{ALL + 5}00000 100000\n"}, ALL),
    "v1": (V1, {"cpu,cpuacct/a/b/cpu.cfs_quota_us": "20000\n", "cpu,cpuacct/a/b/cpu.cfs_period_us": "20000\n"}, 1),
    "v1 under the short name": (V1, {"cpu/a/cpu.cfs_quota_us": "1000\n", "cpu/a/cpu.cfs_period_us": "1000\n"}, 1),
    "v1 without a limit": (V1, {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, ALL),
    "another group's limit": ("0::/a\n", {"b/cpu.max": "100000 100000\n"}, ALL),
    "what is no limit": ("0::/a\nnonsense\n", {"a/cpu.max": "much of it\n", "cpu.max": "100000 0\n"}, ALL),
}


@pytest.mark.parametrize("name", CASES)
def test_the_limits_of_control_groups_are_obeyed(tmp_path, name):
    groups, files, expected = CASES[name]
    assert cores(tree(tmp_path, groups, files)) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_a_process_that_is_bound_to_one_processor_has_one():
    code = "import os, compactbio.processes as m; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(m.cores())"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library gives freed memory back by itself")
def test_freed_memory_between_what_is_still_used_goes_back_to_the_system():
    code = """
        import compactbio.processes as m

        def resident():
            return int(open("/proc/self/statm").read().split()[1]) * 4096

        buffers = [bytearray(b"x") * 100_000 for _ in range(2000)]
        used = buffers[::20]
        del buffers
        before = resident()
        m.give_back_memory()
        print(before - resident() > 100e6)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library manages large buffers in its own way")
def test_large_buffers_are_used_again_without_the_system():
    code = """
        import resource

        import compactbio.processes as m

        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(4):
                bytearray(b"x") * 100_000_000
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        usual = faults()
        with m.reusing_memory():
            faults()
            again = faults()
        print(10 * again < usual, 10 * again < faults())  # of large pages there are few
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"
