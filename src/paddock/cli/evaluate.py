"""Verbs that say how good answers are: eval lines, eval numeric-qa, eval texts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app(no_args_is_help=True, help="Questions to a model, and how many it answers right.")

Lengths = Annotated[
    str | None,
    typer.Option(
        "--lengths",
        metavar="N,N,...",
        help="Tokens of a question with its document and answer. [default: an eighth of the context to all of it]",
        show_default=False,
    ),
]
Questions = Annotated[
    int,
    typer.Option("--questions", "-q", metavar="N", help="For each length and place. [default: 20]", show_default=False),
]
Chat = Annotated[bool, typer.Option("--chat", help="Ask as a user, in the model's chat template.", show_default=False)]
Beyond = Annotated[
    bool,
    typer.Option(
        "--beyond",
        help="Read more than the model was made for, with nothing done to its positions.",
        show_default=False,
    ),
]
Plot = Annotated[str | None, typer.Option("--plot", metavar="FILE", help="Draw it: .png or .svg.", show_default=False)]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Which questions. [default: 0]", show_default=False)]


@app.command(
    cls=Verb,
    epilog="""paddock eval lines my-model --lengths 128,256,512,1024
    paddock eval lines my-model-8k -q 50 --plot lines.png
    paddock eval lines my-model --lengths 4096 --beyond --json""",
)
def lines(
    ctx: typer.Context,
    model: o.ModelArgument = None,
    lengths: Lengths = None,
    questions: Questions = 20,
    digits: Annotated[
        int,
        typer.Option(
            "--digits", metavar="N", help="Of a line's number and of its value. [default: 4]", show_default=False
        ),
    ] = 4,
    seed: Seed = 0,
    chat: Chat = False,
    beyond: Beyond = False,
    plot: Plot = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    json: o.Json = False,
) -> None:
    """How well a model finds a line again in a long record of them, by length and by where the line stands.

    Lines have random numbers and values; one is asked for, and only its very value is right.
    """
    from paddock.cli import evaluating

    evaluating.lines(_asked(ctx), digits)


@app.command(
    "numeric-qa",
    cls=Verb,
    epilog="""paddock eval numeric-qa my-model --lengths 512,1024,2048
    paddock eval numeric-qa my-model --data questions.jsonl --chat --plot qa.svg""",
)
def numeric_qa(
    ctx: typer.Context,
    model: o.ModelArgument = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help='Records {"document", "question", "answer"}. [default: bundled facts]',
            show_default=False,
        ),
    ] = None,
    lengths: Lengths = None,
    questions: Questions = 20,
    seed: Seed = 0,
    chat: Chat = False,
    beyond: Beyond = False,
    plot: Plot = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    json: o.Json = False,
) -> None:
    """How well a model reads a number in a long document, by length and by where the number stands.

    The number is changed throughout the document, so that what a model knows by heart is wrong. An answer counts if
    the changed number is in it.
    """
    from paddock.cli import evaluating

    evaluating.numeric_qa(_asked(ctx), data)


@app.command(
    cls=Verb,
    epilog="""paddock eval texts translated.de wanted.de
    paddock eval texts summaries.txt wanted.txt --source articles.txt
    paddock eval texts out.zh wanted-1.zh wanted-2.zh --json""",
)
def texts(
    outputs: Annotated[str, typer.Argument(metavar="OUTPUTS", help="What was written, a text to a line.")],
    references: Annotated[
        list[str],
        typer.Argument(metavar="REFERENCES...", help="What was wanted, line by line; several files: any of them."),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="FILE",
            help="What was read: its copy and first sentences are scored too.",
            show_default=False,
        ),
    ] = None,
    tokenization: Annotated[
        str,
        typer.Option(
            "--tokenization",
            metavar="NAME",
            help="How BLEU finds words: 13a, zh, none. [default: by the references' script]",
            show_default=False,
        ),
    ] = "auto",
    json: o.Json = False,
) -> None:
    """BLEU, chrF and ROUGE of texts that some model wrote, beside what needs no model.

    BLEU and chrF are counted over all lines as sacrebleu counts them, ROUGE is the mean over lines, without stemming.
    """
    from paddock.cli import scoring

    scoring.texts(outputs, references, tokenization, source, json)


def _asked(ctx: typer.Context) -> Any:
    from paddock.cli.evaluating import Asked

    given = ctx.params
    names = ("lengths", "questions", "seed", "chat", "beyond", "plot", "json")
    return Asked(o.Loading.of(given), **{name: given[name] for name in names})
