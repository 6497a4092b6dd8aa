"""`paddock fit`: what a model needs of a machine, before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from paddock.cli import options as o
from paddock.cli.verb import Verb, new_app

app = new_app()


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, show_default=False, **more)


Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="Folder (its config.json is enough), .gguf (its header is enough) or llama2.c .bin file, config.json, "
        "or a name: of `paddock ls`, of `paddock catalog ls`. [default: the bundled model]",
        show_default=False,
    ),
]
Task = Annotated[
    str,
    _option(
        "--task",
        "-t",
        metavar="TASK",
        help="serve, or what is trained: pretrain, full, lora, qlora, adapter-v1, adapter-v2, ia3, bitfit, prefix, "
        "prompt. [default: serve]",
    ),
]
Quantize = Annotated[
    str | None,
    _option("--quantize", "-q", metavar="KIND", help="Weights rounded to q8_0, q6_k, q4_k, ... as they are loaded."),
]


@app.command(
    cls=Verb,
    epilog="""paddock fit llama-1-7b --budget 16GB
    paddock fit my-model.gguf --context 8192 --concurrency 4
    paddock fit llama-1-7b --quantize q4_k --json
    paddock fit path/to/config.json --task lora --batch 4
    paddock fit chatglm-6b --table""",
)
def fit(
    ctx: typer.Context,
    model: Model = None,
    task: Task = "serve",
    quantize: Quantize = None,
    dtype: Annotated[
        str, _option("--dtype", help="Type of the weights: auto, float32, bfloat16, float16. [default: as stored]")
    ] = "auto",
    context: Annotated[
        int | None, _option("--context", "-c", metavar="N", help="Tokens of a text. [default: the model's own limit]")
    ] = None,
    batch: Annotated[
        int | None,
        _option("--batch", "--concurrency", "-b", metavar="N", help="Texts at once. [default: 1]"),
    ] = None,
    device: Annotated[str, _option("--device", metavar="DEVICE", help="cpu or cuda. [default: cpu]")] = "cpu",
    devices: Annotated[
        str | None,
        _option("--devices", metavar="NxWHAT", help="Several that share the work: 8xH100, 2x24GB. [default: one]"),
    ] = None,
    budget: Annotated[
        str | None,
        _option("--budget", metavar="SIZE", help="Memory there is: 8GB, 7.5GiB. [default: what is free here]"),
    ] = None,
    micro_batch: Annotated[
        int | None, _option("--micro-batch", metavar="N", help="Training: rows at once. [default: the batch]")
    ] = None,
    optimizer: Annotated[
        str | None, _option("--optimizer", metavar="RULE", help="adamw, adamw8bit, muon, ... [default: adamw]")
    ] = None,
    rank: Annotated[int | None, _option("--rank", metavar="N", help="Of LoRA's matrices. [default: 8]")] = None,
    roles: Annotated[
        str | None, _option("--roles", metavar="ROLES", help="Which matrices LoRA is put on: q,v. [default: all]")
    ] = None,
    recompute: Annotated[bool, _option("--recompute", help="Keep only blocks' inputs for the backward pass.")] = False,
    tokens: Annotated[
        int | None,
        _option("--tokens", metavar="N", help="Say how long training on so many takes; without --devices, here."),
    ] = None,
    table: Annotated[
        bool, _option("--table", help="ChatGLM-6B: our figures beside the published table, and why they differ.")
    ] = False,
    json: o.Json = False,
) -> None:
    """Says what memory MODEL takes, line by line, and whether it fits; no weight is read.

    Exit code 0 if it fits as asked, 4 if it does not.
    """
    from paddock.cli import fitting

    more = fitting.Asked(model, task, quantize, dtype, context, batch, device, devices, budget)
    asked = replace(
        more, micro_batch=micro_batch, optimizer=optimizer, rank=rank, roles=roles, recompute=recompute, tokens=tokens
    )
    fitting.table(asked, json) if table else fitting.fit(asked, json)
