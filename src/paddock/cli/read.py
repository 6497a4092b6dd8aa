"""Verbs that read with a model: fill, embed, classify, summarise."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock fill "Paris is the [MASK] of France." -m bert-base-uncased
    echo "I [MASK] you." | paddock fill - -m bert-base-uncased --top 3 --json""",
)
def fill(
    ctx: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(
            help='Text with the mask as the vocabulary spells it, mostly [MASK]. "-" or a pipe: standard input.',
            show_default=False,
        ),
    ] = None,
    model: o.Model = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    adapter: o.Adapter = None,
    ignore_config: o.IgnoreConfig = None,
    top: Annotated[int, typer.Option("--top", "-k", metavar="K", help="How many candidates to show.")] = 5,
    json: o.Json = False,
) -> None:
    """Shows the likeliest tokens for each mask in TEXT. For masked language models such as BERT."""
    from paddock.cli import reading

    reading.fill(text, o.Loading.of(ctx.params), top, json)


@app.command(
    cls=Verb,
    epilog="""paddock embed "a small dog" "a little dog" "the stock market"
    paddock embed "a text" -m all-MiniLM-L6-v2 --json
    cat lines.txt | paddock embed - -m all-MiniLM-L6-v2 --json > vectors.jsonl""",
)
def embed(
    ctx: typer.Context,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help='Texts. "-" or a pipe: standard input, a text per line.', show_default=False),
    ] = None,
    model: o.Model = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    adapter: o.Adapter = None,
    ignore_config: o.IgnoreConfig = None,
    truncate: Annotated[
        bool,
        typer.Option("--truncate", help="Cut texts over the model's limit, instead of refusing.", show_default=False),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON value per text, vector included.", show_default=False)
    ] = False,
) -> None:
    """Turns texts into vectors: as JSON lines, or as a table of how alike they are (1 is the same direction)."""
    from paddock.cli import reading

    reading.embed(texts or [], o.Loading.of(ctx.params), truncate, json)


@app.command(
    cls=Verb,
    epilog="""paddock classify "a gorgeous , witty film" -m out/sst2/final
    paddock classify "A man plays." --pair "Somebody makes music." -m nli-model --json
    paddock classify dev.tsv -m out/sst2/final""",
)
def classify(
    ctx: typer.Context,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT|FILE",
            help='Texts, or one file of texts or labelled texts. "-" or a pipe: standard input, a text per line.',
            show_default=False,
        ),
    ] = None,
    model: o.Model = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    adapter: o.Adapter = None,
    ignore_config: o.IgnoreConfig = None,
    pair: Annotated[
        str | None,
        typer.Option("--pair", metavar="TEXT", help="A second text that goes with TEXT.", show_default=False),
    ] = None,
    format: Annotated[str, typer.Option("--format", help="What FILE holds, as in recipes.")] = "auto",
    top: Annotated[int, typer.Option("--top", "-k", metavar="K", help="How many classes to show.")] = 1,
    truncate: Annotated[
        bool,
        typer.Option("--truncate", help="Cut texts over the model's limit, instead of refusing.", show_default=False),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON value per text, all scores included.", show_default=False)
    ] = False,
) -> None:
    """Says which class each text belongs to, and how likely that is; for a regression, the number.

    Where FILE says the labels too: accuracy, macro-F1 and the share of the commonest class.
    """
    from paddock.cli import classifying

    classifying.classify(texts or [], o.Loading.of(ctx.params), pair, format, top, truncate, json)


@app.command(
    cls=Verb,
    epilog="""paddock summarise abstract.txt -m out/scitldr-extract/final
    paddock summarise report.txt -m my-extractor --sentences 3
    paddock summarise pairs.jsonl -m my-extractor --json""",
)
def summarise(
    ctx: typer.Context,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT|FILE",
            help='Texts, or one file: a text, or records of texts and summaries. "-" or a pipe: standard input, a text '
            "per line.",
            show_default=False,
        ),
    ] = None,
    model: o.Model = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    adapter: o.Adapter = None,
    ignore_config: o.IgnoreConfig = None,
    sentences: Annotated[int, typer.Option("--sentences", "-n", metavar="N", help="How many sentences to pick.")] = 1,
    format: Annotated[str, typer.Option("--format", help="What FILE holds, as in recipes.")] = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON value per text, scores included.", show_default=False)
    ] = False,
) -> None:
    """Picks the sentences that say most of a text, with a model that was fine-tuned to (task: extract).

    Nothing is made up: a summary is of the text's own sentences. Where FILE says the summaries too: ROUGE, beside that
    of first sentences.
    """
    from paddock.cli import summarising

    summarising.summarise(texts or [], o.Loading.of(ctx.params), sentences, format, json)
