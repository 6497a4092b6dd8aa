"""Which verbs there are, and the one screen that `paddock --help` shows. Imports nothing, so it is there at once."""

from __future__ import annotations

from typing import NamedTuple


class Listed(NamedTuple):
    """A verb: the module of `paddock.cli` that has its options, what it does, and one example."""

    name: str
    module: str
    summary: str
    example: str


GROUPS: dict[str, tuple[Listed, ...]] = {
    "Run a model": (
        Listed("demo", "run", "tell a story with the bundled model", "paddock demo"),
        Listed("generate", "run", "write on after a prompt", 'paddock generate "Once upon a time" --temp 0.8'),
        Listed("chat", "run", "talk, in turns", "paddock chat my-model"),
        Listed("serve", "serve", "answer over HTTP, with a web page to chat on", "paddock serve my-model"),
        Listed("fill", "read", "fill a masked word", 'paddock fill "Paris is in [MASK]." -m bert'),
        Listed("embed", "read", "texts as vectors", 'paddock embed "a dog" "a cat" -m minilm'),
        Listed("classify", "read", "which class a text belongs to", 'paddock classify "a joy" -m my-classifier'),
        Listed("summarise", "read", "the sentence that stands for a text", "paddock summarise a.txt -m my-extractor"),
    ),
    "Find a model": (
        Listed(
            "catalog", "catalog", "open models: list, compare, choose, descent", "paddock catalog which --task chat"
        ),
        Listed("fit", "fit", "what memory a model takes, and whether it is there", "paddock fit llama-1-7b"),
        Listed("pull", "pull", "fetch a model from a hub, checked", "paddock pull pythia-70m"),
        Listed("rm", "pull", "delete a model that was fetched", "paddock rm pythia-70m"),
    ),
    "Look inside": (
        Listed("show", "inspect", "what a model is: parts, memory, health", "paddock show my-model.gguf"),
        Listed("ls", "inspect", "the models at hand", "paddock ls ~/models"),
        Listed("tokens", "inspect", "how text becomes ids", 'paddock tokens "naïve café" -m my-model'),
        Listed("template", "template", "chat templates: list, render, check", "paddock template ls"),
        Listed("doctor", "inspect", "what works here, and how to mend the rest", "paddock doctor"),
    ),
    "Train": (
        Listed("data", "data", "documents and examples: inspect, clean, mix", "paddock data inspect corpus.jsonl.zst"),
        Listed("tokenizer", "tokenizer", "vocabularies: train, compare, extend", "paddock tokenizer show my-model"),
        Listed("pretrain", "pretrain", "from raw text to a model", "paddock pretrain tiny-shakespeare"),
        Listed("finetune", "finetune", "a model and examples: make it yours", "paddock finetune lora model=my-model"),
        Listed("rerun", "rerun", "whether a run comes out the same again", "paddock rerun out/tiny-shakespeare"),
        Listed("recipe", "recipe", "recipes: list, copy, validate", "paddock recipe ls"),
        Listed("batches", "batches", "exactly what a run read at a step", "paddock batches show RUN --step 17"),
        Listed("study", "study", "what checkpoints memorise, and when", "paddock study memorization RUN"),
    ),
    "Change": (
        Listed("convert", "convert", "from one format into another", "paddock convert model.gguf folder/"),
        Listed("merge", "merge", "adapters into the weights, or out", "paddock merge my-model --adapter lora -o new"),
        Listed("delta", "delta", "what a tuned model adds to its base", "paddock delta apply llama delta -o vicuna"),
        Listed("quantize", "quantize", "smaller weights, and what they cost", "paddock quantize my-model --to q4_k"),
        Listed("extend", "extend", "room for longer texts", "paddock extend my-model --scale 4 -o longer"),
    ),
    "Measure": (
        Listed("parity", "parity", "how far two models speak alike", "paddock parity my-model my-model.gguf"),
        Listed(
            "eval",
            "evaluate",
            "long texts; answers beside references",
            "paddock eval lines my-model --lengths 512,1024",
        ),
        Listed("bench", "measure", "how fast a model runs here", "paddock bench model.gguf -p 512 -n 128"),
        Listed(
            "perplexity", "measure", "how well a model predicts a text", "paddock perplexity text.txt -m model.gguf"
        ),
    ),
}
ALIASES = {"predict": "classify", "summarize": "summarise", "download": "pull"}  # other names of verbs, not listed
VERBS: dict[str, Listed] = {verb.name: verb for verbs in GROUPS.values() for verb in verbs}

SYNOPSIS = "usage: paddock VERB [ARGUMENTS]        paddock VERB --help explains one"
FOOTER = """\
MODEL is a Hugging Face folder, a .gguf or llama2.c .bin file, or a name that `paddock ls` shows; without one, the
bundled model. Listings take --json. Results go to standard output, notes to standard error.

  --version               which Paddock this is
  --debug                 show where in the program an error came from
  --install-completion    let your shell complete verbs and options"""


def screen() -> str:
    """The whole of `paddock --help`."""
    names = max(map(len, VERBS))
    summaries = max(len(verb.summary) for verb in VERBS.values())
    lines = [SYNOPSIS]
    for group, verbs in GROUPS.items():
        lines += ["", group]
        lines += [f"  {v.name:<{names}}  {v.summary:<{summaries}}  {v.example}" for v in verbs]
    return "\n".join([*lines, "", FOOTER])
