"""How a model answers while it is tuned: a recipe's prompts, in the format that it is trained in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paddock.engine.language_model import LanguageModel
from paddock.engine.speaking import speaking
from paddock.errors import UsageError
from paddock.finetune.opened import Opened
from paddock.model.transformer import Transformer

TOKENS = 96  # of an answer
STOPPED = "stop"


def sampler(opened: Opened, prompts: Sequence[str]) -> Callable[[Transformer], list[str]] | None:
    """A function that lets a model answer each prompt, greedily; None without prompts.

    Where there is no chat template a model goes on from the prompt. An answer that did not end by itself says so.
    Raises UsageError for a model that does not write.
    """
    if not prompts:
        return None
    base, architecture = opened.base, opened.base.model.architecture
    if architecture.encoder is None and not architecture.generates:
        raise UsageError(f"{architecture.family} does not write, so it answers no prompts", fix="leave prompts out")

    def answers(model: Transformer) -> list[str]:
        with speaking(model, opened.tokenizer, base.config, base.generation, opened.template) as speaker:
            return [_answered(speaker, prompt) for prompt in prompts]

    return answers


def _answered(speaker: LanguageModel, prompt: str) -> str:
    if speaker.template is None or speaker.architecture.encoder is not None:
        done = speaker.generate(prompt, max_new_tokens=_room(speaker, speaker.prompt_ids(prompt)), temperature=0)
    else:
        messages = [{"role": "user", "content": prompt}]
        room = _room(speaker, speaker.chat_prompt(messages).ids)
        done = speaker.chat(messages, max_new_tokens=room, temperature=0)
    end = "" if done.finish_reason == STOPPED else f" […no end within {len(done.ids)} tokens]"
    return f"{prompt} -> {done.text.strip()}{end}"


def _room(speaker: LanguageModel, ids: Sequence[int]) -> int:
    """Tokens that an answer may have: what is left of the context behind a prompt."""
    context = speaker.architecture.context
    if context is None or speaker.architecture.encoder is not None:
        return TOKENS
    return max(1, min(TOKENS, context - len(ids)))
