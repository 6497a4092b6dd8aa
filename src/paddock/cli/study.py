"""`paddock study`: what a suite of checkpoints tells about training (Pythia)."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.batches import Run
from paddock.cli.verb import Verb, new_app

app = new_app(no_args_is_help=True, help="Studies of a run's checkpoints: memorisation, order, term frequency.")

K = Annotated[int, typer.Option("--k", metavar="N", help="Tokens of a sequence that are given.", show_default=True)]
L = Annotated[int, typer.Option("--l", metavar="N", help="Tokens that must follow exactly.", show_default=True)]
Sequences = Annotated[
    int, typer.Option("--sequences", metavar="N", help="How many sequences of the training order.", show_default=True)
]
Plot = Annotated[str | None, typer.Option("--plot", metavar="FILE", help="Draw it: .png or .svg.", show_default=False)]


@app.command(
    cls=Verb,
    epilog="""paddock study memorization out/pythia-suite-mini/200k
    paddock study memorization out/small --foretells out/large --plot memorised.png""",
)
def memorization(
    run: Run,
    k: K = 32,
    following: L = 32,
    sequences: Sequences = 1000,
    foretells: Annotated[
        str | None,
        typer.Option(
            "--foretells",
            metavar="RUN",
            help="Whose last model is to be foretold. [default: its own]",
            show_default=False,
        ),
    ] = None,
    plot: Plot = None,
    json: o.Json = False,
) -> None:
    """How many training sequences each checkpoint knows by heart, and how well it foretells what the last one will.

    Given the first K tokens, a sequence is memorised where greedy writing gives exactly the L that follow.
    """
    from paddock.cli import studying

    studying.memorization(run, k, following, sequences, foretells, plot, json)


@app.command(cls=Verb, epilog="paddock study order out/pythia-suite-mini/800k --windows 20 --plot order.png")
def order(
    run: Run,
    k: K = 32,
    following: L = 32,
    sequences: Sequences = 1000,
    windows: Annotated[
        int, typer.Option("--windows", metavar="N", help="Pieces of the training order.", show_default=True)
    ] = 20,
    plot: Plot = None,
    json: o.Json = False,
) -> None:
    """Whether what the last model memorised lies in the order of training as chance would lay it (Poisson)."""
    from paddock.cli import studying

    studying.order(run, k, following, sequences, windows, plot, json)


@app.command(cls=Verb, epilog="paddock study terms out/arithmetic --questions questions.jsonl --plot terms.png")
def terms(
    run: Run,
    questions: Annotated[
        str,
        typer.Option("--questions", metavar="FILE", help='Lines of {"prompt", "answer", "terms"}.', show_default=False),
    ],
    plot: Plot = None,
    json: o.Json = False,
) -> None:
    """Whether the last model answers better where a question's terms were frequent in its training documents."""
    from paddock.cli import studying

    studying.terms(run, questions, plot, json)
