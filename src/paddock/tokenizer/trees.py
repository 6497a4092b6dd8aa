"""Trees of a tokenizer.json for vocabularies that come in other files, so that one library runs them all.

A tree is also what saving writes: a GGUF or llama2.c vocabulary becomes a folder that transformers loads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paddock.tokenizer.decoding import SPACE
from paddock.tokenizer.pretokenizers import PreTokenizer
from paddock.tokenizer.specials import Added, Wrapping

Tree = dict[str, Any]
BARE = Wrapping()


def tree(
    model: Tree,
    normalizer: Tree | None,
    pre_tokenizer: Tree | None,
    decoder: Tree,
    added: Iterable[Added] = (),
    wrapping: Wrapping = BARE,
    pieces: Sequence[str | None] = (),
) -> Tree:
    """The whole of a tokenizer.json; `pieces` spells the ids of `wrapping`."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_entry(token) for token in sorted(added, key=lambda token: token.id)],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": template(wrapping, pieces),
        "decoder": decoder,
        "model": model,
    }


def added_entry(token: Added) -> Tree:
    """One entry of `added_tokens`."""
    return {
        "id": token.id,
        "content": token.text,
        "single_word": token.single_word,
        "lstrip": token.lstrip,
        "rstrip": token.rstrip,
        "normalized": False,
        "special": token.control,
    }


def template(wrapping: Wrapping, pieces: Sequence[str | None]) -> Tree | None:
    """The `post_processor` that puts `wrapping` around a text, and between and around two."""
    if not wrapping.before and not wrapping.after:
        return None

    def special(ids: Iterable[int], type_id: int) -> list[Tree]:
        return [{"SpecialToken": {"id": pieces[id], "type_id": type_id}} for id in ids]

    def sequence(name: str, type_id: int) -> Tree:
        return {"Sequence": {"id": name, "type_id": type_id}}

    single = [*special(wrapping.before, 0), sequence("A", 0), *special(wrapping.after, 0)]
    pair = [*single, sequence("B", 1), *special(wrapping.after, 1)]
    used = {pieces[id]: id for id in (*wrapping.before, *wrapping.after)}
    known = {text: {"id": text, "ids": [id], "tokens": [text]} for text, id in used.items()}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known}


def chain(name: str, key: str, items: Sequence[Tree]) -> Tree | None:
    """No item, one item, or a Sequence of them."""
    return {"type": name, key: list(items)} if len(items) > 1 else items[0] if items else None


def byte_level_tree(
    vocab: Mapping[str, int],
    merges: Sequence[Any],
    way: PreTokenizer,
    added: Iterable[Added] = (),
    wrapping: Wrapping = BARE,
    prefix: bool = False,
) -> Tree:
    """Byte-level BPE (GPT-2, Radford et al. 2019).

    `prefix` puts a blank before a text that has none, and goes with GPT-2's own way of cutting words only.
    """
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in way.patterns
    ]
    levels = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": prefix}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": way.whole_words,
        "vocab": dict(vocab),
        "merges": list(merges),
    }
    words = [levels] if prefix else [*splits, levels]
    pieces = _by_id(vocab, added)
    return tree(
        model,
        {"type": "NFC"} if way.nfc else None,
        chain("Sequence", "pretokenizers", words),
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        added,
        wrapping,
        pieces,
    )


def wordpiece_tree(
    vocab: Mapping[str, int],
    added: Iterable[Added],
    wrapping: Wrapping,
    unknown: str = "[UNK]",
    lowercase: bool = True,
    strip_accents: bool | None = None,
    split_chinese: bool = True,
) -> Tree:
    """BERT's WordPiece (Devlin et al. 2018): greedy longest match, words over 100 characters are unknown."""
    model = {
        "type": "WordPiece",
        "unk_token": unknown,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": dict(vocab),
    }
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": split_chinese,
        "strip_accents": strip_accents,
        "lowercase": lowercase,
    }
    decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    return tree(model, normalizer, {"type": "BertPreTokenizer"}, decoder, added, wrapping, _by_id(vocab, added))


def scored_tree(
    vocab: Mapping[str, int],
    scores: Sequence[float],
    joinable: Iterable[str],
    added: Iterable[Added],
    wrapping: Wrapping,
    prefix: bool,
    byte_fallback: bool,
    unknown: str | None,
    restart: bool = True,
) -> Tree:
    """SentencePiece BPE as merges: every way to make a piece of two, the best score first.

    Joining by rank of the pair is joining by score of the result, as all pairs with one result stand together.
    `prefix`: a blank is put before the text and, if `restart`, before each stretch after an added token.
    """
    known = set(joinable)
    merges = []
    for piece in known:
        splits = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        rank = (-scores[vocab[piece]], vocab[piece])
        merges += [(*rank, left, right) for left, right in splits if left in known and right in known]
    merges.sort()
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": byte_fallback,
        "ignore_merges": False,
        "vocab": dict(vocab),
        "merges": [[left, right] for _, _, left, right in merges],
    }
    escape: list[Tree] = [{"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]
    steps: list[Tree] = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
    steps += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    words: Tree | None = None
    if prefix and restart:
        escape.insert(0, {"type": "Prepend", "prepend": SPACE})
    elif prefix:
        escape = []
        words = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}
    if prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    decoder: Tree = {"type": "Sequence", "decoders": steps}
    normalizer = chain("Sequence", "normalizers", escape)
    return tree(model, normalizer, words, decoder, added, wrapping, _by_id(vocab, added))


def _by_id(vocab: Mapping[str, int], added: Iterable[Added]) -> list[str | None]:
    spelled = {id: piece for piece, id in vocab.items()} | {token.id: token.text for token in added}
    return [spelled.get(id) for id in range(max(spelled, default=-1) + 1)]


def dump(value: Mapping[str, Any]) -> bytes:
    """A tree as the bytes of tokenizer.json."""
    return json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8")
