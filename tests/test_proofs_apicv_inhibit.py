"""What the page about apicv-inhibit cites comes out as it says; so does every bug of the corpus."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from avicheck.checker import systems
from avicheck.checker.bugs import Bug, tried
from avicheck.checker.verdict import Verdict
from avicheck.proofs import apicv_inhibit
from avicheck.proofs.apicv_inhibit import CITED, Cited, decided
from avicheck.proofs.bugs import BUGS
from avicheck.spec.apicv_inhibit import InhibitFix

PAGE = Path(apicv_inhibit.__file__).with_name("apicv-inhibit.md")


@pytest.mark.parametrize("cited", CITED, ids=[cited.name for cited in CITED])
def test_cited_verdict(cited: Cited) -> None:
    assert decided(cited).verdict is cited.verdict


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_bug_is_there_without_its_fix_and_gone_with_it(bug: Bug) -> None:
    assert {row.trial.label: row.conclusion for row in tried(bug)} == dict.fromkeys(
        (trial.label for trial in bug.trials), Verdict.HOLDS
    )


def test_corpus_has_every_entry_of_the_collection() -> None:
    names = {bug.name.rstrip("abci") for bug in BUGS}
    assert names == {
        "MAP-01",
        "MAP-03",
        "MAP-04",
        "MAP-05",
        *(f"INH-{n:02}" for n in (1, 2, 3, 4, 6, 8, 9, 11, 13, 14)),
        "INH-IRQWIN",
        "INH-L2",
    }


def test_every_fix_that_can_be_switched_has_a_bug() -> None:
    """Else a fix would seem not to matter that a model knows nothing of."""
    names = {name for bug in BUGS if bug.model == "apicv-inhibit" for name in bug.fixes}
    offered = systems.description("apicv-inhibit").switchable.items()
    assert names == {name for name, option in offered if isinstance(option, InhibitFix)}


def test_first_fixes_that_were_not_enough() -> None:
    assert [bug.name for bug in BUGS for trial in bug.trials if trial.label == "first alone"] == [
        "INH-04",
        "INH-08i",
    ]


def test_what_the_newest_kernel_lacks() -> None:
    assert [bug.name for bug in BUGS if "6.19" in bug.lacking] == [
        "INH-03b",
        "INH-09b",
        "INH-09c",
        "INH-11b",
        "INH-14b",
        "INH-IRQWIN",
    ]


def test_page_cites_only_what_is_decided() -> None:
    text = PAGE.read_text()
    cited = set(re.findall(r"`((?:too-big|l2|6\.19)/[a-z0-9-]+)`", text))
    assert cited <= {each.name for each in CITED}
    assert len(cited) > 15


def test_page_gives_the_steps_of_what_the_newest_kernel_lacks() -> None:
    text = PAGE.read_text()
    steps = {name: int(number) for name, number in re.findall(r"^\| (INH-\w+) .*\| (\d+) \|$", text, re.M)}
    found = {bug.name: next(tried(bug)).result.depth for bug in BUGS if "6.19" in bug.lacking}
    assert steps == found
