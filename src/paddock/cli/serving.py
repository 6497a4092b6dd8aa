"""`paddock serve`: from flags and variables to a running server."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock import __version__
from paddock.cli import output
from paddock.engine.locate import BUNDLED, locate, names
from paddock.errors import InputError, TokenizerError, UsageError
from paddock.serve.flags import merged, misspelt
from paddock.serve.listening import address_of, check_certificate, listen
from paddock.serve.settings import Named, Settings

if TYPE_CHECKING:
    from paddock.engine.language_model import LanguageModel
    from paddock.serve.registry import Served
    from paddock.serve.server import Server

THREADS = "PADDOCK_THREADS"  # the native kernels read it themselves
FILES = (".gguf", ".bin")
RENAMED = {
    "api_key": "api_keys",
    "admin_key": "admin_keys",
    "allowed_host": "allowed_hosts",
    "cors_origin": "cors_origins",
    "models_dir": "models_dirs",
    "chat_template": "template",
}
PATHS = ("api_key_file", "ssl_certfile", "ssl_keyfile")


def alias(given: dict[str, Any], name: str, other: str) -> None:
    """Another program's name for one of our flags. Raises UsageError where both were given."""
    value = given.pop(other)
    if value is None:
        return
    if given[name] is not None:
        ours, theirs = (f"--{word.replace('_', '-')}" for word in (name, other))
        raise UsageError(f"{ours} and {theirs} are the same", fix="give one of them")
    given[name] = value


def serve(given: Mapping[str, Any]) -> None:
    """Serves until a signal. Everything that can be refused without reading a model is refused first."""
    for line in misspelt(os.environ):
        output.note(f"warning: {line}")
    found = merged(given, os.environ)
    threads = found.pop("threads", None)
    settings = settings_of(found)
    settings.check()
    for named in settings.models:
        locate(named.path)
    check_certificate(settings.ssl_certfile, settings.ssl_keyfile)
    listening = listen(settings.host, settings.port)
    address = address_of(listening, settings.host, settings.ssl_certfile is not None)
    output.note(f"Paddock {__version__} at {address}, loading {', '.join(_called(settings))}")
    if threads is not None:
        os.environ[THREADS] = str(threads)
    from paddock.serve.run import run  # brings PyTorch and FastAPI

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    code = run(settings, listening, lambda server: _tell(server, address))
    if code:
        sys.exit(code)


def _called(settings: Settings) -> list[str]:
    return [named.name for named in (*settings.models, *settings.adapters)]


def settings_of(found: Mapping[str, Any]) -> Settings:
    """Settings from flags by name. Raises UsageError for names that cannot be."""
    values = {RENAMED.get(name, name): value for name, value in found.items()}
    models, aliases = values.pop("model", []), values.pop("served_model_name", [])
    adapters = tuple(map(_adapter, _rejoined(values.pop("lora_modules", []))))
    for name in PATHS:
        if name in values:
            values[name] = Path(values[name]).expanduser()
    if "models_dirs" in values:
        values["models_dirs"] = [_folder(text) for text in values["models_dirs"]]
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Settings(models=_named(models, aliases), adapters=adapters, **values)


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_dir():
        raise UsageError(f"--models-dir {text} is no folder")
    return path


def _named(models: Sequence[str], aliases: Sequence[str]) -> tuple[Named, ...]:
    """Each model with the alias in its place, else with the name of its file or folder."""
    paths: list[str | None] = [*models] or [None]
    if len(aliases) > len(paths):
        raise UsageError(
            f"{len(aliases)} names for {len(paths)} model{'s' * (len(paths) > 1)}",
            expected="--served-model-name at most once for each MODEL",
        )
    given = [*aliases, *[None] * (len(paths) - len(aliases))]
    return tuple(Named(name or _own_name(path), path) for name, path in zip(given, paths, strict=True))


def _own_name(path: str | None) -> str:
    if path is None:
        return BUNDLED
    if path in names() and not Path(path).exists():
        return path
    found = Path(path).expanduser().resolve()
    return found.stem if found.suffix in FILES else found.name


def _rejoined(items: Sequence[str]) -> list[str]:
    """In a variable, commas stand between adapters and before `base=`, too."""
    whole: list[str] = []
    for item in items:
        if item.startswith("base=") and whole:
            whole[-1] += f",{item}"
        else:
            whole.append(item)
    return whole


def _adapter(text: str) -> Named:
    """NAME=PATH[,base=MODEL]"""
    name, equals, path = text.partition("=")
    path, _, base = path.partition(",base=")
    if not equals or not name or not path:
        raise UsageError(
            f"--lora-modules {text}", expected="NAME=PATH or NAME=PATH,base=MODEL", fix="for example polite=adapters/p"
        )
    if not Path(path).expanduser().is_dir():
        raise InputError(f"--lora-modules {text}: no such folder", expected="the folder of a LoRA adapter")
    return Named(name, str(Path(path).expanduser()), base or None)


def _tell(server: Server, address: str) -> None:
    """What an operator wants to know when the models are loaded."""
    chosen = server.settings
    rows = [_row(served) for served in server.registry]
    lines = [output.table(rows, ("model", "what", "weights", "context", "cache up to"), right=(2, 3, 4), indent=2)]
    lines.append(f"  at once: {chosen.parallel} requests of a model, {chosen.waiting} more may wait")
    if server.access.open:
        lines.append("  keys: none" + (", everybody who can reach it is served" if chosen.insecure else ""))
    else:
        lines.append("  keys: needed")
    lines.append(f"  API: {address}/v1" + (f"   web interface: {address}/" if chosen.web else ""))
    output.note("\n".join([*lines, "ready"]))


def _reads_text(model: LanguageModel) -> bool:
    try:
        return bool(model.tokenizer)
    except TokenizerError:
        return False


def _row(served: Served) -> list[str]:
    from paddock.engine.runner import cache_bytes

    model = served.model
    context = "any" if served.context is None else f"{served.context:,}"
    what = model.architecture.family if served.parent is None else f"adapter on {served.parent}"
    if model.architecture.generates and model.template is None:
        what += ", no chat template"
    if not _reads_text(model):
        what += ", no tokenizer: takes token ids only"
    cache, weights = "-", model.model.weight_bytes
    if served.adapter is not None:
        cache, weights = f"{served.parent}'s", served.adapter.nbytes
    elif served.engine is not None:
        cache = output.size(cache_bytes(served.engine.runner))
    return [served.name, what, output.size(weights), context, cache]
