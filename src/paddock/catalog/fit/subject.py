"""What is to be run, from descriptions alone: a folder, config.json, GGUF header, llama2.c file or catalogue entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from paddock.catalog.catalogue import Found, catalogue, folded
from paddock.catalog.fit import formats, groups
from paddock.catalog.fit.groups import Group
from paddock.catalog.schema import Model
from paddock.catalog.weighing import homes
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint, understand
from paddock.checkpoint.folder import CONFIG, read_config
from paddock.checkpoint.gguf import GGUFFile
from paddock.checkpoint.gguf_families import read as read_gguf
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.weights import sketch
from paddock.engine.adapted import Adapted, is_adapter
from paddock.engine.locate import FILE_ENDINGS, locate, names
from paddock.errors import CheckpointError, UnsupportedError, UsageError, nearest
from paddock.model.families import family
from paddock.model.rules import Row
from paddock.model.spec import Architecture
from paddock.training.scale import parameters

Source = Literal["folder", "config", "gguf", "llama2.c", "catalogue"]
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth"}
ASSUMED = "bf16"  # of weights that nothing is said about: how nearly all are published, or as wide
MATRIX_BITS = {"gptq": "int{bits}", "awq": "int4", "bitsandbytes": "nf4"}


@dataclass(frozen=True)
class Subject:
    """A model described.

    architecture: None where Paddock does not run it; then `groups` are none and `why` says so. parameters: tied ones
    counted once; active: all but those of experts that a token is not sent to, None where that is not known. dtype:
    what it is loaded in unless asked otherwise, "bfloat16". stored: bytes of the weight files, as far as known.
    adapter: bytes of an adapter on it. remarks: what was assumed.
    """

    name: str
    source: Source
    architecture: Architecture | None
    groups: tuple[Group, ...]
    parameters: int
    active: int | None
    dtype: str
    stored: int | None = None
    adapter: int = 0
    why: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def quantised(self) -> bool:
        """Whether some matrices are stored as codes."""
        return any(group.kind not in formats.PLAIN for group in self.groups)

    @property
    def context(self) -> int | None:
        return None if self.architecture is None else self.architecture.context

    def known(self) -> Architecture:
        """The architecture. Raises UnsupportedError where there is none."""
        if self.architecture is None:
            raise UnsupportedError(f"{self.name}: {self.why}", fix="`paddock catalog show` says what is known of it")
        return self.architecture


def read(model: str | Path | Found | None) -> Subject:
    """What a path, a name at hand, a name of the catalogue or its entry means; None is the bundled model.

    Raises UsageError for a name that means nothing, with the nearest, or several sizes; InputError for files that are
    not what they should be.
    """
    if isinstance(model, Found):
        return of_entry(model)
    if isinstance(model, str) and not _at_hand(model):
        return of_entry(_named(model))
    path = locate(model)
    if path.is_file() and path.suffix == ".json":
        return of_config(read_json(path), _name_of(path), "config")
    if is_adapter(path):
        base = read(Adapted.at(path).base)
        size = sum(file.stat().st_size for file in path.iterdir() if file.suffix in WEIGHTS and file.is_file())
        return replace(base, name=f"{base.name} with {path.name}", adapter=size)
    if path.is_dir() and not any(file.suffix in WEIGHTS for file in path.iterdir()):
        return of_config(read_config(path), path.name or str(path), "config")
    return of_checkpoint(_header(path) if path.suffix == ".gguf" else open_checkpoint(path))


def _at_hand(name: str) -> bool:
    """Whether a text is for `locate`: it names a file that is there, a model at hand, or looks like a path."""
    path = Path(name).expanduser()
    try:
        there = path.exists()
    except (OSError, ValueError):  # a name too long, a NUL
        there = True  # `locate` says what is wrong with it
    looks = name.startswith((".", "~", "/")) or path.suffix in FILE_ENDINGS | {".json"} or not name.strip()
    return there or looks or name in names()


def _named(name: str) -> Found:
    known = catalogue()
    if folded(name) in known.names:
        return known.names[folded(name)]
    spelt = {**{folded(local): local for local in names()}, **{key: found.name for key, found in known.names.items()}}
    near = nearest(folded(name), spelt)
    meant = f"; the nearest known is {spelt[near]!r}" if near else ""
    raise UsageError(
        f"no model is called {name[:100]!r}{meant}",
        fix="give a path, a name that `paddock ls` shows, or one of `paddock catalog ls`",
    )


def of_entry(found: Found) -> Subject:
    """From the catalogue: the shape that its entry states, weights of 16 bits. Raises UsageError for what is no model,
    and where the name leaves several sizes."""
    asset, size = found.asset, found.size
    if not isinstance(asset, Model):
        raise UsageError(f"{asset.name} is not a model", expected="a model of the catalogue")
    if size is None:
        named = [f"{asset.id}-{one.name}" for one in asset.sizes]
        expected = ", ".join(named) if named else "a model whose sizes are known"
        raise UsageError(f"{asset.name} has {len(named) or 'no known'} sizes", expected=expected)
    if size.config is not None:
        subject = of_config(size.config, found.name, "catalogue")
        if subject.architecture is not None or size.parameters is None:
            return subject
        why = subject.why
    else:
        why = "the catalogue does not know its shape"
    return Subject(
        found.name, "catalogue", None, (), size.parameters or 0, size.active, "bfloat16", why=why, stored=None
    )


def of_config(config: Mapping[str, Any], name: str, source: Source) -> Subject:
    """From a config.json alone. A model_type that Paddock does not run gives a Subject without an architecture;
    anything else wrong raises CheckpointError."""
    remarks: list[str] = []
    quantization = config.get("quantization_config")
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    try:
        rules = family(plain).RULES
        architecture = understand(plain)
    except UnsupportedError as error:
        return Subject(name, source, None, (), 0, None, "bfloat16", why=error.what)
    kind = _kind_of(plain, remarks)
    inner = None if quantization is None else _inner(quantization)
    found = groups.of(architecture, kind, rules, inner)
    dtype = next(long for long, short in formats.DTYPES.items() if short == kind)
    return _subject(name, source, architecture, found, dtype, None, tuple(remarks))


def of_checkpoint(checkpoint: Checkpoint) -> Subject:
    """From a checkpoint's descriptions: each tensor as it is stored. Raises CheckpointError for tensors that have no
    place in the model, or are missing."""
    architecture = checkpoint.architecture
    shapes = {name: tuple(p.shape) for name, p in sketch(architecture, len(checkpoint.tensors)).named_parameters()}
    found = homes(checkpoint, shapes)
    if missing := [name for name in shapes if name not in found]:
        raise CheckpointError(f"the weights lack {', '.join(missing[:4])}", fix="download or copy the files again")
    counted: dict[Group, Group] = {}
    expected = {
        (group.role, group.shape): group for group in groups.of(architecture, "f32", family(checkpoint.config).RULES)
    }
    for name, shape in shapes.items():
        stored, rule = found[name].stored, found[name].rule
        kind = stored.codes.format.lower() if stored.codes else _short(stored.dtype)
        first = Group(name, shape, 0, kind)
        view = expected[first.role, shape].view and kind in formats.PLAIN and stored.viewed
        rows = not getattr(rule, "transpose", False) and not isinstance(rule, Row)
        key = replace(first, name=first.role, by_rows=rows, view=view)
        known = counted.get(key, replace(key, name=name))
        counted[key] = replace(known, count=known.count + 1)
    dtype = str(checkpoint.dtype).removeprefix("torch.")
    size = sum(group.stored for group in counted.values())
    kind = {"folder": "folder", "gguf": "gguf"}.get(checkpoint.kind, "llama2.c")
    name = checkpoint.path.name or str(checkpoint.path)
    return _subject(name, kind, architecture, tuple(counted.values()), dtype, size, ())  # type: ignore[arg-type]


def _subject(
    name: str,
    source: Source,
    architecture: Architecture,
    found: tuple[Group, ...],
    dtype: str,
    stored: int | None,
    remarks: tuple[str, ...],
) -> Subject:
    size = sum(group.stored for group in found) if stored is None else stored
    count = parameters(architecture)
    active = count - groups.idle(architecture, found)
    return Subject(name, source, architecture, found, count, active, dtype, size, remarks=remarks)


def _header(path: Path) -> Checkpoint:
    """A GGUF file by its header: the weights behind it may be missing."""
    config, tensors = read_gguf(GGUFFile(path, header_only=True))
    return Checkpoint(path, "gguf", config, tensors, understand(config, tensors.keys()))


def _kind_of(config: Mapping[str, Any], remarks: list[str]) -> str:
    named = config.get("dtype", config.get("torch_dtype"))
    if isinstance(named, str) and named in formats.DTYPES:
        return formats.DTYPES[named]
    remarks.append(f"the type of the weights is not said: {ASSUMED} is assumed, 2 bytes a number")
    return ASSUMED


def _inner(quantization: Any) -> str:
    """The kind of quantised matrices by what a folder says of them. Raises UnsupportedError for others."""
    if not isinstance(quantization, Mapping):
        raise CheckpointError(f"quantization_config is {str(quantization)[:80]!r}", expected="a dictionary")
    method = quantization.get("quant_method")
    bits = quantization.get("bits", quantization.get("w_bit", 4))
    if method in (None, "bitsandbytes"):
        eight = quantization.get("load_in_8bit") or quantization.get("_load_in_8bit")
        return "int8" if eight else "nf4"
    if method not in MATRIX_BITS or bits not in (4, 8):
        raise UnsupportedError(
            f"quantization_config: {bits} bits by {str(method)[:40]!r}",
            expected="gptq or awq of 4 or 8 bits, bitsandbytes",
        )
    return MATRIX_BITS[method].format(bits=bits)


def _short(dtype: Any) -> str:
    """A torch type as a kind; 8-bit floats are kept as bfloat16, wider ones as float32."""
    name = str(dtype).removeprefix("torch.")
    if name in formats.DTYPES:
        return formats.DTYPES[name]
    return "bf16" if dtype.itemsize == 1 else "f32"


def _name_of(path: Path) -> str:
    return path.parent.name if path.name == CONFIG and path.parent.name else path.name
