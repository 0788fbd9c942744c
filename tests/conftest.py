"""Make ``avicheck`` importable from the tree where it is not installed, and Ctrl-C what it is."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

if importlib.util.find_spec("avicheck") is None:
    avicheck = ModuleType("avicheck")
    avicheck.__path__ = [str(Path(__file__).parent.parent)]
    sys.modules["avicheck"] = avicheck

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell has put us in the background

if "pytest" in sys.modules:  # benchmarks run this file too
    import pytest

    @pytest.fixture(scope="session", autouse=True)
    def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """What is kept between runs is not the user's."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
            yield
