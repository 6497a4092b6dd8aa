"""What vocabulary is wanted, checked before any text is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paddock.errors import UsageError, did_you_mean
from paddock.tokenizer.files import MAX_PIECES
from paddock.tokenizer.pretokenizers import BY_NAME, PreTokenizer
from paddock.tokenizer.specials import ROLES

KINDS = ("bpe", "sentencepiece-bpe", "unigram", "wordpiece")
SENTENCEPIECE = ("sentencepiece-bpe", "unigram")
LONGEST_SPECIAL = 100
_ROLES = {
    "bpe": {"bos": "<|endoftext|>", "eos": "<|endoftext|>"},
    "sentencepiece-bpe": {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
    "unigram": {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
    "wordpiece": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
}


@dataclass(frozen=True)
class Plan:
    """A vocabulary to be learnt.

    kind: one of KINDS. size: pieces in all, special tokens among them.
    special: further control tokens, as "TEXT", or as "ROLE=TEXT" for what has a role (bos, eos, unk, pad, cls, sep,
    mask); "ROLE=" leaves out what the kind has by default.
    add_bos, add_eos: put around every text; None as models of the kind do (bos for sentencepiece-bpe).
    byte_fallback (SentencePiece): a character that is no piece becomes its bytes, never unknown.
    coverage (all but bpe): the share of the text whose characters become pieces.
    words (bpe): how text is cut into words, by llama.cpp's names. lowercase, split_chinese (WordPiece): fold case, each
    ideograph a word. split_digits (SentencePiece). least: how often a pair must occur (bpe, wordpiece).
    """

    kind: str
    size: int
    special: Sequence[str] = ()
    add_bos: bool | None = None
    add_eos: bool | None = None
    byte_fallback: bool = True
    coverage: float = 0.9995
    words: str = "gpt-2"
    lowercase: bool = True
    split_chinese: bool = True
    split_digits: bool = True
    least: int = 2
    behind: Sequence[str] = ()
    roles: Mapping[str, str] = field(init=False)
    controls: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(
                f"there is no kind {self.kind!r}", expected=", ".join(KINDS), fix=did_you_mean(self.kind, KINDS)
            )
        if not 1 <= self.size <= MAX_PIECES:
            raise UsageError(f"a vocabulary of {self.size}", expected=f"1 to {MAX_PIECES} pieces")
        if not 0 < self.coverage <= 1:
            raise UsageError(f"coverage {self.coverage}", expected="more than 0, at most 1")
        if self.least < 1:
            raise UsageError(f"least {self.least}", expected="1 or more")
        if self.words not in BY_NAME:
            raise UsageError(
                f"there is no way to cut words called {self.words!r}",
                expected="gpt-2, llama3, qwen2, gpt-4o, deepseek-v3 ...",
                fix=did_you_mean(self.words, BY_NAME),
            )
        roles, others = dict(_ROLES[self.kind]), []
        for text in self.special:
            role, equals, spelling = text.partition("=")
            if equals and role in ROLES:
                roles[role] = spelling
            else:
                others.append(text)
        roles = {role: text for role, text in roles.items() if text}
        object.__setattr__(self, "roles", roles)
        ordered = [roles[role] for role in ("pad", "unk", "bos", "cls", "eos", "sep", "mask") if role in roles]
        if self.kind in SENTENCEPIECE:  # LLaMA's order, where the unknown piece is 0
            ordered = [roles[role] for role in ("unk", "bos", "eos", "pad", "cls", "sep", "mask") if role in roles]
        object.__setattr__(self, "controls", tuple(dict.fromkeys([*ordered, *others])))
        self._check()

    def _check(self) -> None:
        for text in self.controls:
            if not text.strip() or len(text) > LONGEST_SPECIAL or "\0" in text:
                raise UsageError(
                    f"special token {text!r}", expected=f"1 to {LONGEST_SPECIAL} characters, not all blank"
                )
            if len(text) == 1:
                raise UsageError(
                    f"special token {text!r} is a character that texts hold", fix="spell it so that no text does"
                )
        if "unk" not in self.roles and self.kind != "bpe":
            raise UsageError(f"{self.kind} needs an unknown token", fix='--special "unk=<unk>"')
        for role, wanted in (("bos", self.add_bos), ("eos", self.add_eos)):
            if wanted and role not in self.roles:
                raise UsageError(f"there is no {role} token to add", fix=f'--special "{role}=TEXT"')
        for text in self.behind:
            if text not in self.controls:
                raise UsageError(
                    f"{text!r}, which is to stand behind every text, is no special token",
                    expected="one of " + ", ".join(self.controls),
                    fix=did_you_mean(text, self.controls),
                )

    @property
    def way(self) -> PreTokenizer:
        return BY_NAME[self.words]

    @property
    def around(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The control tokens put before and after every text."""
        if self.kind == "wordpiece" and self.add_bos is None and self.add_eos is None:
            first, last = self.roles.get("cls"), self.roles.get("sep")
            return (first,) if first else (), (*self.behind, *((last,) if last else ()))
        bos = self.kind == "sentencepiece-bpe" and "bos" in self.roles if self.add_bos is None else self.add_bos
        ends = (self.roles["eos"],) if self.add_eos else ()
        return ((self.roles["bos"],) if bos else ()), (*self.behind, *ends)
