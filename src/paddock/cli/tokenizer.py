"""`paddock tokenizer`: vocabularies learnt, shown, compared and extended."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import data_options as d
from paddock.cli.options import Force, Json
from paddock.cli.verb import Verb, new_app

app = new_app(no_args_is_help=True, help="Vocabularies: learn, show, compare and extend them.")

Special = Annotated[
    list[str] | None,
    typer.Option(
        "--special",
        metavar="TOKEN",
        help='A control token, or ROLE=TOKEN (bos, eos, unk, pad, cls, sep, mask; "ROLE=" for none); again for each.',
        show_default=False,
    ),
]
Output = Annotated[str, typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes.", show_default=False)]
WHICH = "A model's folder or .gguf file, a tokenizer's own file, or a name `paddock ls` shows."


@app.command(
    cls=Verb,
    epilog="""paddock tokenizer train corpus.jsonl.zst --vocab-size 8192 --output my-tokenizer
    paddock tokenizer train "zh/*.txt" --kind unigram --vocab-size 16000 --special "[gMASK]" --special "<sop>" -o zh""",
)
def train(
    ctx: typer.Context,
    files: d.Files,
    output: Output,
    vocab_size: Annotated[
        int, typer.Option("--vocab-size", metavar="N", help="Pieces in all, control tokens too.", show_default=False)
    ],
    kind: Annotated[
        str, typer.Option("--kind", "-k", metavar="KIND", help="bpe (of bytes), sentencepiece-bpe, unigram, wordpiece.")
    ] = "bpe",
    special: Special = None,
    add_bos: Annotated[
        bool | None,
        typer.Option("--add-bos/--no-bos", help="Put bos before every text. [default: sentencepiece-bpe does]"),
    ] = None,
    add_eos: Annotated[bool, typer.Option("--add-eos", help="Put eos after every text.", show_default=False)] = False,
    byte_fallback: Annotated[
        bool,
        typer.Option(
            "--byte-fallback/--no-byte-fallback",
            help="SentencePiece: spell unknown characters as bytes (line breaks too).",
        ),
    ] = True,
    coverage: Annotated[
        float, typer.Option("--coverage", metavar="SHARE", help="Share of the text whose characters become pieces.")
    ] = 0.9995,
    words: Annotated[
        str, typer.Option("--words", metavar="WAY", help="bpe: how text is cut into words: gpt-2, llama3, qwen2 ...")
    ] = "gpt-2",
    keep_case: Annotated[
        bool, typer.Option("--keep-case", help="wordpiece: do not fold case.", show_default=False)
    ] = False,
    least: Annotated[
        int, typer.Option("--least", metavar="N", help="bpe, wordpiece: how often a pair must occur.")
    ] = 2,
    force: Force = False,
    format: d.Format = "auto",
    text_field: d.TextField = "text",
    split: d.Split = "auto",
    separator: d.Separator = None,
    encoding: d.Encoding = "utf-8",
    errors: d.Errors = "strict",
    on_error: d.OnError = "stop",
    limit: d.Limit = None,
    json: Json = False,
) -> None:
    """Learns a vocabulary from documents, and writes it as a folder that Paddock and transformers read alike.

    Equal texts give equal files.
    """
    from paddock.cli import tokenizer_training
    from paddock.tokenizer.training.plan import Plan

    plan = Plan(
        kind,
        vocab_size,
        tuple(special or ()),
        add_bos,
        add_eos or None,
        byte_fallback,
        coverage,
        words,
        lowercase=not keep_case,
        least=least,
    )
    tokenizer_training.train(files, d.reading(ctx.params), plan, output, force, json)


@app.command(cls=Verb, epilog="paddock tokenizer show\npaddock tokenizer show my-tokenizer --json")
def show(
    path: Annotated[str | None, typer.Argument(metavar="PATH", help=WHICH, show_default=False)] = None,
    json: Json = False,
) -> None:
    """Says what a tokenizer is: kind, size, control tokens, what it does to a text, longest pieces, scripts."""
    from paddock.cli import tokenizer_showing

    tokenizer_showing.show(path, json)


@app.command(
    cls=Verb,
    epilog="""paddock tokenizer compare llama/ gpt2/ my-tokenizer/ --text en.txt --text zh.txt
    paddock tokenizer compare llama/ my-tokenizer/ --text "corpus/*.jsonl" --plot compare.png --json""",
)
def compare(
    ctx: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help=WHICH, show_default=False)],
    text: Annotated[
        list[str],
        typer.Option(
            "--text", "-t", metavar="FILE", help="What to compare on, a row each; again for each.", show_default=False
        ),
    ],
    characters: Annotated[
        int, typer.Option("--characters", metavar="N", min=1, help="How much of each text to read.")
    ] = 1_000_000,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Draw it too: .png or .svg.", show_default=False)
    ] = None,
    format: d.Format = "auto",
    text_field: d.TextField = "text",
    split: d.Split = "auto",
    separator: d.Separator = None,
    encoding: d.Encoding = "utf-8",
    errors: d.Errors = "strict",
    on_error: d.OnError = "stop",
    limit: d.Limit = None,
    json: Json = False,
) -> None:
    """Compares tokenizers on texts: bytes and characters per token, tokens per word, what is unknown or in bytes.

    A word is a run of letters and digits; each Chinese character is one.
    """
    from paddock.cli import tokenizer_showing

    tokenizer_showing.compare(paths, text, d.reading(ctx.params), characters, plot, json)


@app.command(
    cls=Verb,
    epilog="""paddock tokenizer extend my-model --train-on "zh/*.txt" --vocab-size 40000 --output my-model-zh
    paddock tokenizer extend my-model --add terms.txt --special "<sop>" --output my-model-terms""",
)
def extend(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=WHICH, show_default=False)],
    output: Output,
    add: Annotated[
        str | None,
        typer.Option("--add", metavar="FILE", help="Whole pieces to add, one a line.", show_default=False),
    ] = None,
    special: Annotated[
        list[str] | None,
        typer.Option("--special", metavar="TOKEN", help="A control token to add; again for each.", show_default=False),
    ] = None,
    train_on: Annotated[
        list[str] | None,
        typer.Option(
            "--train-on",
            metavar="FILE",
            help="Documents to learn more pieces from; again for each.",
            show_default=False,
        ),
    ] = None,
    vocab_size: Annotated[
        int | None,
        typer.Option("--vocab-size", metavar="N", help="Pieces in all, with --train-on.", show_default=False),
    ] = None,
    coverage: Annotated[
        float, typer.Option("--coverage", metavar="SHARE", help="Share of the text whose characters become pieces.")
    ] = 0.9995,
    least: Annotated[int, typer.Option("--least", metavar="N", help="How often a pair must occur.")] = 2,
    force: Force = False,
    format: d.Format = "auto",
    text_field: d.TextField = "text",
    split: d.Split = "auto",
    separator: d.Separator = None,
    encoding: d.Encoding = "utf-8",
    errors: d.Errors = "strict",
    on_error: d.OnError = "stop",
    limit: d.Limit = None,
    json: Json = False,
) -> None:
    """Gives a model more tokens, and writes it as a folder. Old ids stay, and so do the logits of old tokens.

    The row of a new token is the mean of the rows of the old tokens that spelt it. The model has to be trained on.
    """
    from paddock.cli import tokenizer_extending

    wanted = tokenizer_extending.Wanted(add, tuple(special or ()), tuple(train_on or ()), vocab_size, coverage, least)
    tokenizer_extending.extend(model, wanted, d.reading(ctx.params), output, force, json)
