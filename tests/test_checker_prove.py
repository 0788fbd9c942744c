"""``avicheck prove``: what is archived is what was solved, and a second solver is asked honestly."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import archive, claims, evidence, proof
from avicheck.checker.check import WIDTH
from avicheck.checker.cli import main
from avicheck.checker.solve import Answer, Query, Status, ask, solve_all, solve_text, solver_version
from avicheck.checker.verdict import Verdict
from avicheck.encodings import expr as ex
from avicheck.spec import kernels
from avicheck.spec.kernels import KERNELS

CLAIMS = ("--claim", "owned", "--claim", "one-owner")


def prove(*args: str) -> Result:
    return CliRunner().invoke(main, ["prove", "apic-map", "--vcpus", "2", "--jobs", "1", *args])


def run(*args: str) -> Result:
    return prove(*CLAIMS, *args)


def manifest(folder: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text())["queries"]
    return told


class Asked:
    """Which solver was asked what. Each answers as ``says`` tells, and where it tells nothing, as z3 does,
    in no time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **says: Status) -> None:
        self.names: list[tuple[str, str]] = []
        self.says = says
        monkeypatch.setattr(proof, "solve_all", self)

    def __call__(
        self, queries: Iterable[Query], *, solver: str, **rest: Any
    ) -> Iterator[tuple[Query, Answer]]:
        queries = list(queries)
        self.names += [(solver, query.name) for query in queries]
        if solver in self.says:
            told = Answer(self.says[solver], solver, 0.0, why="timeout")
            yield from ((query, told) for query in queries)
        else:
            for query, answer in solve_all(queries, **rest):
                yield query, replace(answer, solver=solver, seconds=0.0)


# The archive.


def test_every_answer_is_archived_and_confirmed(tmp_path: Path) -> None:
    result = run("--archive", str(tmp_path / "a"), "--recheck", "bitwuzla")
    assert result.exit_code == Verdict.VIOLATED.exit_code
    entries = manifest(tmp_path / "a")
    assert {entry["group"] for entry in entries} == {"owned", "one-owner", "lifting"}
    for entry in entries:
        text = (tmp_path / "a" / entry["file"]).read_text()
        assert hashlib.sha256(text.encode()).hexdigest() == entry["sha256"]
        assert solve_text(text).status == entry["reply"]["answer"] == entry["recheck"]["answer"]
        assert entry["reply"]["solver"] == solver_version("z3")
        assert entry["recheck"]["solver"] == solver_version("bitwuzla")


def test_the_manifest_says_what_was_proved_of_what(tmp_path: Path) -> None:
    run("--archive", str(tmp_path))
    told = json.loads((tmp_path / "manifest.json").read_text())
    kernel = told["kernels"]["6.19"]
    assert told["specification"] == archive.specification_checksum()
    assert kernel["fixes"] == sorted(fix.value for fix in KERNELS["6.19"].fixes)
    assert {group: told["verdict"] for group, told in kernel["groups"].items()} == {
        "one-owner": "violated",
        "owned": "holds",
        "lifting": "holds",
    }
    assert kernel["groups"]["owned"]["vcpus"] == 2


def test_scripts_say_what_they_are_for(tmp_path: Path) -> None:
    run("--archive", str(tmp_path))
    text = (tmp_path / "owned/6.19/2/vcpu0.smt2").read_text()
    assert text.startswith("; owned/6.19/2/vcpu0: With the map present every enabled APIC's physical ID has")
    assert "(set-info :status unsat)" in text


def test_json_is_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch)
    result = run("--archive", str(tmp_path), "--json")
    assert json.loads(result.stdout) == json.loads((tmp_path / "manifest.json").read_text())


def test_the_same_script_is_not_asked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    first = run("--archive", str(tmp_path), "--claim", "owned", "--recheck", "cvc5")
    verdicts = [line.split()[:2] for line in first.output.splitlines()[3:6]]
    asked.names.clear()
    result = run("--archive", str(tmp_path), "--claim", "owned", "--recheck", "cvc5")
    assert asked.names == []
    assert [line.split()[:2] for line in result.output.splitlines()[3:6]] == verdicts
    assert all(entry["reply"]["reused"] and entry["recheck"]["reused"] for entry in manifest(tmp_path))
    assert f"reused: {len(manifest(tmp_path))} answers of an earlier run" in result.output


def test_a_reused_counterexample_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--archive", str(tmp_path))
    monkeypatch.setattr(claims, "replays", lambda _claim, _case: False)
    assert run("--archive", str(tmp_path)).exit_code == Verdict.TOOL_ERROR.exit_code


def test_an_answer_of_another_solver_version_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--archive", str(tmp_path))
    asked = Asked(monkeypatch)
    monkeypatch.setattr(archive, "solver_version", lambda solver: f"{solver} of tomorrow")
    run("--archive", str(tmp_path))
    assert len(asked.names) == len(manifest(tmp_path))


def test_an_answer_to_another_script_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--archive", str(tmp_path))
    asked = Asked(monkeypatch)
    prove("--archive", str(tmp_path), *CLAIMS, "--kernel", "posted-2022-08")
    assert ("z3", "one-owner/posted-2022-08/2") in asked.names


def test_an_open_question_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, z3="unknown")
    assert run("--archive", str(tmp_path)).exit_code == Verdict.UNKNOWN.exit_code
    asked.says.clear()
    assert run("--archive", str(tmp_path)).exit_code == Verdict.VIOLATED.exit_code


def test_an_interrupted_run_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(queries: Iterable[Query], **_: Any) -> Iterator[tuple[Query, Answer]]:
        first = next(iter(queries))
        yield first, Answer("unsat", "z3", 0.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(proof, "solve_all", interrupted)
    result = run("--archive", str(tmp_path))
    assert result.exit_code == 5
    [entry] = manifest(tmp_path)
    lines = result.output.splitlines()
    assert (entry["group"], entry["reply"]["answer"]) == ("one-owner", "unsat")
    assert any(line.startswith("not asked: ") for line in lines)
    assert any(line.startswith("unknown owned") for line in lines)


def test_an_interrupted_run_loses_nothing_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(queries: Iterable[Query], **_: Any) -> Iterator[tuple[Query, Answer]]:
        raise KeyboardInterrupt
        yield

    Asked(monkeypatch)
    run("--archive", str(tmp_path), "--recheck", "cvc5")
    before = [(entry["name"], entry["recheck"]["answer"]) for entry in manifest(tmp_path)]
    monkeypatch.setattr(proof, "solve_all", interrupted)
    assert run("--archive", str(tmp_path), "--recheck", "cvc5").exit_code == 5
    assert [(entry["name"], entry["recheck"]["answer"]) for entry in manifest(tmp_path)] == before


def test_other_peoples_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    result = run("--archive", str(tmp_path))
    assert result.exit_code == 3
    assert "--archive must be an empty folder or one with the manifest.json of an archive" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "--archive must be a folder with the manifest.json of an archive, not another one"),
        ("[]", "--archive must be a folder with the manifest.json of an archive, not another one"),
        ("{", "Content must be JSON, not "),
        ('{"format": "avicheck archive 1"}', "tool must be given, not left out"),
    ],
)
def test_another_tools_manifest_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    result = run("--archive", str(tmp_path))
    assert result.exit_code == 3
    assert f"{tmp_path}/manifest.json: {message}" in result.stderr
    assert (tmp_path / "manifest.json").read_text() == content


@pytest.mark.parametrize("target", ["../thesis.smt2", "/tmp/thesis.smt2", "thesis.tex"])
def test_an_archive_reaches_no_file_outside(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "a"
    run("--archive", str(folder))
    told = json.loads((folder / "manifest.json").read_text())
    told["queries"][0]["file"] = target
    (folder / "manifest.json").write_text(json.dumps(told))
    result = run("--archive", str(folder))
    assert result.exit_code == 3
    assert f"file must be a script inside the archive, not '{target}'" in result.stderr


def test_an_archive_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("--archive", str(tmp_path / "file"))
    assert result.exit_code == 3
    assert "--archive must be a folder, not a file" in result.output


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("--archive", str(tmp_path / "file" / "below"))
    assert result.exit_code == 3
    assert "--archive must be a folder that can be read and written, not Not a directory" in result.output


def test_a_new_archive_replaces_the_scripts_of_the_old_one(tmp_path: Path) -> None:
    run("--archive", str(tmp_path))
    prove("--claim", "owned", "--archive", str(tmp_path))
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.smt2")}
    assert files == {entry["file"] for entry in manifest(tmp_path)}
    assert not (tmp_path / "one-owner").exists()


# The second solver.


def test_a_lying_second_solver_is_a_tool_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch, bitwuzla="sat")
    result = run("--recheck", "bitwuzla")
    assert result.exit_code == Verdict.TOOL_ERROR.exit_code
    assert "disputed: owned/6.19/2/vcpu0: z3 and bitwuzla contradict each other" in result.output


def test_a_second_solver_without_time_confirms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch, bitwuzla="unknown")
    result = run("--recheck", "bitwuzla")
    assert result.exit_code == Verdict.VIOLATED.exit_code
    [line] = [line for line in result.output.splitlines() if line.startswith("holds    owned ")]
    assert line.endswith(" 0/2")
    assert "not confirmed: owned/6.19/2/vcpu0: bitwuzla: timeout" in result.output


def test_what_nobody_answered_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, z3="unknown")
    result = run("--recheck", "bitwuzla")
    assert {solver for solver, _ in asked.names} == {"z3"}
    assert "open: owned/6.19/2/vcpu0: timeout" in result.output


def test_a_missing_second_solver_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    result = run("--recheck", "cvc5")
    assert result.exit_code == 3
    assert result.stderr == (
        "avicheck: --recheck must be one that is installed, not cvc5, which is not; pip install cvc5\n"
    )


# Verdicts.


def proof_of(group: str, status: Status) -> Verdict:
    query = ask("q", "", [ex.TRUE])
    made = proof.Proof(KERNELS["6.19"], 2, (), {group: [query]})
    made.evidence["q"] = proof.Evidence(query, Answer(status, "z3", 0.0))
    return made.overall


@pytest.mark.parametrize(
    ("group", "status", "verdict"),
    [
        (proof.EQUIVALENCE, "unsat", Verdict.HOLDS),
        (proof.EQUIVALENCE, "sat", Verdict.VIOLATED),
        (proof.EQUIVALENCE, "unknown", Verdict.UNKNOWN),
        (proof.LIFTING, "sat", Verdict.TOOL_ERROR),
    ],
)
def test_obligations_have_verdicts_too(group: str, status: Status, verdict: Verdict) -> None:
    assert proof_of(group, status) is verdict


def test_everything_is_asked_by_default() -> None:
    made = proof.collect("apic-map", KERNELS["6.19"], 1, ())
    on_it = [claim.name for claim in claims.claims_of("apic-map") if claim.on(KERNELS["6.19"])]
    assert list(made.asked) == [*on_it, proof.EQUIVALENCE, proof.LIFTING]
    assert {name.split("/")[0] for name in (query.name for query in made.asked[proof.EQUIVALENCE])} == {
        "equal"
    }


def test_no_query_has_the_name_of_another() -> None:
    made = proof.collect("apic-map", KERNELS["6.19"], 1, ())
    names = [query.name for group in made.asked.values() for query in group]
    assert len(set(names)) == len(names)


# What is printed and written.


def test_report(snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch)
    result = run("--recheck", "bitwuzla", "--kernel", "6.1", "--kernel", "6.19", "--claim", "class-odd-dfr")
    assert max(map(len, result.output.splitlines())) <= WIDTH
    assert result.output == snapshot


def test_the_page_for_a_design_review(
    snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Asked(monkeypatch)
    for module in (evidence, archive):
        monkeypatch.setattr(module, "specification_checksum", lambda: "0" * 64)
    monkeypatch.setattr(evidence, "tool_version", lambda: "avicheck")
    monkeypatch.setattr(evidence, "solver_version", lambda solver: solver)
    page = tmp_path / "page.md"
    run("--claim", "class-aliased-apic-id", "--recheck", "bitwuzla", "--report", str(page))
    assert page.read_text() == snapshot


def test_a_page_that_cannot_be_written_is_told_before_anything_is_solved(tmp_path: Path) -> None:
    result = run("--report", str(tmp_path / "none" / "page.md"))
    assert result.exit_code == 3
    assert "--report must be a file that can be written, not No such file or directory" in result.stderr


def test_the_specification_has_a_checksum_of_its_contents(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kernels.py").write_text("a = 1\n")
    monkeypatch.setattr(kernels, "__file__", os.fspath(tmp_path / "kernels.py"))
    before = archive.specification_checksum()
    (tmp_path / "kernels.py").write_text("a = 2\n")
    assert archive.specification_checksum() != before


# Models of which the obligations are all that is proved here.


@pytest.fixture
def _concurrent(monkeypatch: pytest.MonkeyPatch) -> None:
    made = "avicheck.proofs.apicv_inhibit_equivalence:obligations"
    points = {"avicheck.obligations": [EntryPoint("apicv-inhibit", made, "avicheck.obligations")]}
    monkeypatch.setattr(claims, "entry_points", lambda group: points.get(group, []))


def prove_inhibit(*args: str) -> Result:
    return CliRunner().invoke(main, ["prove", "apicv-inhibit", "--vcpus", "1", "--jobs", "1", *args])


@pytest.mark.usefixtures("_concurrent")
def test_obligations_of_a_concurrent_model_are_archived_and_confirmed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    result = prove_inhibit("--archive", str(tmp_path / "a"), "--recheck", "bitwuzla", "--report", str(page))
    assert result.exit_code == Verdict.HOLDS.exit_code
    told = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert {query["group"] for query in told["queries"]} == {"equivalence"}
    assert {query["recheck"]["answer"] for query in told["queries"]} == {"unsat"}
    assert told["kernels"]["6.19"]["groups"]["equivalence"]["vcpus"] is None
    assert "KVM: VMX: Update SVI during runtime APICv activation" in told["kernels"]["6.19"]["fixes"]
    assert told["bounds"].startswith("All masks of the thirteen reasons")
    assert "The hand-written rules and the lifted specification say the same." in page.read_text()
    assert "vCPU ids 0 to 4095" not in page.read_text() + result.stdout


@pytest.mark.usefixtures("_concurrent")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--kernel", "posted-2022-08"],
            'apicv-inhibit: --kernel must be one of 6.1, 6.12, 6.16, 6.19, not "posted-2022-08"',
        ),
        (
            ["--claim", "owned"],
            "apicv-inhibit: --claim must be left out for a model without claims, not given",
        ),
    ],
)
def test_what_a_model_without_claims_does_not_have(args: list[str], message: str) -> None:
    result = prove_inhibit(*args)
    assert (result.exit_code, result.stderr) == (3, f"avicheck: {message}\n")


@pytest.mark.usefixtures("_concurrent")
def test_model_of_which_nothing_can_be_proved() -> None:
    result = CliRunner().invoke(main, ["prove", "apicv-inhibit-tpr"])
    assert result.exit_code == 3
    assert result.stderr.startswith("avicheck: model must be one of apicv-inhibit, not ")


# Theorems about a concurrent model, at full width.


def test_theorems_are_told_with_their_verdicts() -> None:
    calls = ("calls/no-null-pointer", "calls/no-null-pointer-repaired")
    result = CliRunner().invoke(
        main, ["prove", "secure-avic", "--jobs", "1", "--json", *(f"--claim={name}" for name in calls)]
    )
    told = json.loads(result.stdout)["kernels"]["6.19"]["groups"]
    assert {name: group["verdict"] for name, group in told.items()} == dict(
        zip(calls, ("violated", "holds"), strict=True)
    )
    assert result.exit_code == Verdict.VIOLATED.exit_code


def test_an_unknown_theorem() -> None:
    result = CliRunner().invoke(main, ["prove", "secure-avic", "--claim", "calls/no-nul-pointer"])
    assert result.exit_code == 3
    assert "secure-avic: --claim must be one of integrity/agreed-at-first, " in result.stderr
    assert result.stderr.endswith('not "calls/no-nul-pointer"; did you mean calls/no-null-pointer?\n')
