"""`paddock data`: documents and what becomes of them.

To add a subcommand: write `cli/data_NAME.py` with an app of its own (`app = new_app()`, its command with `cls=Verb` and
an epilog of examples), import it here and add it to PARTS. As everywhere, files of options import no room of the house
before they run.
"""

from __future__ import annotations

from types import ModuleType

from paddock.cli import data_clean, data_pack, data_read
from paddock.cli.verb import new_app

HELP = "Documents and examples: look at them, convert, clean, pack and mix them."
PARTS: tuple[ModuleType, ...] = (data_read, data_clean, data_pack)  # their commands become subcommands, in this order

app = new_app(no_args_is_help=True, help=HELP)


@app.callback(help=HELP)
def data() -> None:
    """A group even while it holds one command."""


for part in PARTS:
    app.add_typer(part.app)
