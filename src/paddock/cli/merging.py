"""`paddock merge`: adapters worked into a model, whole or not at all, and the proof that nothing else changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from paddock.checkpoint.writing import write_text
from paddock.cli import output
from paddock.cli.converting import check_target, in_numbers, keep, put_folder, scratch, tokenizer_of, write_papers
from paddock.cli.loading import load
from paddock.cli.options import Loading
from paddock.cli.parityprint import parity_text
from paddock.data.shards import fingerprint as spelling_of
from paddock.engine import merging
from paddock.engine import parity as gate
from paddock.engine.defaults import also_ending
from paddock.engine.language_model import LanguageModel
from paddock.engine.locate import locate
from paddock.engine.merging import Chosen, Provenance
from paddock.engine.parity_card import Parity
from paddock.engine.saving import TEMPLATE
from paddock.errors import UsageError
from paddock.tokenizer.chat import stops
from paddock.tokenizer.load import IN_ORDER
from paddock.tokenizer.load import load as read_tokenizer


@dataclass(frozen=True)
class Asked:
    """What a user asked `merge` for. adapters: each `FOLDER` or `FOLDER=WEIGHT`."""

    loading: Loading
    adapters: tuple[str, ...]
    target: str | None
    as_adapter: bool
    subtract: bool
    another_base: bool
    force: bool
    json: bool


def merge(asked: Asked) -> None:
    source, goal, chosen = _checked(asked)
    made_of = Provenance.of(source, asked.loading.model or str(source))
    provenance = made_of.after(chosen)
    output.note(f"reading {source}")
    loading, template = _words(asked, chosen)
    base = in_numbers(loading, template)
    if base.checkpoint.quantised or base.checkpoint.quantization:
        output.note("the base is quantised: its matrices are dequantised, and what is written is larger")
    if not asked.another_base:
        merging.check_base(base, chosen, made_of.base)
    adapted = _ending(merging.with_adapters(base, chosen), template)
    with scratch(goal.parent) as place:
        output.note(f"writing {goal}")
        new, parity = place / "new", None
        if asked.as_adapter:
            merging.write_sum(new, adapted, chosen, asked.loading.model or str(source))
            if template is not None and adapted.template is not None:
                write_text(new / TEMPLATE, adapted.template.source)
            if loading.tokenizer is not None:
                adapted.tokenizer.save(new)
        else:
            _write(merging.plain(adapted), new, provenance)
            output.note("comparing both")
            parity = _compared(adapted, new, asked)
        put_folder(new, goal)
    _tell(asked, source, goal, chosen, parity)


def _checked(asked: Asked) -> tuple[Path, Path, list[Chosen]]:
    """The base, the place and the adapters, once it is clear that they can be meant."""
    if not asked.adapters:
        raise UsageError("there is no --adapter", fix="for example --adapter out/lora/final")
    if asked.target is None:
        raise UsageError("there is no --output", fix="for example --output merged")
    if asked.subtract and asked.as_adapter:
        raise UsageError("--subtract takes adapters out of a model, and --as-adapter writes none")
    source, goal = locate(asked.loading.model), Path(asked.target).expanduser()
    if goal.suffix in (".gguf", ".bin"):
        raise UsageError(
            f"merge writes a folder, and the output is {goal.name}",
            fix=f"write {goal.stem}, then: paddock convert {goal.stem} {goal.name}",
        )
    chosen = [Chosen.at(*_weighed(text)) for text in asked.adapters]
    check_target(source, goal, asked.force)
    names = [one.sha256 for one in chosen]
    if len(set(names)) < len(names):
        raise UsageError("an adapter is named twice", fix="name it once, with the weight that is meant")
    if asked.subtract:
        chosen = [Chosen(one.adapter, -one.weight, one.sha256) for one in chosen]
    return source, goal, chosen


def _weighed(text: str) -> tuple[str, float]:
    """A folder and its weight; a folder may have = in its name."""
    folder, sign, weight = text.rpartition("=")
    if not sign or Path(text).expanduser().is_dir():
        return text, 1.0
    try:
        return folder, float(weight)
    except ValueError:
        raise UsageError(
            f"--adapter {text[:200]}", expected="FOLDER or FOLDER=WEIGHT, for example polite=0.7"
        ) from None


def _words(asked: Asked, chosen: list[Chosen]) -> tuple[Loading, str | None]:
    """With the tokenizer and the chat template that the adapters were trained with, where they have them."""
    if asked.subtract:
        return asked.loading, None
    templates = [one.adapter.path / TEMPLATE for one in chosen if (one.adapter.path / TEMPLATE).is_file()]
    if len({path.read_bytes() for path in templates}) > 1:
        output.note(f"the adapters have different chat templates; that of {templates[0].parent.name} is taken")
    spelt = [one.adapter.path for one in chosen if any(any(one.adapter.path.glob(name)) for name in IN_ORDER)]
    if len({spelling_of(read_tokenizer(path)) for path in spelt}) > 1:
        raise UsageError("the adapters were trained with different tokenizers", fix="merge those of one tokenizer")
    loading = asked.loading
    if loading.tokenizer is None and spelt:
        loading = replace(loading, tokenizer=str(spelt[0]))
    return loading, str(templates[0]) if templates else None


def _ending(model: LanguageModel, template: str | None) -> LanguageModel:
    """What ends an answer of the template, ends one for every tool that reads the folder."""
    if template is None or model.template is None:
        return model
    checkpoint, ids = model.checkpoint, stops(model.tokenizer, model.template).ids
    checkpoint = replace(checkpoint, generation=also_ending(checkpoint.generation, checkpoint.config, ids))
    return LanguageModel(checkpoint, model.model, model.tokenizer, model.template)


def _write(model: LanguageModel, new: Path, provenance: Provenance) -> None:
    model.save(new)
    write_papers(model.checkpoint, new)
    tokenizer_of(model)
    provenance.write(new)


def _compared(before: LanguageModel, new: Path, asked: Asked) -> Parity:
    """The parity of the adapter on its base and of what was written; bound where nothing was rounded."""
    after, _ = load(Loading(str(new), device=asked.loading.device))
    whole = after.model.embedding.tokens.weight.dtype == torch.float32
    parity = gate.merged(before, after) if whole else gate.compare(before, after, "merge")
    parity.check(
        "the merged model",
        "weigh the adapter less (--adapter PATH=0.5) or keep it beside its base; nothing was written",
    )
    keep(parity, new, None)
    return parity


def _tell(asked: Asked, source: Path, goal: Path, chosen: list[Chosen], parity: Parity | None) -> None:
    if asked.json:
        record: dict[str, Any] = {
            "source": str(source),
            "target": str(goal),
            "adapters": [{"name": str(one.adapter.path), "weight": one.weight} for one in chosen],
            "parity": None if parity is None else asdict(parity),
        }
        output.as_json(record)
        return
    said = [f"wrote {goal}", *(f"{one.weight:+g} {one.adapter.path}" for one in chosen)]
    if parity is not None:
        said.append(parity_text(parity))
        if parity.bound is None:
            said.append("(the merged weights were rounded to the base's type, so small differences are expected)")
    output.result("\n".join(said))
