"""Options that several verbs share, so that one name means one thing everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from paddock.errors import UsageError

MODEL_HELP = "Folder, .gguf or llama2.c .bin file, or a name `paddock ls` shows. [default: the bundled model]"


def _option(*names: str, help: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


Model = Annotated[str | None, _option("--model", "-m", metavar="MODEL", help=MODEL_HELP, panel="Model")]
ModelArgument = Annotated[str | None, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)]
Dtype = Annotated[
    str,
    _option(
        "--dtype",
        help="Type of the weights: auto, float32, bfloat16, float16. [default: auto, as stored]",
        panel="Model",
    ),
]
Device = Annotated[
    str,
    _option(
        "--device", metavar="DEVICE", help="cpu, cuda, cuda:N. [default: auto, a GPU if there is one]", panel="Model"
    ),
]
Adapter = Annotated[
    str | None,
    _option("--adapter", metavar="FOLDER", help="An adapter to put on the model.", panel="Model"),
]
TokenizerFile = Annotated[
    str | None,
    _option(
        "--tokenizer", metavar="PATH", help="File or folder, where it does not lie beside the weights.", panel="Model"
    ),
]
IgnoreConfig = Annotated[
    list[str] | None,
    _option("--ignore-config", metavar="KEY", help="Configuration key to pass over; may be repeated.", panel="Model"),
]

Url = Annotated[
    str | None,
    _option(
        "--url", metavar="URL", help="Talk with a model of the server there; MODEL is its name there.", panel="Server"
    ),
]
ApiKey = Annotated[
    str | None,
    _option(
        "--api-key",
        metavar="KEY",
        envvar="PADDOCK_API_KEY",
        show_envvar=False,
        help="The key it asks for. [default: PADDOCK_API_KEY, which other users of this machine do not see]",
        panel="Server",
    ),
]

SAMPLING = "Sampling (default: what the model publishes, else neutral)"
Temperature = Annotated[
    float | None,
    _option("--temperature", "--temp", metavar="T", help="What logits are divided by; 0 is greedy.", panel=SAMPLING),
]
TopK = Annotated[
    int | None, _option("--top-k", metavar="K", help="Keep the K likeliest tokens; 0 is off.", panel=SAMPLING)
]
TopP = Annotated[
    float | None, _option("--top-p", metavar="P", help="Keep the likeliest up to this mass; 1 is off.", panel=SAMPLING)
]
MinP = Annotated[
    float | None,
    _option(
        "--min-p", metavar="P", help="Keep what is this share as likely as the likeliest; 0 is off.", panel=SAMPLING
    ),
]
TypicalP = Annotated[
    float | None,
    _option(
        "--typical-p",
        "--typical",
        metavar="P",
        help="Keep what is nearest to the expected surprise; 1 is off.",
        panel=SAMPLING,
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    _option(
        "--repetition-penalty",
        "--repeat-penalty",
        metavar="X",
        help="Damps tokens already there; 1 is off.",
        panel=SAMPLING,
    ),
]
PresencePenalty = Annotated[
    float | None,
    _option(
        "--presence-penalty", metavar="X", help="Taken once from tokens already written; 0 is off.", panel=SAMPLING
    ),
]
FrequencyPenalty = Annotated[
    float | None,
    _option("--frequency-penalty", metavar="X", help="Taken once per earlier use; 0 is off.", panel=SAMPLING),
]
LogitBias = Annotated[
    list[str] | None,
    _option("--logit-bias", metavar="ID=VALUE", help="Added to a token's logit; may be repeated.", panel=SAMPLING),
]
Seed = Annotated[
    int | None, _option("--seed", metavar="N", help="Makes the draw repeatable. [default: a fresh one]", panel=SAMPLING)
]

_LENGTH = "Length"
MaxTokens = Annotated[
    int | None,
    _option(
        "--max-tokens",
        "-n",
        "--max-new-tokens",
        "--n-predict",
        metavar="N",
        help="How many tokens at most. [default: the model's own, else 256, as fits its context]",
        panel=_LENGTH,
    ),
]
Stop = Annotated[
    list[str] | None,
    _option("--stop", metavar="TEXT", help="Ends the text, and is cut off it; may be repeated.", panel=_LENGTH),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it is there.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.", show_default=False)]

SETTINGS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)

# What `generate` alone takes.
Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT",
        help='Text to go on from, or an encoder-decoder\'s source. "-" or a pipe: standard input, '
        "less one final line break.",
        show_default=False,
    ),
]
Beams = Annotated[
    int | None,
    _option("--beams", "--num-beams", metavar="N", help="Beam search of this width.", panel=SAMPLING),
]
Speculate = Annotated[
    str | None,
    _option(
        "--speculate",
        metavar="lookup|MODEL",
        help="Guess ahead, which changes the speed and not the text: what followed such words before, or what a "
        "smaller model of the same vocabulary writes.",
        panel=SAMPLING,
    ),
]
SpeculateTokens = Annotated[
    int | None,
    _option("--speculate-tokens", metavar="N", help="Guesses at once. [default: 5]", panel=SAMPLING),
]
Ids = Annotated[
    bool,
    _option("--ids", help="PROMPT is token ids, blanks between.", panel="Prompt"),
]
Special = Annotated[
    bool,
    _option(
        "--special",
        help="Control tokens spelt in PROMPT count as such.",
        panel="Prompt",
    ),
]
NoBos = Annotated[
    bool,
    _option("--no-bos", "--raw", help="Put no ids around PROMPT.", panel="Prompt"),
]
Echo = Annotated[bool, _option("--echo", help="Print PROMPT first.", panel="Prompt")]
Logprobs = Annotated[
    int | None,
    _option(
        "--logprobs", metavar="K", help="Show each token's log-probability and its K likeliest rivals.", panel="Output"
    ),
]
Explain = Annotated[bool, _option("--explain", help="Show every stage of sampling, step by step.", panel="Output")]
ShowSettings = Annotated[
    bool, _option("--show-settings", help="Show every setting and where it comes from.", panel="Output")
]
Verbose = Annotated[bool, _option("--verbose", "-v", help="End with times and rates.", panel="Output")]


@dataclass(frozen=True)
class Loading:
    """Which model, and how to load it."""

    model: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    tokenizer: str | None = None
    ignore_config: tuple[str, ...] = ()
    adapter: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Loading:
        """From a verb's own options, as Typer's context holds them."""
        return cls(
            options.get("model"),
            options.get("dtype") or "auto",
            options.get("device") or "auto",
            options.get("tokenizer"),
            tuple(options.get("ignore_config") or ()),
            options.get("adapter"),
        )

    def begun(self) -> Loading:
        """The same, and loading begins as far as it can: for before a verb imports its rooms, and PyTorch with them."""
        from paddock.engine.loading import begin

        begin(self.model, self.dtype, self.device)
        return self


def one_model(argument: str | None, option: str | None) -> str | None:
    """The model, named as an argument or with --model."""
    if argument is not None and option is not None and argument != option:
        raise UsageError(f"two models are named, {argument} and {option}", fix="name one")
    return option if argument is None else argument


def sampling_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling settings among a verb's options, those given only."""
    found = {name: options[name] for name in SETTINGS if options.get(name) is not None}
    if options.get("logit_bias"):
        found["logit_bias"] = dict(map(_bias, options["logit_bias"]))
    return found


def _bias(text: str) -> tuple[int, float]:
    id, equals, value = text.partition("=")
    try:
        if equals:
            return int(id), float(value)
    except ValueError:
        pass
    raise UsageError(f"--logit-bias {text}", expected="ID=VALUE, for example 13=-100")
