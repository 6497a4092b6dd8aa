"""What may not be chosen at a step, or must be, whatever its probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

NEVER = float("-inf")


@dataclass(frozen=True)
class Constraints:
    """Rules over token ids; all meanings are those of the like-named Hugging Face generation settings.

    banned: ids never chosen. vocabulary: ids from here on are rows without a token (padding of the weight matrix).
    holes: such rows below it; nobody asked for these two, they are what the tokenizer lacks.
    bad_words: runs of ids that must not come to be. no_repeat_ngram_size: no run of this many ids occurs twice.
    begin_suppress_tokens: ids not chosen first. min_new_tokens: no end before so many. forced_bos_token_id,
    forced_eos_token_id: the first id, and the last one where the limit is reached.
    """

    banned: tuple[int, ...] = ()
    vocabulary: int | None = None
    holes: tuple[int, ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    no_repeat_ngram_size: int = 0
    begin_suppress_tokens: tuple[int, ...] = ()
    min_new_tokens: int = 0
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None

    def apply(
        self, scores: Tensor, prompt: Sequence[int], written: Sequence[int], ends: Sequence[int], left: int
    ) -> None:
        """Sets forbidden entries of `scores` (vocabulary,) to minus infinity, in place.

        `prompt` and `written` are the ids so far, `ends` those that end a text, `left` how many more may be written.
        """
        forced = self.forced(len(written), left)
        if forced is not None:
            scores.fill_(NEVER)
            scores[forced] = 0.0  # certain: a forced token costs a beam nothing
            return
        if self.vocabulary is not None and self.vocabulary < len(scores):
            scores[self.vocabulary :] = NEVER
        forbidden = [*self.banned, *self.holes, *self._continuations(prompt, written)]
        if not written:
            forbidden.extend(self.begin_suppress_tokens)
        if len(written) < self.min_new_tokens:
            forbidden.extend(ends)
        if forbidden:
            scores[[id for id in forbidden if id < len(scores)]] = NEVER

    def forced(self, count: int, left: int) -> int | None:
        """The only id that may come after `count` ids, with `left` more to come; None where it is not settled."""
        if count == 0 and self.forced_bos_token_id is not None:
            return self.forced_bos_token_id
        return self.forced_eos_token_id if left == 1 else None

    def _continuations(self, prompt: Sequence[int], written: Sequence[int]) -> list[int]:
        """Ids that would complete a bad word or repeat a run."""
        if not self.bad_words and not self.no_repeat_ngram_size:
            return []
        text = [*prompt, *written]
        ids = [word[-1] for word in self.bad_words if text[len(text) - len(word) + 1 :] == list(word[:-1])]
        size = self.no_repeat_ngram_size
        if size and len(text) >= size:
            tail = text[len(text) - size + 1 :]
            ids += [text[i + size - 1] for i in range(len(text) - size + 1) if text[i : i + size - 1] == tail]
        return ids
