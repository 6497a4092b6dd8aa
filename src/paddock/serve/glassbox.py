"""The glass box: what went in, and for every token what else was likely and how it was chosen.

    first piece   {"prompt": {"text", "tokens": [{"id", "text", "special"}], "cached"},
                   "settings": {name: {"value", "origin"}}}
    every piece   {"tokens": [{"id", "text", "logprob", "top": [{"id", "text", "logprob"}], "draw", "below",
                   "probability", "stages": [{"name", "survivors", "top": [{"id", "text", "p"}]}]}]}
    last piece    {"timings", "cached_tokens", "seed"}

A whole answer carries the same in one object. `logprob` is of the model's own distribution, `probability` of the one
that was drawn from; `draw` is the number between 0 and 1 that chose, null where the likeliest is taken. `below` is what
all tokens before the chosen one have together: below <= draw < below + probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paddock.engine.request import Event
from paddock.engine.sampler import Trace
from paddock.serve.accounts import timings
from paddock.serve.answering import Answering, Ending, Whole
from paddock.serve.asking import Asked
from paddock.serve.logprobs import Words, clipped, tokenizer_of, words_of
from paddock.serve.refusals import BadRequest
from paddock.serve.registry import Served

RIVALS = 10  # likely tokens that are shown beside each chosen one


@dataclass(frozen=True)
class GlassBox:
    """Shows one answer as it comes."""

    served: Served
    asked: Asked
    answering: Answering

    def opening(self) -> dict[str, Any]:
        """What the model was given. Asked for once something was computed, when it is known what was cached."""
        request = self.answering.plan.requests[0]
        words, tokenizer = words_of(self.served), tokenizer_of(self.served)
        tokens = [_token(id, words) | {"special": words[id].special} for id in request.prompt]
        text = "" if tokenizer is None else tokenizer.decode(request.prompt, skip_special=False)
        settings = {
            name: {"value": value, "origin": origin}
            for name, (value, origin) in self.served.model.settings(**self.asked.settings).values().items()
            if name != "seed"
        }
        given = {
            "seed": (request.sampling.seed, self.asked.seed is not None),
            "stop": (list(request.stop), self.asked.stop is not None),
            "max_tokens": (request.max_new_tokens, self.asked.max_tokens is not None),
        }
        for name, (value, requested) in given.items():
            settings[name] = {"value": value, "origin": "request" if requested else "default"}
        return {
            "prompt": {"text": text, "tokens": tokens, "cached": self.answering.usage.cached},
            "settings": settings,
        }

    def tokens(self, events: Sequence[Event]) -> dict[str, Any]:
        words = words_of(self.served)
        return {"tokens": [_shown(event, words) for event in events]}

    def whole(self, choice: Whole) -> dict[str, Any]:
        """All pieces of an answer that has ended, in one."""
        assert choice.ending is not None, "a whole answer has ended"
        return self.opening() | self.tokens(choice.tokens) | self.ending(choice.ending)

    def ending(self, ending: Ending) -> dict[str, Any]:
        return {
            "timings": timings(self.answering.usage, [ending]),
            "cached_tokens": ending.cached,
            "seed": ending.seed,
        }


def check_one(choices: int) -> None:
    """Raises BadRequest where several choices are asked for."""
    if choices != 1:
        raise BadRequest("glass_box shows one choice at a time", param="glass_box", expected="n: 1 and one prompt")


def _token(id: int, words: Words) -> dict[str, Any]:
    return {"id": id, "text": words[id].text}


def _shown(event: Event, words: Words) -> dict[str, Any]:
    shown = _token(event.token, words) | {
        "logprob": clipped(event.logprob),
        "top": [_token(id, words) | {"logprob": clipped(logprob)} for id, logprob in event.top[:RIVALS]],
    }
    return shown | (_stages(event.trace, words) if event.trace is not None else {})


def _stages(trace: Trace, words: Words) -> dict[str, Any]:
    return {
        "draw": trace.draw,
        "below": trace.below,
        "probability": trace.probability,
        "stages": [
            {
                "name": stage.name,
                "survivors": stage.survivors,
                "top": [_token(id, words) | {"p": p} for id, p in stage.top],
            }
            for stage in trace.stages
        ],
    }
