"""``python -m avicheck.checker`` is ``avicheck``."""

from __future__ import annotations

from avicheck.checker.cli import main

if __name__ == "__main__":
    main(prog_name="avicheck")
