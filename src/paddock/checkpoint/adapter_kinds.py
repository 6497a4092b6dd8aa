"""The one door to adapters at rest: a folder is looked at, and what lies there is put on a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paddock.checkpoint import class_heads, ia3_folders, own_adapters, prompt_folders
from paddock.checkpoint.adapters import CONFIG, deltas, read_adapter, replaced
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.own_adapters import with_replaced
from paddock.errors import CheckpointError, UnsupportedError
from paddock.model.ahead import Virtual
from paddock.model.families import family
from paddock.model.lora import Adapted, adapt
from paddock.model.prompts import Prompts
from paddock.model.scaling import Scaled
from paddock.model.transformer import Transformer

Put = Callable[[Transformer, Path, Mapping[str, Any]], Transformer]


def _lora(model: Transformer, folder: Path, config: Mapping[str, Any]) -> Transformer:
    adapter, rules = read_adapter(folder), family(dict(config)).RULES
    return with_replaced(adapt(model, deltas(adapter, model, rules)), replaced(adapter, model, rules))


def _own(model: Transformer, folder: Path, config: Mapping[str, Any]) -> Transformer:
    return own_adapters.with_own(model, folder)


KINDS: dict[str, Put] = {
    "LORA": _lora,
    ia3_folders.KIND: ia3_folders.with_ia3,
    prompt_folders.PREFIX: prompt_folders.with_prefix,
    prompt_folders.PROMPT: prompt_folders.with_prompt,
    prompt_folders.ADAPTION: prompt_folders.with_adaption,
    **dict.fromkeys(own_adapters.KINDS, _own),
}


def kind(folder: Path) -> str:
    """The `peft_type` of an adapter's folder, one of KINDS. Raises CheckpointError, UnsupportedError."""
    if not folder.is_dir():
        raise CheckpointError(f"{str(folder)[:300]!r} is no folder", expected=f"a folder with {CONFIG}")
    if not (folder / CONFIG).exists() and (folder / "config.json").is_file():
        raise CheckpointError(
            f"{str(folder)[:300]!r} is a whole model",
            expected=f"an adapter: a folder with {CONFIG}",
            fix="use it as the model, without an adapter",
        )
    found = read_json(folder / CONFIG).get("peft_type")
    if not isinstance(found, str) or found not in KINDS:
        raise UnsupportedError(f"{CONFIG} says peft_type {str(found)[:40]!r}", expected=", ".join(KINDS))
    return found


def adds_ranks_only(folder: Path) -> bool:
    """Whether an adapter looks like one that leaves everything else of its model as it is; `put` may find more in it.

    Raises what `kind` does.
    """
    said = read_json(folder / CONFIG) if kind(folder) == "LORA" else {"use_dora": True}
    return not (said.get("use_dora") or said.get("modules_to_save"))


def put(model: Transformer, folder: str | Path, config: Mapping[str, Any]) -> Transformer:
    """A Transformer like `model`, whose configuration is `config`, with the adapter of a folder; weights are shared.

    Raises CheckpointError for what is corrupt or was made for another model, UnsupportedError for other kinds.
    """
    folder = Path(folder).expanduser()
    put_on = KINDS[kind(folder)]
    classes = class_heads.read(folder)
    if not classes:
        return put_on(model, folder, config)
    config = {**config, **classes}
    headed, blank = class_heads.with_head(model, config)
    made = put_on(headed, folder, config)
    class_heads.check_filled(headed, made, blank)
    return made


def carries(model: Transformer) -> bool:
    """Whether parts of a model are an adapter's, which its own architecture has no place for."""
    return any(isinstance(module, Adapted | Prompts | Scaled | Virtual) for module in model.modules())
