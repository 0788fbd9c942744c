"""Make ``avicheck`` importable from the tree where it is not installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

if importlib.util.find_spec("avicheck") is None:
    avicheck = ModuleType("avicheck")
    avicheck.__path__ = [str(Path(__file__).parent.parent)]
    sys.modules["avicheck"] = avicheck
