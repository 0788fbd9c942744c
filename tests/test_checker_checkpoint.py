"""Explorations go on where they were stopped, however that was, and only where it makes sense."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from avicheck.checker import checkpoint as checkpoints
from avicheck.checker.errors import InputError
from avicheck.checker.explore import Exploration, explore
from avicheck.checker.searched import Reduction
from avicheck.checker.verdict import Verdict
from avicheck.encodings import expr as ex
from avicheck.encodings.transition import Property, TransitionSystem
from tests.benchmarks.avic_delivery import COUNTS, SIZES, avic_delivery

ROOT = Path(__file__).parent.parent
XS = avic_delivery(*SIZES["XS"])

Tier = Literal["interpreted", "compiled"]
TIERS: tuple[Tier, ...] = ("interpreted", "compiled")
every_tier = pytest.mark.parametrize("tier", TIERS)

KILLED = """
import runpy, os, signal, sys
runpy.run_path("tests/conftest.py")
from pathlib import Path
from avicheck.checker import explore as exploring
from tests.benchmarks.avic_delivery import SIZES, avic_delivery

path, tier, function, calls, *reductions = sys.argv[1:]
usual, left = getattr(os, function), int(calls)

def die(*arguments):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(*arguments)

setattr(os, function, die)
exploring._CHECKPOINT_SHARE = 0
exploring.explore(
    avic_delivery(*SIZES["S"]),
    properties=["no-lost-interrupt"],
    reduce=reductions,
    tier=tier,
    checkpoint=Path(path),
    checkpoint_every=0,
)
"""


@every_tier
@pytest.mark.parametrize(
    ("function", "calls", "reductions"),
    [("fsync", 9, ()), ("replace", 1, ()), ("replace", 20, ()), ("replace", 20, ("dead", "partial-order"))],
)
def test_a_killed_exploration_goes_on_to_the_same_end(
    tmp_path: Path, tier: Tier, function: str, calls: int, reductions: tuple[Reduction, ...]
) -> None:
    path = tmp_path / "checkpoint"
    command = [sys.executable, "-c", KILLED, str(path), tier, function, str(calls), *reductions]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert path.exists() == (calls > 1)

    def explored(checkpoint: Path | None) -> Exploration:
        names = ["no-lost-interrupt"]
        system = avic_delivery(*SIZES["S"])
        return explore(system, properties=names, reduce=reductions, tier=tier, checkpoint=checkpoint)

    whole, resumed = explored(None), explored(path)
    assert (resumed.states, resumed.depth) == (whole.states, whole.depth)
    assert (whole.states == COUNTS["S"][0]) == (not reductions)
    assert resumed.fired == whole.fired
    assert resumed.out_degree_max == whole.out_degree_max
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("first", TIERS)
@pytest.mark.parametrize("second", TIERS)
def test_an_exploration_goes_on_in_either_tier(tmp_path: Path, first: Tier, second: Tier) -> None:
    path = tmp_path / "checkpoint"
    assert explore(XS, tier=first, max_states=5_000, checkpoint=path).stopped == "states"
    resumed = explore(XS, tier=second, checkpoint=path)
    assert resumed.tier == second
    assert (resumed.states, resumed.transitions, resumed.depth) == COUNTS["XS"]


@every_tier
def test_a_complete_exploration_is_not_repeated(tmp_path: Path, tier: Tier) -> None:
    path = tmp_path / "checkpoint"
    first = explore(XS, tier=tier, checkpoint=path)
    marks = checkpoints.load(path, XS, ()).marks
    assert marks.expanded == first.states
    second = explore(XS, tier=tier, checkpoint=path)
    assert (second.states, second.transitions, second.depth) == COUNTS["XS"]
    assert checkpoints.load(path, XS, ()).marks == marks


@every_tier
def test_a_resumed_exploration_may_ask_other_questions(tmp_path: Path, tier: Tier) -> None:
    path = tmp_path / "checkpoint"
    explore(XS, tier=tier, max_states=15_000, checkpoint=path)
    asleep = ex.eq(XS.variables[0].expr, ex.constant(7))
    awake = replace(XS, properties=(Property("awake", "never", asleep), *XS.properties))
    resumed = explore(awake, tier=tier, checkpoint=path, stop="never")
    afresh = explore(awake, tier=tier, stop="never")
    assert resumed.results[0].verdict is Verdict.VIOLATED
    assert resumed.results[0].depth == afresh.results[0].depth
    assert resumed.results[2].depth == afresh.results[2].depth


@every_tier
def test_a_deadlock_from_before_is_remembered(tmp_path: Path, tier: Tier) -> None:
    path = tmp_path / "checkpoint"
    stuck = replace(XS, transitions=tuple(t for t in XS.transitions if t.thread != "inhibitor"))
    stuck = replace(stuck, transitions=tuple(t for t in stuck.transitions if "pick" not in t.name))
    explored = explore(stuck, tier=tier, checkpoint=path)
    assert explored.deadlock is not None
    again = explore(stuck, tier=tier, checkpoint=path)
    assert again.deadlock == explored.deadlock


def test_a_checkpoint_of_another_system_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    explore(XS, checkpoint=path)
    text = f"^{re.escape(str(path))}: checkpoint must be of avic-delivery-1-1-1 as it is now, "
    with pytest.raises(InputError, match=text + "not of avic-delivery-1-1-2$"):
        explore(avic_delivery(1, 1, 1), checkpoint=path)


@pytest.mark.parametrize(
    "changed",
    [
        replace(XS, ended=ex.TRUE),
        replace(XS, transitions=XS.transitions[1:]),
        replace(XS, initial=({**XS.initial[0], "inhibit": 1},)),
        replace(XS, variables=(replace(XS.variables[0], hi=8), *XS.variables[1:])),
        replace(
            XS, transitions=(replace(XS.transitions[0], updates={"pc0": ex.constant(2)}), *XS.transitions[1:])
        ),
    ],
    ids=["ended", "transitions", "initial", "variables", "update"],
)
def test_a_checkpoint_of_an_earlier_form_is_refused(tmp_path: Path, changed: TransitionSystem) -> None:
    path = tmp_path / "checkpoint"
    explore(XS, checkpoint=path, max_states=100)
    before = path.read_bytes()
    text = "must be of avic-delivery-1-1-2 as it is now, not of an earlier form of it$"
    with pytest.raises(InputError, match=text):
        explore(changed, checkpoint=path)
    assert path.read_bytes() == before


def test_another_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("not to be overwritten\n")
    with pytest.raises(InputError, match=r": file must be a checkpoint of avicheck, not something else$"):
        explore(XS, checkpoint=path)
    assert path.read_text() == "not to be overwritten\n"


@pytest.mark.parametrize("at", [30, 200, -1])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, at: int) -> None:
    path = tmp_path / "checkpoint"
    explore(XS, checkpoint=path, max_states=1_000)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r": checkpoint must be whole, not damaged$"):
        explore(XS, checkpoint=path)


def test_a_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    explore(XS, checkpoint=path, max_states=1_000)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r": checkpoint must be whole, not damaged$"):
        explore(XS, checkpoint=path)


def test_a_checkpoint_that_cannot_be_written_is_noticed_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        explore(avic_delivery(*SIZES["L"]), checkpoint=tmp_path / "nowhere" / "checkpoint")


# Reductions.


@every_tier
def test_a_reduced_exploration_goes_on(tmp_path: Path, tier: Tier) -> None:
    path = tmp_path / "checkpoint"
    system = avic_delivery(1, 2, 1)
    which: tuple[Reduction, ...] = ("dead", "symmetry", "partial-order")
    names = [system.properties[0].name]
    whole = explore(system, properties=names, reduce=which, tier=tier)
    partial = explore(system, properties=names, reduce=which, tier=tier, max_states=4_000, checkpoint=path)
    assert partial.stopped == "states"
    resumed = explore(system, properties=names, reduce=which, tier=tier, checkpoint=path)
    assert (resumed.states, resumed.depth, resumed.fired) == (whole.states, whole.depth, whole.fired)


@pytest.mark.parametrize(
    ("first", "second", "wanted", "came"),
    [
        ((), ("symmetry",), "symmetry of 2 senders", "nothing"),
        (("symmetry",), (), "nothing", "symmetry of 2 senders"),
        (("symmetry",), ("partial-order",), "partial order with 2 private labels", "symmetry of 2 senders"),
    ],
)
def test_a_checkpoint_reduced_in_another_way_is_refused(
    tmp_path: Path, first: tuple[Reduction, ...], second: tuple[Reduction, ...], wanted: str, came: str
) -> None:
    path = tmp_path / "checkpoint"
    system = avic_delivery(1, 2, 1)
    names = [system.properties[0].name]
    explore(system, properties=names, reduce=first, max_states=100, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=f": checkpoint must be reduced by {wanted}, not by {came}$"):
        explore(system, properties=names, reduce=second, checkpoint=path)
    assert path.read_bytes() == before
