"""A vocabulary made larger: new pieces behind the old ones, whose ids stay."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers

from paddock.errors import UsageError
from paddock.tokenizer.decoding import SPACE, byte_level
from paddock.tokenizer.files import MAX_PIECE, guarded
from paddock.tokenizer.library import from_tree
from paddock.tokenizer.sidefiles import NAMES, SideFiles, spelling
from paddock.tokenizer.specials import Added
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.training.counting import Progress, common_characters, quiet, short, some_text
from paddock.tokenizer.training.merges import BARRIER, learn
from paddock.tokenizer.trees import added_entry

# Where a vocabulary does not say how text is cut into words: a run of letters and digits with the blanks before it.
_WORDS = re.compile(rf"{SPACE}*\w+|{SPACE}+|[^\w{SPACE}]+")


@dataclass(frozen=True)
class Extended:
    """The larger tokenizer; `spelled[k]`: the old ids that spell the new piece `first + k`."""

    tokenizer: Tokenizer
    first: int
    spelled: Sequence[Sequence[int]]


class Extension:
    """A tokenizer being extended; `finish` gives the result.

    Raises UsageError for a vocabulary that cannot be written as tokenizer.json.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        files = tokenizer.files()
        if "tokenizer.json" not in files:
            raise UsageError(
                f"a {tokenizer.kind} vocabulary from {tokenizer.source} cannot be extended",
                expected="one that Paddock can write as tokenizer.json",
                fix="save it with transformers as tokenizer.json first",
            )
        self.old, self.first = tokenizer, len(tokenizer)
        self.spelled: list[list[int]] = []
        self._tree: dict[str, Any] = json.loads(files["tokenizer.json"])
        side = [json.loads(files[name]) if name in files else {} for name in NAMES]
        # The class that a folder names may build its vocabulary anew from other files, which know nothing of the new.
        self._side = SideFiles({**side[0], "tokenizer_class": "PreTrainedTokenizerFast"}, side[1], side[2])
        model = self._tree["model"]
        if isinstance(model["vocab"], dict):  # the library numbers added tokens behind the pieces, where new ones come
            added = {spelling(entry): entry["id"] for entry in self._tree.get("added_tokens") or ()}
            model["vocab"] = {**model["vocab"], **added}

    def __len__(self) -> int:
        return self.first + len(self.spelled)

    def add(self, texts: Iterable[str], control: bool = False) -> list[str]:
        """Adds whole pieces, found in a text before anything else is; those that are pieces already are given back."""
        known = []
        for text in texts:
            if not text.strip() or len(text) > MAX_PIECE:
                raise UsageError(f"the piece {text[:40]!r}", expected=f"1 to {MAX_PIECE} characters, not all blank")
            if self.old.id_of(text) is not None or any(
                text == spelling(e) for e in self._tree.get("added_tokens") or ()
            ):
                known.append(text)
                continue
            ids = self.old.encode(text, add_special=False)
            self._tree["added_tokens"] = [
                *(self._tree.get("added_tokens") or ()),
                added_entry(Added(len(self), text, control)),
            ]
            self._piece(text, ids)
        return known

    def learn(
        self, texts: Iterable[str], size: int, coverage: float = 0.9995, least: int = 2, progress: Progress = quiet
    ) -> None:
        """Goes on with BPE from where the vocabulary stands, until it has `size` pieces.

        Characters that the vocabulary cannot spell come first, the most frequent of them. Then pairs of pieces are
        joined, which rank behind every old merge: a text is cut as before, and then joined further.
        """
        model = self._tree["model"]
        if model["type"] != "BPE":
            raise UsageError(
                f"a {self.old.kind} vocabulary cannot learn more pieces",
                expected="byte-level BPE or SentencePiece BPE",
                fix="add whole words with --add",
            )
        if size <= len(self):
            raise UsageError(f"{size} pieces, where there are {len(self)} already", fix="a larger --vocab-size")
        bytewise = self.old.kind == "byte-level BPE"
        words = some_text(self._words(texts))
        if not bytewise:
            self._characters(words, coverage, least, size)
        cut = self._library().model
        with guarded("a text cannot be cut into pieces"):
            spelled = [self._known(cut.tokenize(word)) for word in words]
        pieces: list[str] = [""] * len(self)
        for piece, id in model["vocab"].items():
            pieces[id] = piece
        keys = [byte_level(piece) if bytewise else piece.encode("utf-8") for piece in pieces]

        def join(left: int, right: int) -> int:
            piece = pieces[left] + pieces[right]
            if piece not in model["vocab"]:
                pieces.append(piece)
                keys.append(keys[left] + keys[right])
                self._piece(piece, [*self._old(left), *self._old(right)])
            return int(model["vocab"][piece])

        start = len(self)
        texted = isinstance(model["merges"][0], str) if model["merges"] else False
        for merge in learn(spelled, list(words.values()), keys, join, least) if start < size else ():
            pair = [pieces[merge.left], pieces[merge.right]]
            model["merges"].append(" ".join(pair) if texted else pair)
            progress("pieces", len(self) - start, size - start)
            if len(self) >= size:
                break

    def finish(self) -> Extended:
        tokenizer = from_tree(self._tree, self._side, "tokenizer.json")
        return Extended(tokenizer, self.first, self.spelled)

    def _piece(self, text: str, ids: list[int]) -> None:
        vocab = self._tree["model"]["vocab"]
        if isinstance(vocab, dict):
            vocab[text] = len(self)
        self.spelled.append(ids)

    def _old(self, id: int) -> list[int]:
        return self.spelled[id - self.first] if id >= self.first else [id]

    def _library(self) -> Any:
        with guarded("the vocabulary cannot be used"):
            return tokenizers.Tokenizer.from_str(json.dumps({**self._tree, "added_tokens": []}, ensure_ascii=False))

    def _words(self, texts: Iterable[str]) -> Counter[str]:
        """Words as the vocabulary cuts them, without what added tokens take out of a text first."""
        found = [spelling(entry) or "" for entry in self._tree.get("added_tokens") or ()]
        pattern = re.compile("|".join(map(re.escape, sorted(filter(None, found), key=len, reverse=True))) or r"(?!)")
        library = self._library()
        counts: Counter[str] = Counter()
        for text in texts:
            for part in pattern.split(text):
                for piece in short(part):
                    with guarded("a text cannot be cut into words"):
                        if library.normalizer is not None:
                            piece = library.normalizer.normalize_str(piece)
                        if library.pre_tokenizer is not None:
                            words = [word for word, _ in library.pre_tokenizer.pre_tokenize_str(piece)]
                        else:
                            words = _WORDS.findall(piece)
                    counts.update(words)
        return counts

    def _characters(self, words: Counter[str], coverage: float, least: int, size: int) -> None:
        """Makes pieces of the characters that the vocabulary lacks."""
        counts: Counter[str] = Counter()
        for word, count in words.items():
            for character in word:
                counts[character] += count
        vocab, library = self._tree["model"]["vocab"], self._library()
        for character in common_characters(words, coverage):
            if len(self) >= size:
                return
            if character not in vocab and character.isprintable() and counts[character] >= least:
                with guarded("a character cannot be spelt"):
                    self._piece(character, [token.id for token in library.model.tokenize(character)])

    def _known(self, tokens: Iterable[Any]) -> list[int]:
        """Ids, with a barrier for bytes that stand for an unknown character and for what is unknown."""
        unknown = self._tree["model"].get("unk_token")
        fallback = bool(self._tree["model"].get("byte_fallback"))
        return [
            BARRIER if token.value == unknown or (fallback and _is_byte(token.value)) else token.id for token in tokens
        ]


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
