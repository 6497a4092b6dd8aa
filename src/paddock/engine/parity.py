"""The parity gate: after a hand-over (convert, merge, quantise) both models run the same prompts.

What should be exact is refused where it is not; what rounds is measured. Either way the result, a `Parity`, goes with
what was written. Decoders and encoder-decoders are compared by their logits and by what they write, encoders by
their hidden states.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paddock.engine.defaults import GREEDY
from paddock.engine.language_model import LanguageModel
from paddock.engine.parity_card import LONGEST, MERGED, RERUN, RESTATED, Outputs, Parity
from paddock.engine.parity_prompts import CHAT, TEXTS
from paddock.errors import PaddockError, TokenizerError, UsageError
from paddock.kernels.packed import Packed
from paddock.kernels.threads import threads_for
from paddock.model.linear import weights_of
from paddock.model.spec import Architecture, Prefix
from paddock.model.transformer import Transformer
from paddock.model.twin import twin_of
from paddock.tokenizer import Tokenizer

LENGTH = 48  # tokens of a prompt at most
WRITTEN, STEPS = 3, 16  # prompts that are continued, and by how many tokens
FIXED = 4  # prompts of fixed ids, where there is no tokenizer
ANSWER = 8  # tokens of an encoder-decoder's answer that are compared

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prompts:
    """Ids to run, each within the model's context. tokens_equal: as in `Parity`."""

    ids: tuple[tuple[int, ...], ...]
    tokens_equal: bool | None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.ids).encode()).hexdigest()


def compare(
    before: LanguageModel,
    after: LanguageModel,
    kind: str,
    bound: float | None = None,
    progress: Progress | None = None,
) -> Parity:
    """Runs both on the bundled prompts; see `Parity` for what comes of it, and for `kind` and `bound`.

    progress: called with prompts done and prompts in all. Raises UsageError for two models that say different kinds of
    things, PaddockError for outputs that are not numbers.
    """
    outputs = _comparable(before, after)
    prompts = prompts_for(before, after)
    tally = _Tally(outputs)
    equal = steps = 0
    for done, ids in enumerate(prompts.ids, 1):
        with threads_for(before.model.weight_bytes):
            tally.add(*(_outputs(model, ids) for model in (before, after)))
        if before.architecture.generates and done <= WRITTEN:
            one, two = (_written(model, ids) for model in (before, after))
            steps += max(len(one), len(two))
            equal += _common(one, two)
        if progress is not None:
            progress(done, len(prompts.ids))
    return Parity(
        kind=kind,
        source=before.checkpoint.path.name[:LONGEST],
        before_sha256=fingerprint(before.model),
        after_sha256=fingerprint(after.model),
        prompts_sha256=prompts.sha256,
        prompts=len(prompts.ids),
        tokens=tally.tokens,
        outputs=outputs,
        **tally.result(),
        greedy_equal=equal,
        greedy_steps=steps,
        tokens_equal=prompts.tokens_equal,
        bound=bound,
    )


def merged(before: LanguageModel, after: LanguageModel) -> Parity:
    """Whether an adapter's model and the one whose float32 weights it was worked into compute the same, to MERGED.

    Float32 adds the same products in another order. A model that makes much of little, as a strong adapter may, shows
    that as more than MERGED; then both are run again in float64, which leaves what the weights themselves differ by.
    """
    found = compare(before, after, "merge", MERGED)
    return found if found.holds else compare(_widened(before), _widened(after), "merge, run in float64", MERGED)


def _widened(model: LanguageModel) -> LanguageModel:
    """The same numbers, with which PyTorch computes in float64."""
    twin: Transformer = twin_of(model.model)
    made: dict[int, nn.Parameter] = {}
    for module in twin.modules():
        for name, held in module._parameters.items():
            if held is not None:
                if id(held) not in made:
                    made[id(held)] = nn.Parameter(held.detach().double(), requires_grad=False)
                module._parameters[name] = made[id(held)]
    return LanguageModel(model.checkpoint, twin, model._tokenizer, model.template)


def exact(before: LanguageModel, after: LanguageModel) -> float:
    """The bound of two models whose weights and computation are to be the same: 0 where the native kernels run both."""
    one, two = (model.architecture.layer(0).attention.position for model in (before, after))
    if one != two:
        return RESTATED
    return 0.0 if before.reader.native and after.reader.native else RERUN


def fingerprint(model: Transformer) -> str:
    """A SHA-256 over all weights by their canonical names: name, type, shape and bytes, codes as what they stand for.

    So it is the same for the same numbers, whatever format they lie in.
    """
    seen = hashlib.sha256()
    for name, weight in sorted(weights_of(model).items()):
        numbers = _numbers(weight)
        seen.update(f"{name} {numbers.dtype} {list(numbers.shape)}\n".encode())
        seen.update(numbers.contiguous().view(torch.uint8).numpy().data)
    return seen.hexdigest()


def altered(before: Transformer, after: Transformer) -> list[str]:
    """Canonical names of the weights that both have and that are not the same numbers."""
    one, two = weights_of(before), weights_of(after)
    return [name for name in one if name in two and not torch.equal(_numbers(one[name]), _numbers(two[name]))]


def _numbers(weight: Tensor | Packed) -> Tensor:
    return weight.dequantise() if isinstance(weight, Packed) else weight.detach().cpu()


def prompts_for(before: LanguageModel, after: LanguageModel) -> Prompts:
    """The bundled texts, and the chat if the model has a template, as the first model reads them.

    Fixed ids where it has no tokenizer, or one that cannot spell any of them.
    """
    first, second = _tokenizer(before), _tokenizer(after)
    found, equal = [], True
    for text in TEXTS if first is not None else ():
        assert first is not None
        with contextlib.suppress(TokenizerError):  # a vocabulary of one language's letters
            ids = first.encode(text)
            found.append(_fitted(ids, before.architecture, len(first.after)))
            equal = equal and second is not None and _encoded(second, text) == ids
    if first is not None and before.template is not None:
        with contextlib.suppress(PaddockError):  # a template of other roles
            found.append(_fitted(list(before.chat_prompt(CHAT).ids), before.architecture, 0))
    spelt = [ids for ids in found if ids]
    if not spelt:
        return Prompts(tuple(_fixed(before.architecture)), None)
    return Prompts(tuple(spelt), equal if second is not None else None)


def _tokenizer(model: LanguageModel) -> Tokenizer | None:
    try:
        return model.tokenizer
    except TokenizerError:
        return None


def _encoded(tokenizer: Tokenizer, text: str) -> list[int] | None:
    try:
        return tokenizer.encode(text)
    except TokenizerError:
        return None


def _reading(part: Architecture) -> Architecture:
    return part.encoder or part


def _room(part: Architecture) -> int:
    """Tokens of a prompt at most, so that an answer fits behind it."""
    context = _reading(part).context or LENGTH + STEPS
    answer = STEPS if part.generates and part.encoder is None else 0
    return max(1, min(LENGTH, context - answer))


def _fitted(ids: Sequence[int], part: Architecture, after: int) -> tuple[int, ...]:
    """As many of the ids as the model has room for; the `after` last ones, which end a text, stay."""
    known = [id for id in ids if id < _reading(part).vocabulary]
    room = _room(part)
    if len(known) > room:
        known = [*known[: max(room - after, 0)], *known[len(known) - min(after, room) :]]
    return tuple(known)


def _fixed(part: Architecture) -> list[tuple[int, ...]]:
    """Ids spread over the vocabulary; a model that asks for a mask and a start token finds them at the end."""
    vocabulary = _reading(part).vocabulary
    end = (part.mask.mask_tokens[0], part.mask.start_token) if isinstance(part.mask, Prefix) else ()
    size = max(1, min(_room(part), 16) - len(end))
    return [tuple((7919 * (start * size + i) + 1) % vocabulary for i in range(size)) + end for start in range(FIXED)]


def _comparable(before: LanguageModel, after: LanguageModel) -> Outputs:
    """What both can be compared by. Raises UsageError."""
    one, two = _compared_by(before.architecture), _compared_by(after.architecture)
    if one != two:
        raise UsageError(f"the models cannot be compared: one gives {one}, the other {two}")
    return "hidden states" if before.architecture.head is None else "logits"


def _compared_by(part: Architecture) -> str:
    read = f"{_reading(part).vocabulary} tokens" + (" of a source text" if part.encoder else "")
    given = f"hidden states of width {part.width}" if part.head is None else f"logits of {part.vocabulary} tokens"
    return f"{given} for {read}"


def _outputs(model: LanguageModel, ids: Sequence[int]) -> Tensor:
    """(tokens, vocabulary) logits, or (tokens, width) hidden states, on the CPU."""
    part = model.architecture
    if part.encoder is not None:
        answer = [0, *(id for id in ids if id < part.vocabulary)][:ANSWER]
        return model.logits(answer, source=ids).cpu()
    if part.head is not None:
        return model.logits(ids).cpu()
    return model.reader.hidden([ids])[0].float().cpu()


def _written(model: LanguageModel, ids: Sequence[int]) -> tuple[int, ...]:
    """The model's own greedy continuation."""
    return tuple(model.generate(list(ids), _steps(model.architecture, ids), **GREEDY).ids)


def _steps(part: Architecture, ids: Sequence[int]) -> int:
    if part.encoder is not None or part.context is None:
        return STEPS
    return max(1, min(STEPS, part.context - len(ids)))


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens are alike before the first that is not."""
    shorter = min(len(one), len(two))
    return next((i for i in range(shorter) if one[i] != two[i]), shorter)


class _Tally:
    """What was seen so far of differences, token by token."""

    def __init__(self, outputs: Outputs) -> None:
        self.predicts = outputs == "logits"
        self.tokens, self.equal = 0, 0
        self.difference, self.largest = 0.0, 0.0
        self.divergence, self.worst = 0.0, 0.0

    def add(self, before: Tensor, after: Tensor) -> None:
        one, two = before.double(), after.double()
        difference = float((one - two).abs().max())
        largest = float(one.abs().max())
        if not (one.isfinite().all() and two.isfinite().all()):
            raise PaddockError(
                "the outputs of one of the models are not numbers", fix="look for damage with `paddock show`"
            )
        self.tokens += len(one)
        self.difference, self.largest = max(self.difference, difference), max(self.largest, largest)
        if self.predicts:
            p, q = one.log_softmax(-1), two.log_softmax(-1)
            divergence = (p.exp() * (p - q)).sum(-1).clamp(min=0)
            self.divergence += float(divergence.sum())
            self.worst = max(self.worst, float(divergence.max()))
            self.equal += int((one.argmax(-1) == two.argmax(-1)).sum())

    def result(self) -> dict[str, Any]:
        own = self.predicts
        return {
            "largest_difference": self.difference,
            "largest_output": self.largest,
            "kl_mean": self.divergence / self.tokens if own else None,
            "kl_max": self.worst if own else None,
            "top1": self.equal / self.tokens if own else None,
        }
