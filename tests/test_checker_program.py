"""The end of a program."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

START = "from avicheck.checker.program import leave\n"


def program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START + text], capture_output=True, text=True, timeout=60, check=False
    )


def test_what_was_written_is_out() -> None:
    ended = program("import sys\nprint('x' * 100_000)\nprint('y', file=sys.stderr)\nleave(0)")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("x" * 100_000 + "\n", "y\n", 0)


@pytest.mark.parametrize("code", [0, 1, 130])
def test_the_code_is_the_one_that_was_given(code: int) -> None:
    assert program(f"leave({code})").returncode == code


def test_no_thread_is_waited_for() -> None:
    text = "import threading, time\nthreading.Thread(target=time.sleep, args=(50,)).start()\n"
    began = time.monotonic()
    assert program(text + "leave(0)").returncode == 0
    assert time.monotonic() - began < 40


@pytest.mark.parametrize("stream", ["None", "open('/dev/full', 'w')", "closed"])
def test_a_stream_that_cannot_be_flushed_changes_nothing(stream: str) -> None:
    text = "import sys\nclosed = open('/dev/null', 'w')\nclosed.close()\nsys.stdout = {}\n"
    full = "sys.stdout.write('x')\n" if "full" in stream else ""
    ended = program(text.format(stream) + full + "leave(7)")
    assert (ended.returncode, ended.stderr) == (7, "")


def test_garbage_is_looked_for_seldom_and_found() -> None:
    text = """
from avicheck.checker.program import begin
import gc, weakref
begin()
class Ring: pass
ring = Ring()
ring.self = ring
gone = weakref.ref(ring)
del ring
few = [[] for _ in range(10_000)]
print(gone() is None)
many = [[] for _ in range(1_000_000)]
print(gone() is None)
"""
    assert program(text).stdout.split() == ["False", "True"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_no_process_is_left_behind(method: str) -> None:
    text = f"""
import multiprocessing, time
child = multiprocessing.get_context("{method}").Process(target=time.sleep, args=(50,))
child.start()
leave(0)
"""
    began = time.monotonic()
    assert program(text).returncode == 0  # which waits until nobody has its output open
    assert time.monotonic() - began < 40


def test_no_worker_of_a_pool_is_left_behind() -> None:
    text = """
import time
from concurrent.futures import ProcessPoolExecutor
pool = ProcessPoolExecutor(2)
assert pool.submit(abs, -1).result() == 1
pool.submit(time.sleep, 50)
pool.shutdown(wait=False, cancel_futures=True)
leave(0)
"""
    began = time.monotonic()
    ended = program(text)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert time.monotonic() - began < 40
