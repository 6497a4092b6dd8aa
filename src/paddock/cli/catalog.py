"""`paddock catalog`: which open models exist, how they compare, and what they were made of."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app(help="Open models, datasets and applications: facts with their sources.")

Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write a file; its ending says the format.", show_default=False
    ),
]
Data = Annotated[bool, typer.Option("--data/--no-data", help="With datasets, or models and applications alone.")]


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, show_default=False, **more)


Name = Annotated[str, typer.Argument(metavar="NAME", help="A model, a size of it, a dataset.", show_default=False)]


@app.command(
    "ls",
    cls=Verb,
    epilog="""paddock catalog ls
    paddock catalog ls --language zh --commercial --max-size 10B --sort date
    paddock catalog ls alpaca --kind all
    paddock catalog ls --exact --json""",
)
def list_(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD...", help="All of them occur in the entry.", show_default=False)
    ] = None,
    kind: Annotated[
        str, _option("--kind", metavar="KIND", help="model, dataset, application or all. [default: model]")
    ] = "model",
    family: Annotated[str | None, _option("--family", help="What it is built like: LLaMA, BERT, ...")] = None,
    organisation: Annotated[
        str | None, _option("--organisation", "--organization", metavar="WORD", help="Who made it.")
    ] = None,
    language: Annotated[str | None, _option("--language", help="Of a language: zh, Chinese.")] = None,
    task: Annotated[str | None, _option("--task", help="What for: chat, code, embedding, ...")] = None,
    access: Annotated[str | None, _option("--access", help="Weights are open, gated, research or closed.")] = None,
    commercial: Annotated[
        bool, _option("--commercial", "--licence-allows-commercial", help="The licence allows commercial use.")
    ] = False,
    smallest: Annotated[
        str | None, _option("--min-size", metavar="N", help="At least so many parameters: 7B, 1.5e9.")
    ] = None,
    largest: Annotated[str | None, _option("--max-size", metavar="N", help="At most so many parameters.")] = None,
    since: Annotated[
        str | None, _option("--since", metavar="DATE", help="Released then or later: 2024, 2024-05.")
    ] = None,
    before: Annotated[str | None, _option("--before", metavar="DATE", help="Released before.")] = None,
    runnable: Annotated[bool, _option("--runnable", help="Paddock runs its architecture.")] = False,
    runs_here: Annotated[
        bool, _option("--runs-here", help="It fits the memory that is free now, at 4 bits at least (see `fit`).")
    ] = False,
    exact: Annotated[
        bool, _option("--exact", help="Sizes whose published exact count is what the architecture gives.")
    ] = False,
    sort: Annotated[
        str, _option("--sort", metavar="KEY", help="name, date, size, family, organisation, context. [default: name]")
    ] = "name",
    json: o.Json = False,
) -> None:
    """Lists what the catalogue has: models, or with --kind datasets and applications."""
    from paddock.cli import cataloguing

    asked = cataloguing.asked(
        words or [],
        kind=kind,
        family=family,
        organisation=organisation,
        language=language,
        task=task,
        access=access,
        commercial=commercial,
        least=smallest,
        most=largest,
        since=since,
        before=before,
        runnable=runnable,
        exact=exact,
        runs_here=runs_here,
    )
    cataloguing.list_(asked, sort, json)


@app.command(cls=Verb, epilog="paddock catalog show llama-2\npaddock catalog show llama-2-70b --json")
def show(name: Name, json: o.Json = False) -> None:
    """Shows all that is known of an entry, each fact with the number of its source."""
    from paddock.cli import cataloguing

    cataloguing.show(name, json)


@app.command(cls=Verb, epilog="paddock catalog compare llama-1-7b llama-2-70b")
def compare(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Two to six of them.", show_default=False)],
    json: o.Json = False,
) -> None:
    """Shows models side by side: first what differs, then what is the same."""
    from paddock.cli import cataloguing

    cataloguing.compare(names, json)


@app.command(
    cls=Verb,
    epilog="""paddock catalog which
    paddock catalog which --task chat --language Chinese --licence commercial --memory 16GB
    paddock catalog which --task code --memory 8GB --context 8192 --json""",
)
def which(
    task: Annotated[str | None, _option("--task", help="What for: chat, code, embedding, translation, ...")] = None,
    language: Annotated[str | None, _option("--language", help="One it must know: zh, Chinese. [default: any]")] = None,
    licence: Annotated[
        str | None, _option("--licence", "--license", metavar="WHICH", help="commercial or any. [default: any]")
    ] = None,
    memory: Annotated[
        str | None, _option("--memory", metavar="SIZE", help="It must fit: 8GB, 16GiB. [default: what is free here]")
    ] = None,
    context: Annotated[
        int | None, _option("--context", "-c", metavar="N", help="Tokens of a text. [default: 4096, or all it has]")
    ] = None,
    runnable: Annotated[bool, _option("--runnable", help="Only what Paddock runs itself.")] = False,
    top: Annotated[int, _option("--top", metavar="N", min=1, max=1000, help="How many to show. [default: 5]")] = 5,
    json: o.Json = False,
) -> None:
    """Says which models suit a task, with reasons, and what was ruled out. Without options, a terminal is asked."""
    from paddock.cli import choosing

    choosing.which(task, language, licence, memory, context, runnable, top, json)


@app.command(
    cls=Verb,
    epilog="""paddock catalog tree
    paddock catalog tree vicuna --up
    paddock catalog tree llama-1 --down --depth 2 --no-data -o llama.svg
    paddock catalog tree -o evolution.html""",
)
def tree(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A model, dataset or application. [default: all, by year]", show_default=False
        ),
    ] = None,
    up: Annotated[bool, typer.Option("--up", help="Only what NAME was made of.", show_default=False)] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what was made of NAME.", show_default=False)] = False,
    depth: Annotated[
        int | None,
        typer.Option("--depth", metavar="N", min=1, max=100, help="At most N steps away.", show_default=False),
    ] = None,
    data: Data = True,
    output: Output = None,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Shows what something was made of and what was made of it; without NAME, how open models came about.

    FILE ends in .svg, .png, .html, .dot, .json or .md.
    """
    from paddock.cli import descending

    descending.tree(name, up, down, depth, data, output, force, json)


@app.command(
    "import",
    cls=Verb,
    epilog="""paddock catalog import ecosystem-graphs/assets --break-circles
    paddock catalog import chart.md --report
    paddock catalog import meta.yaml google.yaml -o lists.toml --json""",
)
def import_(
    lists: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Ecosystem Graphs (.yaml, or a folder of them), LLaMA-Cult charts (.md).",
            show_default=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.toml",
            help="[default: PADDOCK_HOME/catalogue/imported.toml]",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Tell everything: each unknown name, each difference.", show_default=False)
    ] = False,
    break_circles: Annotated[
        bool, typer.Option("--break-circles", help="Leave out what closes a circle.", show_default=False)
    ] = False,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Makes lists that others keep into a file of the catalogue; what lies in PADDOCK_HOME/catalogue belongs to it.

    Entries that the catalogue has already are left out, and compared with it.
    """
    from paddock.cli import catalog_importing

    catalog_importing.import_(lists, output, report, break_circles, force, json)


@app.command(
    cls=Verb,
    epilog="""paddock catalog export -o catalogue.json
    paddock catalog export --format dot | dot -Tsvg > catalogue.svg
    paddock catalog export --family LLaMA --kind model -o llama.html""",
)
def export(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD...", help="All of them occur in the entry.", show_default=False)
    ] = None,
    form: Annotated[
        str | None,
        _option(
            "--format",
            metavar="FORMAT",
            help="json, toml, md, csv, dot, svg, png or html. [default: by FILE, else json]",
        ),
    ] = None,
    output: Annotated[
        str | None, _option("--output", "-o", metavar="FILE", help="[default: standard output, of texts]")
    ] = None,
    kind: Annotated[
        str, _option("--kind", metavar="KIND", help="model, dataset, application or all. [default: all]")
    ] = "all",
    family: Annotated[str | None, _option("--family", help="What it is built like: LLaMA, BERT, ...")] = None,
    language: Annotated[str | None, _option("--language", help="Of a language: zh, Chinese.")] = None,
    task: Annotated[str | None, _option("--task", help="What for: chat, code, embedding, ...")] = None,
    commercial: Annotated[bool, _option("--commercial", help="The licence allows commercial use.")] = False,
    since: Annotated[str | None, _option("--since", metavar="DATE", help="Released then or later.")] = None,
    before: Annotated[str | None, _option("--before", metavar="DATE", help="Released before.")] = None,
    force: o.Force = False,
) -> None:
    """Writes the catalogue, or the entries that are as asked, for other programs; pictures show the lineage."""
    from paddock.catalog.filters import Asked
    from paddock.cli import descending

    every = None if kind == "all" else kind
    asked = Asked(
        tuple(words or ()),
        every,
        family,
        language=language,
        task=task,
        commercial=commercial,
        since=since,
        before=before,
    )
    descending.export(asked, form, output, force)
