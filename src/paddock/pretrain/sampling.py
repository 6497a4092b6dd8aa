"""What a model says while it is trained: texts that it writes after a recipe's prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paddock.engine.language_model import LanguageModel
from paddock.engine.speaking import speaking
from paddock.model.transformer import Transformer
from paddock.pretrain.starting import Start
from paddock.tokenizer.tokenizer import Tokenizer

TOKENS, TEMPERATURE = 48, 0.8


def sampler(start: Start, tokenizer: Tokenizer, prompts: Sequence[str]) -> Callable[[Transformer], list[str]]:
    """A function that lets a model go on from each prompt, with the same random numbers each time it is asked."""

    def write(model: Transformer) -> list[str]:
        with speaking(model, tokenizer, start.config, start.generation) as speaker:
            return [_written(speaker, prompt, number) for number, prompt in enumerate(prompts)]

    return write


def _written(speaker: LanguageModel, prompt: str, seed: int) -> str:
    most = speaker.architecture.context or TOKENS
    room = min(TOKENS, most - len(speaker.prompt_ids(prompt)))
    if speaker.architecture.encoder is not None:
        return f"{prompt} -> {speaker.generate(prompt, max_new_tokens=room, temperature=0).text}"
    return prompt + speaker.generate(prompt, max_new_tokens=room, temperature=TEMPERATURE, seed=seed).text
