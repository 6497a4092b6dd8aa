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


Model = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        help="Folders, .gguf or llama2.c .bin files, or names; the first answers requests that name none. "
        "[default: the bundled model]",
        show_default=False,
    ),
]
ServedModelName = Annotated[
    list[str] | None,
    _option(
        "--served-model-name", "--alias", metavar="NAME", help="What requests call a MODEL, in turn.", panel=MODELS
    ),
]
LoraModules = Annotated[
    list[str] | None,
    _option(
        "--lora-modules",
        "--lora",
        metavar="NAME=PATH[,base=MODEL]",
        help="An adapter, under a name of its own.",
        panel=MODELS,
    ),
]
ModelsDir = Annotated[
    list[str] | None,
    _option("--models-dir", metavar="DIR", help="Administrators load from here only. [default: any]", panel=MODELS),
]
ChatTemplate = Annotated[
    str | None,
    _option("--chat-template", "--template", metavar="NAME|FILE", help="Instead of the model's own.", panel=MODELS),
]
Quantize = Annotated[
    str | None, _option("--quantize", metavar="FORMAT", help="Round the weights, as q8_0 to q4_0.", panel=MODELS)
]
Dtype = Annotated[
    str | None, _option("--dtype", help="float32, bfloat16, float16. [default: auto, as stored]", panel=MODELS)
]
Device = Annotated[str | None, _option("--device", help="cpu, cuda, cuda:N. [default: auto]", panel=MODELS)]
Threads = Annotated[
    int | None, _option("--threads", "-t", metavar="N", help="[default: the cores there are]", panel=MODELS)
]
Host = Annotated[
    str | None,
    _option("--host", help="Another than this machine's own needs a key. [default: 127.0.0.1]", panel=REACH),
]
Port = Annotated[int | None, _option("--port", metavar="N", help="0 is any free one. [default: 8000]", panel=REACH)]
AllowedHost = Annotated[
    list[str] | None,
    _option("--allowed-host", metavar="NAME", help="A name that requests may call this server by.", panel=REACH),
]
CorsOrigin = Annotated[
    list[str] | None,
    _option("--cors-origin", metavar="ORIGIN", help="Pages from there may call this server.", panel=REACH),
]
SslCertfile = Annotated[
    str | None, _option("--ssl-certfile", metavar="FILE", help="Speak TLS with this PEM file.", panel=REACH)
]
SslKeyfile = Annotated[str | None, _option("--ssl-keyfile", metavar="FILE", help="Its key.", panel=REACH)]
Web = Annotated[bool | None, _option("--web/--no-web", help="The web interface at /. [default: yes]", panel=REACH)]
Insecure = Annotated[
    bool | None, _option("--insecure", help="Let everybody in who can reach it, without a key.", panel=REACH)
]
ApiKey = Annotated[
    list[str] | None,
    _option("--api-key", metavar="KEY", help="Others see it in `ps`: rather PADDOCK_API_KEY.", panel=KEYS),
]
ApiKeyFile = Annotated[
    str | None, _option("--api-key-file", metavar="FILE", help="Lines name:key, with limits.", panel=KEYS)
]
AdminKey = Annotated[
    list[str] | None,
    _option("--admin-key", metavar="KEY", help="For loading and unloading models.", panel=KEYS),
]
PerKeyInFlight = Annotated[
    int | None, _option("--per-key-in-flight", metavar="N", help="Requests at once. [default: 16]", panel=KEYS)
]
PerKeyPerMinute = Annotated[
    int | None, _option("--per-key-per-minute", metavar="N", help="[default: no limit]", panel=KEYS)
]
CtxSize = Annotated[
    int | None,
    _option("--ctx-size", "-c", metavar="N", help="Tokens of a prompt and answer. [default: the model's]", panel=WORK),
]
Parallel = Annotated[
    int | None,
    _option("--parallel", "-np", metavar="N", help="Requests of a model at once. [default: 64]", panel=WORK),
]
Queue = Annotated[
    int | None,
    _option("--queue", metavar="N", help="More that may wait. [default: 4 times --parallel]", panel=WORK),
]
BodyBytes = Annotated[
    int | None, _option("--body-bytes", metavar="N", help="Of a request. [default: 8388608]", panel=WORK)
]
DrainSeconds = Annotated[
    float | None,
    _option("--drain-seconds", metavar="S", help="To end what runs, when told to stop. [default: 30]", panel=LIFE),
]
Strict = Annotated[
    bool | None, _option("--strict", help="Refuse fields without effect instead of naming them.", panel=LIFE)
]
Metrics = Annotated[
    bool | None, _option("--metrics/--no-metrics", help="Prometheus at /metrics. [default: yes]", panel=LIFE)
]
MetricsPrefix = Annotated[
    str | None, _option("--metrics-prefix", metavar="TEXT", help="[default: paddock:]", panel=LIFE)
]
AccessLog = Annotated[
    bool | None, _option("--access-log/--no-access-log", help="A line a request. [default: yes]", panel=LIFE)
]
LogPrompts = Annotated[bool | None, _option("--log-prompts", help="Log what is asked and answered, too.", panel=LIFE)]
MaxModelLen = Annotated[int | None, typer.Option("--max-model-len", "--context-length", hidden=True)]
MaxNumSeqs = Annotated[int | None, typer.Option("--max-num-seqs", hidden=True)]


@app.command(
    cls=Verb,
    epilog="""paddock serve
    paddock serve my-model --port 9000 --ctx-size 4096
    paddock serve llama.gguf --lora-modules polite=adapters/polite --alias llama
    PADDOCK_API_KEY=... paddock serve my-model --host 0.0.0.0""",
)
def serve(
    ctx: typer.Context,
    model: Model = None,
    served_model_name: ServedModelName = None,
    lora_modules: LoraModules = None,
    models_dir: ModelsDir = None,
    chat_template: ChatTemplate = None,
    quantize: Quantize = None,
    dtype: Dtype = None,
    device: Device = None,
    threads: Threads = None,
    host: Host = None,
    port: Port = None,
    allowed_host: AllowedHost = None,
    cors_origin: CorsOrigin = None,
    ssl_certfile: SslCertfile = None,
    ssl_keyfile: SslKeyfile = None,
    web: Web = None,
    insecure: Insecure = None,
    api_key: ApiKey = None,
    api_key_file: ApiKeyFile = None,
    admin_key: AdminKey = None,
    per_key_in_flight: PerKeyInFlight = None,
    per_key_per_minute: PerKeyPerMinute = None,
    ctx_size: CtxSize = None,
    parallel: Parallel = None,
    queue: Queue = None,
    body_bytes: BodyBytes = None,
    drain_seconds: DrainSeconds = None,
    strict: Strict = None,
    metrics: Metrics = None,
    metrics_prefix: MetricsPrefix = None,
    access_log: AccessLog = None,
    log_prompts: LogPrompts = None,
    max_model_len: MaxModelLen = None,
    max_num_seqs: MaxNumSeqs = None,
) -> None:
    """Serves models behind the interfaces of OpenAI, Anthropic and Ollama, and a web page to chat on.

    Each option is also a variable: --ctx-size is PADDOCK_CTX_SIZE. docs/serving.md tells the rest.
    """
    from paddock.cli import serving

    given = dict(ctx.params)
    serving.alias(given, "ctx_size", "max_model_len")
    serving.alias(given, "parallel", "max_num_seqs")
    serving.serve(given)
