"""Verbs that measure: bench, perplexity."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


@app.command(
    cls=Verb,
    epilog="""paddock perplexity wiki.txt -m model.gguf
    paddock perplexity wiki.txt -m model.gguf --chunks
    paddock perplexity wiki.txt -m pythia-70m --context 2048 --stride 512 --json""",
)
def perplexity(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help='UTF-8 text; "-" is standard input.', show_default=False)],
    model: o.Model = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    tokenizer: o.TokenizerFile = None,
    adapter: o.Adapter = None,
    ignore_config: o.IgnoreConfig = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context", "-c", metavar="N", help="Tokens of a window. [default: 512, as fits]", show_default=False
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride", metavar="N", help="Where the next window begins. [default: half of it]", show_default=False
        ),
    ] = None,
    chunks: Annotated[
        bool,
        typer.Option(
            "--chunks",
            help="Windows side by side, the first half of each only read: llama.cpp's way.",
            show_default=False,
        ),
    ] = False,
    json: o.Json = False,
) -> None:
    """Says how well a model predicts the text of FILE: perplexity ± its standard error, bits per byte and per token."""
    loading = o.Loading.of(ctx.params).begun()
    from paddock.cli import perplexity as work

    work.perplexity(work.Asked(loading, file, context, stride, chunks, json))


def _counts(name: str, short: str | None, help: str) -> Any:
    names = [name] if short is None else [short, name]
    return typer.Option(*names, metavar="N,N,...", help=help, rich_help_panel="Tests", show_default=False)


@app.command(
    cls=Verb,
    epilog="""paddock bench
    paddock bench model.gguf -p 512,1024 -n 128 -r 5
    paddock bench model.gguf --depth 0,4096
    paddock bench model.gguf -p 128 -n 128 --concurrency 1,4,16,64 --json""",
)
def bench(
    ctx: typer.Context,
    model: o.ModelArgument = None,
    dtype: o.Dtype = "auto",
    device: o.Device = "auto",
    ignore_config: o.IgnoreConfig = None,
    prompt: Annotated[str | None, _counts("--prompt", "-p", "Tokens to read; 0 for none. [default: 512]")] = None,
    new: Annotated[str | None, _counts("--new", "-n", "Tokens to write; 0 for none. [default: 128]")] = None,
    depth: Annotated[
        str | None, _counts("--depth", "-d", "Tokens in the cache before a test begins. [default: 0]")
    ] = None,
    concurrency: Annotated[
        str | None, _counts("--concurrency", "-c", "Requests at once, each with the first --prompt and --new.")
    ] = None,
    repeat: Annotated[
        int, typer.Option("--repeat", "-r", metavar="N", help="Runs that count. [default: 5]", show_default=False)
    ] = 5,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", "-t", metavar="N", help="Threads. [default: the cores there are]", show_default=False
        ),
    ] = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Print a JSON object for each test as it is done.", show_default=False)
    ] = False,
    json: o.Json = False,
) -> None:
    """Measures how fast a model reads and writes here, in tokens per second, and how much of the machine it uses.

    pp512 reads 512 tokens, tg128 writes 128, @d4096 behind 4096 others, 16x(128+128) answers 16 requests at once.
    Ids are random and each test is run once before it counts; pp and tg leave sampling out, `sampled` has it in.
    """
    loading = o.Loading.of(ctx.params).begun()
    from paddock.cli import bench as work

    counts = {"prompt": prompt, "new": new, "depth": depth, "concurrency": concurrency}
    work.bench(work.Asked(loading, counts, repeat, threads, "jsonl" if jsonl else "json" * json))
