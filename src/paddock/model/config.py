"""Reading a config.json so that no key is dropped unseen: what a family does not read, it must refuse or excuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from paddock.errors import CheckpointError, UnsupportedError, nearest

T = TypeVar("T")
REQUIRED: Any = object()

# Keys that change nothing about what the weights compute: book-keeping, training-only rates, generation defaults (which
# the engine reads), and names of code that is never run.
# fmt: off
HARMLESS = frozenset(
    {
        "_name_or_path", "_commit_hash", "architectures", "auto_map", "model_type", "transformers_version",
        "torch_dtype", "dtype", "use_cache", "use_return_dict", "return_dict", "output_attentions",
        "output_hidden_states", "torchscript", "is_decoder", "is_encoder_decoder", "gradient_checkpointing",
        "chunk_size_feed_forward", "cross_attention_hidden_size", "add_cross_attention", "tie_encoder_decoder",
        "problem_type", "id2label", "label2id", "num_labels", "_num_labels", "finetuning_task",
        "task_specific_params", "name_or_path", "tokenizer_name", "output_past",
        "unsloth_version", "attention_dropout", "hidden_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop",
        "dropout", "dropout_rate", "classifier_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob",
        "summary_first_dropout", "activation_dropout", "emb_pdrop", "initializer_range", "initializer_factor",
        "init_std", "init_device", "embedding_dropout", "bos_token_id", "eos_token_id", "pad_token_id",
        "sep_token_id", "unk_token_id", "cls_token_id", "mask_token_id", "decoder_start_token_id",
        "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "begin_suppress_tokens", "suppress_tokens",
        "num_beams", "max_length", "min_length", "do_sample", "early_stopping", "length_penalty",
        "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "temperature", "top_k", "top_p", "typical_p",
        "repetition_penalty", "num_return_sequences", "num_beam_groups", "diversity_penalty", "output_scores",
        "return_dict_in_generate", "remove_invalid_values", "exponential_decay_length_penalty", "tokenizer_class",
        "prefix", "pretraining_tp", "model_max_length", "use_bfloat16", "tf_legacy_loss",
        "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
    }
)
# fmt: on


class Config:
    """A config dictionary that remembers which keys were asked for.

    `tensors` are the names stored beside it, for the few questions only they can answer (is there a pooler?); None
    where only the configuration is known. `finish()` refuses the keys nobody asked for. `where`, `owner` and `way_out`
    are words of its refusals.
    """

    where, owner = "config.json", "this family"
    way_out = (
        "if they change nothing about the computation, name them in ignore_config=[...] "
        "(--ignore-config KEY on the command line)"
    )

    def __init__(self, values: Mapping[str, Any], tensors: Collection[str] | None = None) -> None:
        self.values = values
        self.tensors = tensors
        self._read = set(HARMLESS)

    def get(self, *names: str, default: Any = REQUIRED) -> Any:
        """The value under the first of `names` that is there (published spellings differ); null counts as absent."""
        self._read.update(names)
        for name in names:
            if self.values.get(name) is not None:
                return self.values[name]
        if default is REQUIRED:
            raise CheckpointError(f"{self.where} lacks {names[0]!r}", fix="copy the model's own config.json again")
        return default

    def integer(self, *names: str, default: Any = REQUIRED, low: int = 1, high: int = 2**24) -> int:
        return self._checked(names, default, _is_integer, f"a whole number from {low} to {high}", low, high)

    def number(self, *names: str, default: Any = REQUIRED, low: float = 0.0, high: float = 1e12) -> Any:
        value: Any = self._checked(names, default, _is_number, f"a number from {low:g} to {high:g}", low, high)
        return value if value is None else float(value)

    def flag(self, *names: str, default: Any = REQUIRED) -> bool:
        return self._checked(names, default, lambda v: isinstance(v, bool), "true or false")

    def choice(self, *names: str, options: Mapping[str, T], default: Any = REQUIRED) -> T:
        """A word looked up among `options`; any other is refused."""
        value = self.get(*names, default=default)
        if not isinstance(value, str) or value not in options:
            expected = " or ".join(sorted(options))
            raise UnsupportedError(f"{self.where}: {names[0]} is {_short(value)}", expected=expected)
        return options[value]

    def table(self, *names: str) -> Config:
        """A dictionary inside this one, to be read and finished like it; empty if absent."""
        value = self.get(*names, default={})
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.where}: {names[0]} is {_short(value)}", expected="a dictionary")
        return Config(value)

    def insist(self, name: str, value: Any, why: str) -> None:
        """Refuses any other value of a key that Paddock knows but does not act on."""
        found = self.get(name, default=value)
        if found != value:
            raise UnsupportedError(f"{self.where}: {name} is {_short(found)}: {why}", expected=repr(value))

    def ignore(self, *names: str) -> None:
        """Excuses keys that say nothing about the computation of this family."""
        self._read.update(names)

    def stores(self, *names: str) -> bool:
        """Whether a tensor of one of these names lies beside this configuration."""
        return self.tensors is not None and any(name in self.tensors for name in names)

    def finish(self) -> None:
        """Refuses the keys that nobody asked for. Raises UnsupportedError."""
        self.insist("pruned_heads", {}, "heads were cut out of its layers")
        unread = [key for key in self.values if key not in self._read]
        if unread:
            key = unread[0]
            near = nearest(key, self._read - HARMLESS)
            raise UnsupportedError(
                f"{self.where} has keys {self.owner} does not know: {', '.join(map(_short, unread[:8]))} "
                f"({key[:60]} is {_short(self.values[key])})" + (f"; did you mean {near!r}?" if near else ""),
                fix=self.way_out,
            )

    def _checked(
        self,
        names: tuple[str, ...],
        default: Any,
        is_right: Callable[[Any], bool],
        expected: str,
        low: float | None = None,
        high: float | None = None,
    ) -> Any:
        value = self.get(*names, default=default)
        if value is None:  # a default that stands for "not given"; null in the file counts as absent
            return None
        inside = is_right(value) and (low is None or high is None or low <= value <= high)
        if not inside:
            raise CheckpointError(f"{self.where}: {names[0]} is {_short(value)}", expected=expected)
        return value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
