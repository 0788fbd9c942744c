"""``python -m avicheck.checker`` is ``avicheck``."""

from __future__ import annotations

from avicheck.checker.cli import run

if __name__ == "__main__":
    run()
