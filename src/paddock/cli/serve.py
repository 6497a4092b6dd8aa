"""`paddock serve`: its options."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from paddock.cli.verb import Verb, new_app

app = new_app()

MODELS, REACH, KEYS = "Models", "Who may reach it", "Keys"
WORK, LIFE = "How much at once", "Running it"


def _option(*names: str, help: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


@app.command(
    cls=Verb,
    epilog="""paddock serve
    paddock serve my-model --port 9000 --ctx-size 4096
    paddock serve llama.gguf --lora-modules polite=adapters/polite --alias llama
    PADDOCK_API_KEY=... paddock serve my-model --host 0.0.0.0""",
)
def serve(
    ctx: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Folders, .gguf or llama2.c .bin files, or names; the first answers requests that name none. "
            "[default: the bundled model]",
            show_default=False,
        ),
    ] = None,
    served_model_name: Annotated[
        list[str] | None,
        _option(
            "--served-model-name", "--alias", metavar="NAME", help="What requests call a MODEL, in turn.", panel=MODELS
        ),
    ] = None,
    lora_modules: Annotated[
        list[str] | None,
        _option(
            "--lora-modules",
            "--lora",
            metavar="NAME=PATH[,base=MODEL]",
            help="An adapter, under a name of its own.",
            panel=MODELS,
        ),
    ] = None,
    models_dir: Annotated[
        list[str] | None,
        _option("--models-dir", metavar="DIR", help="Administrators load from here only. [default: any]", panel=MODELS),
    ] = None,
    chat_template: Annotated[
        str | None,
        _option("--chat-template", "--template", metavar="NAME|FILE", help="Instead of the model's own.", panel=MODELS),
    ] = None,
    quantize: Annotated[
        str | None, _option("--quantize", metavar="FORMAT", help="Round the weights, as q8_0 to q4_0.", panel=MODELS)
    ] = None,
    dtype: Annotated[
        str | None, _option("--dtype", help="float32, bfloat16, float16. [default: auto, as stored]", panel=MODELS)
    ] = None,
    device: Annotated[str | None, _option("--device", help="cpu, cuda, cuda:N. [default: auto]", panel=MODELS)] = None,
    threads: Annotated[
        int | None, _option("--threads", "-t", metavar="N", help="[default: the cores there are]", panel=MODELS)
    ] = None,
    host: Annotated[
        str | None,
        _option("--host", help="Another than this machine's own needs a key. [default: 127.0.0.1]", panel=REACH),
    ] = None,
    port: Annotated[
        int | None, _option("--port", metavar="N", help="0 is any free one. [default: 8000]", panel=REACH)
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        _option("--allowed-host", metavar="NAME", help="A name that requests may call this server by.", panel=REACH),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        _option("--cors-origin", metavar="ORIGIN", help="Pages from there may call this server.", panel=REACH),
    ] = None,
    ssl_certfile: Annotated[
        str | None, _option("--ssl-certfile", metavar="FILE", help="Speak TLS with this PEM file.", panel=REACH)
    ] = None,
    ssl_keyfile: Annotated[str | None, _option("--ssl-keyfile", metavar="FILE", help="Its key.", panel=REACH)] = None,
    web: Annotated[
        bool | None, _option("--web/--no-web", help="The web interface at /. [default: yes]", panel=REACH)
    ] = None,
    insecure: Annotated[
        bool | None, _option("--insecure", help="Let everybody in who can reach it, without a key.", panel=REACH)
    ] = None,
    api_key: Annotated[
        list[str] | None,
        _option("--api-key", metavar="KEY", help="Others see it in `ps`: rather PADDOCK_API_KEY.", panel=KEYS),
    ] = None,
    api_key_file: Annotated[
        str | None, _option("--api-key-file", metavar="FILE", help="Lines name:key, with limits.", panel=KEYS)
    ] = None,
    admin_key: Annotated[
        list[str] | None,
        _option("--admin-key", metavar="KEY", help="For loading and unloading models.", panel=KEYS),
    ] = None,
    per_key_in_flight: Annotated[
        int | None, _option("--per-key-in-flight", metavar="N", help="Requests at once. [default: 16]", panel=KEYS)
    ] = None,
    per_key_per_minute: Annotated[
        int | None, _option("--per-key-per-minute", metavar="N", help="[default: no limit]", panel=KEYS)
    ] = None,
    ctx_size: Annotated[
        int | None,
        _option(
            "--ctx-size", "-c", metavar="N", help="Tokens of a prompt and answer. [default: the model's]", panel=WORK
        ),
    ] = None,
    parallel: Annotated[
        int | None,
        _option("--parallel", "-np", metavar="N", help="Requests of a model at once. [default: 64]", panel=WORK),
    ] = None,
    queue: Annotated[
        int | None,
        _option("--queue", metavar="N", help="More that may wait. [default: 4 times --parallel]", panel=WORK),
    ] = None,
    body_bytes: Annotated[
        int | None, _option("--body-bytes", metavar="N", help="Of a request. [default: 8388608]", panel=WORK)
    ] = None,
    drain_seconds: Annotated[
        float | None,
        _option("--drain-seconds", metavar="S", help="To end what runs, when told to stop. [default: 30]", panel=LIFE),
    ] = None,
    strict: Annotated[
        bool | None, _option("--strict", help="Refuse fields without effect instead of naming them.", panel=LIFE)
    ] = None,
    metrics: Annotated[
        bool | None, _option("--metrics/--no-metrics", help="Prometheus at /metrics. [default: yes]", panel=LIFE)
    ] = None,
    metrics_prefix: Annotated[
        str | None, _option("--metrics-prefix", metavar="TEXT", help="[default: paddock:]", panel=LIFE)
    ] = None,
    access_log: Annotated[
        bool | None, _option("--access-log/--no-access-log", help="A line a request. [default: yes]", panel=LIFE)
    ] = None,
    log_prompts: Annotated[
        bool | None, _option("--log-prompts", help="Log what is asked and answered, too.", panel=LIFE)
    ] = None,
    max_model_len: Annotated[int | None, typer.Option("--max-model-len", "--context-length", hidden=True)] = None,
    max_num_seqs: Annotated[int | None, typer.Option("--max-num-seqs", hidden=True)] = None,
) -> None:
    """Serves models behind the interfaces of OpenAI, Anthropic and Ollama, and a web page to chat on.

    Each option is also a variable: --ctx-size is PADDOCK_CTX_SIZE. docs/serving.md tells the rest.
    """
    from paddock.cli import serving

    given = dict(ctx.params)
    serving.alias(given, "ctx_size", "max_model_len")
    serving.alias(given, "parallel", "max_num_seqs")
    serving.serve(given)
