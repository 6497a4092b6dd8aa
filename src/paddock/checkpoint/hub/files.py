"""A repository's files: what a listing may hold, and which of them make a model."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paddock.checkpoint.hub.cache import DIGEST, WEIGHTS
from paddock.errors import CheckpointError, UsageError, did_you_mean

FORMATS = ("auto", "safetensors", "gguf", "bin")
MAX_FILES = 20_000
MAX_BYTES = 2**50
MAX_PATH, MAX_PART = 1024, 255
# What lies beside the weights and is read, by us or by who looks at the folder. Programs (*.py) never are.
_BESIDE = (
    "config.json", "generation_config.json", "chat_template.jinja", "chat_template.json", "tokenizer*.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "*.model", "*.tiktoken",
    "rwkv_vocab*.txt", "tekken.json", "preprocessor_config.json", "processor_config.json", "quantize_config.json",
    "quant_config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "1_Pooling/config.json", "adapter_config.json", "README.md", "LICENSE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
_ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
MERGE = "fetch all of them with --include, and make one of them: llama-gguf-split --merge"
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf")


@dataclass(frozen=True)
class Remote:
    """One file of a repository. digest: SHA-256 of its bytes (64 letters), or what git calls them (40)."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Choice:
    """The files to be fetched, weights last, and what should be said about them."""

    files: tuple[Remote, ...]
    format: str
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


class SeveralModels(UsageError):
    """A repository has a model in several files of which one is wanted. `files`: which."""

    def __init__(self, files: Sequence[Remote]) -> None:
        super().__init__(f"the repository has {len(files)} GGUF files", fix=f"say which: --include '{files[0].path}'")
        self.files = tuple(files)


def checked(path: object, size: object, digest: object) -> Remote:
    """A file of a listing. Raises CheckpointError for a name that could lead out of a folder, or an absurd size."""
    if not isinstance(path, str) or not is_safe(path):
        raise CheckpointError(f"the hub lists a file named {str(path)[:120]!r}", expected="a name inside the folder")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_BYTES:
        raise CheckpointError(f"the hub says that {path[:120]} has {str(size)[:40]} bytes")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise CheckpointError(f"the hub gives no hash for {path[:120]}", expected="a SHA-256 or a git hash")
    return Remote(path, size, digest)


def is_safe(path: str) -> bool:
    """Whether a name, joined to a folder, stays inside it and can be made there."""
    try:
        parts = [part.encode() for part in path.split("/")]
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    if len(path) > MAX_PATH or re.search(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:", path):
        return False
    return all(part.strip(b" .") and len(part) <= MAX_PART for part in parts)


def choose(
    files: Sequence[Remote], format: str = "auto", include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Choice:
    """Which files to fetch. `include`: exactly those that match one of these patterns, in any folder.

    Without it: the descriptions at the top of the repository, and its weights in one form, safetensors if there are
    any. Raises UsageError where nothing is left, SeveralModels where one GGUF file of many is to be named.
    """
    if format not in FORMATS:
        raise UsageError(
            f"unknown format {format[:40]!r}", expected=", ".join(FORMATS), fix=did_you_mean(format, FORMATS)
        )
    seen = [file for file in files if not any(part.startswith(".") for part in file.path.split("/"))]
    _check_patterns(seen, include, exclude)
    seen = [file for file in seen if not _matches(file, exclude)]
    if include:
        picked = [file for file in seen if _matches(file, include)]
        kind = _kind_of(picked) if format == "auto" else format
    else:
        kind = _kind_of(_weights(seen, "safetensors") or _weights(seen, "bin") or seen) if format == "auto" else format
        weights = _weights(seen, kind)
        if parts := [file for file in seen if kind == "gguf" and _SPLIT.search(file.path) and not weights]:
            raise UsageError(f"the model is a GGUF file in {len(parts)} parts, which Paddock does not read", fix=MERGE)
        if not weights:
            raise UsageError(
                f"the repository has no weights{'' if format == 'auto' else ' in this form'}: " + _some(seen),
                fix="choose files with --include, or another repository",
            )
        if kind == "gguf" and len(weights) > 1:
            raise SeveralModels(weights)
        picked = [file for file in seen if _matches(file, _BESIDE)] + weights
    _check_together(picked)
    return Choice(tuple(sorted(set(picked), key=_order)), kind, tuple(_notes(picked)))


def _notes(files: Iterable[Remote]) -> Iterable[str]:
    names = [file.path for file in files]
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        yield "the weights are pickles: Paddock reads the numbers and runs nothing, other tools may run what is in them"
    if any(_SPLIT.search(name) for name in names):
        yield f"the model is a GGUF file in parts, which Paddock does not read; {MERGE}"


def _check_patterns(files: Sequence[Remote], include: Sequence[str], exclude: Sequence[str]) -> None:
    for pattern in (*include, *exclude):
        if not any(_matches(file, [pattern]) for file in files):
            names = [file.path for file in files]
            raise UsageError(
                f"no file matches {pattern[:120]!r}; there are {_some(files)}", fix=did_you_mean(pattern, names)
            )


def _some(files: Sequence[Remote]) -> str:
    names = [file.path for file in files]
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "no files"


def _matches(file: Remote, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(file.path, pattern) for pattern in patterns)


def _kind_of(files: Sequence[Remote]) -> str:
    for ending in ("safetensors", "gguf", "bin"):
        if any(file.path.endswith(f".{ending}") for file in files):
            return ending
    return "other"


def _weights(files: Sequence[Remote], kind: str) -> list[Remote]:
    """The files of the model's weights in one form: a whole file or shards with their index, never both."""
    if kind == "gguf":
        return [file for file in files if file.path.endswith(".gguf") and not _SPLIT.search(file.path)]
    top = {file.path: file for file in files if "/" not in file.path}
    name = WEIGHTS[0] if kind == "safetensors" else WEIGHTS[1]
    stem, ending = name.rsplit(".", 1)
    if index := top.get(f"{name}.index.json"):
        shards = [file for path, file in top.items() if re.fullmatch(rf"[\w-]+-\d{{5}}-of-\d{{5}}\.{ending}", path)]
        ours = [file for file in shards if file.path.startswith(f"{stem}-")]
        return [index, *(ours or shards)]
    return [top[found] for found in (name, *(a for a in _ADAPTER if a.endswith(ending))) if found in top][:1]


def _check_together(files: Sequence[Remote]) -> None:
    """Two names that are one on some systems, or a file where another needs a folder, would overwrite each other."""
    names: dict[str, str] = {}
    for file in files:
        if re.search(r'[:*?"<>|]', file.path):
            raise CheckpointError(
                f"{file.path[:120]!r} is no name for a file on every system", fix="leave it out: --exclude"
            )
        folded = file.path.casefold()
        if names.setdefault(folded, file.path) != file.path:
            raise CheckpointError(f"the hub lists {file.path!r} and {names[folded]!r}, one name on some systems")
    for name in names:
        parts = name.split("/")
        if clash := next((path for i in range(1, len(parts)) if (path := "/".join(parts[:i])) in names), None):
            raise CheckpointError(f"the hub lists {clash!r} as a file and as a folder")


def _order(file: Remote) -> tuple[bool, str]:
    """Descriptions first: what has its weights has everything."""
    return file.path.endswith((".safetensors", ".bin", ".gguf", ".pt", ".pth")), file.path
