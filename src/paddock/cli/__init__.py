"""The command line: `paddock VERB ...`.

`entry.py` is where every command begins and ends; `help.py` lists the verbs, `verb.py` finds them. The file of a group
of verbs (`run.py`, `inspect.py`, ...) holds their options only; what a verb does is in a file of its own, imported when
the verb runs, because it brings its rooms and PyTorch with it.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (the program's own by default) and gives its exit code."""
    from paddock.cli.entry import run

    return run(argv)
