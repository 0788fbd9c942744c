"""What is kept between runs: found again, and never relied on if anything about it is odd."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avicheck.checker import cache, jit

KEY = cache.key_of(["one", "two"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "avicheck" / "kind"


def test_an_entry_is_found_again(home: Path) -> None:
    assert cache.get("kind", KEY) is None
    cache.put("kind", KEY, b"content")
    assert cache.get("kind", KEY) == b"content"
    assert cache.get("other", KEY) is None
    assert [path.name for path in home.iterdir()] == [KEY]


def test_a_key_is_of_all_its_parts() -> None:
    keys = {
        cache.key_of(parts) for parts in (["one", "two"], ["onetwo"], ["one", "", "two"], ["two", "one"], [])
    }
    assert len(keys) == 5
    assert cache.key_of([b"one", "two"]) == KEY


def test_a_key_is_of_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version", "3.12.0 (another)")
    assert cache.key_of(["one", "two"]) != KEY


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    "harm",
    [
        _flip,
        _link,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"avicheck cache 0\n" + path.read_bytes()[17:]),
        lambda path: path.chmod(0o620),
        lambda path: path.chmod(0o602),
        lambda path: path.parent.chmod(0o777),
    ],
    ids=["flipped", "link", "short", "empty", "version", "group writes", "others write", "open folder"],
)
def test_what_cannot_be_relied_on_is_absent(home: Path, harm: Callable[[Path], object]) -> None:
    cache.put("kind", KEY, b"content")
    harm(home / KEY)
    assert cache.get("kind", KEY) is None


def test_what_is_another_user_s_is_absent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put("kind", KEY, b"content")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert cache.get("kind", KEY) is None


def test_a_damaged_entry_is_replaced(home: Path) -> None:
    cache.put("kind", KEY, b"content")
    _flip(home / KEY)
    cache.put("kind", KEY, b"content")
    assert cache.get("kind", KEY) == b"content"


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.put("kind", KEY, b"content")
    assert cache.get("kind", KEY) is None
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_relative_folder_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.folder() == Path("/home/someone/.cache/avicheck")


def test_only_the_latest_entries_are_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST", 2)
    keys = [cache.key_of([str(i)]) for i in range(4)]
    for i, key in enumerate(keys):
        cache.put("kind", key, b"content")
        os.utime(home / key, (i, i))
    assert {path.name for path in home.iterdir()} == set(keys[2:])


# Machine code.

TWICE = "define i64 @twice(i64 %x) {\n  %y = add i64 %x, %x\n  ret i64 %y\n}"
FOUR_TIMES = "declare i64 @twice(i64)\ndefine i64 @four(i64 %x) {\n  %y = call i64 @twice(i64 %x)\n"
FOUR_TIMES += "  %z = call i64 @twice(i64 %y)\n  ret i64 %z\n}"


def four() -> int:
    import ctypes

    types = {"four": (ctypes.c_int64, ctypes.c_int64)}
    functions, kept = jit.compiled((FOUR_TIMES, TWICE), types)
    result: int = functions["four"](10)
    del kept
    return result


def test_machine_code_is_kept_and_used_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert four() == 40
    assert len(list((home.parent / "machine-code").iterdir())) == 2
    monkeypatch.setattr(jit, "_code", None)
    assert four() == 40


def test_machine_code_that_is_damaged_is_made_anew(home: Path) -> None:
    assert four() == 40
    for path in (home.parent / "machine-code").iterdir():
        _flip(path)
    assert four() == 40


def test_code_that_is_soon_there_is_not_kept(home: Path) -> None:
    import ctypes

    types = {"four": (ctypes.c_int64, ctypes.c_int64)}
    functions, _engine, fast = jit.soon_compiled((FOUR_TIMES, TWICE), types)
    assert (functions["four"](4), fast) == (16, False)
    assert not (home.parent / "machine-code").exists()
    assert four() == 40
    functions, _engine, fast = jit.soon_compiled((FOUR_TIMES, TWICE), types)
    assert (functions["four"](4), fast) == (16, True)
