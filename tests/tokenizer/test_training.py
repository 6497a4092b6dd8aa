"""Vocabularies learnt: exact, repeatable, and read alike by Paddock, transformers and the library they come from."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer

from paddock.errors import DataError, PaddockError, UsageError
from paddock.tokenizer import load
from paddock.tokenizer.pretokenizers import GPT2
from paddock.tokenizer.training.counting import count_words, short
from paddock.tokenizer.training.merges import BARRIER, learn
from paddock.tokenizer.training.plan import KINDS, Plan
from paddock.tokenizer.training.sentences import _train
from paddock.tokenizer.training.training import train

ENGLISH = (
    "The goose swam over the lake, and the ducks swam after it. It's 12,345 feathers!\n\nDo ducks swim?\n"
    "They do; they'd swim all day. The lake is cold, the goose is old, and nobody told the ducks.\n"
)
CHINESE = "鹅在湖上游，鸭子跟着它游。湖水很冷，鹅很老，没有人告诉鸭子。\n鸭子游泳吗？它们整天都在游泳。\n"
TEXTS = [ENGLISH * 3, CHINESE * 3, "naïve café\tin Zürich: 3 €"]
HARD = (
    *(
        "",
        " ",
        "  two  blanks ",
        "a\n\nb\t\tc",
        "\r\nline",
        "🙂👩‍👩‍👧 unseen ☃",
        "鹅鸟𠮷",
        "<s> </s> <unk> [CLS] <|endoftext|>",
    ),
    *("e\u0301 ﬁ ½", "▁under▁", "it's 'tis we'll", "1234567", "\x00nul\x7f", "x" * 500, ENGLISH, CHINESE, "\ufeffmark"),
)


def small(kind: str, **options: object) -> Plan:
    sizes = {"bpe": 340, "sentencepiece-bpe": 380, "unigram": 345, "wordpiece": 200}
    return Plan(kind, **{"size": sizes[kind], **options})  # type: ignore[arg-type]


def test_the_reference_merges(shared_data: Path) -> None:
    folder = shared_data / "tokenizers" / "bpe-train"
    made = train([(folder / "corpus.en").read_text()], Plan("bpe", 500))
    tree = json.loads(made.files()["tokenizer.json"])["model"]
    wanted = [line.split(" ") for line in (folder / "reference-merges.txt").read_text().splitlines()]
    assert len(wanted) == 243 and tree["merges"] == wanted
    assert tree["vocab"].keys() == json.loads((folder / "reference-vocab.json").read_text()).keys()
    assert made.id_of("<|endoftext|>") == 0 and len(made) == 500


def naive(words: dict[str, int], count: int) -> list[tuple[bytes, bytes]]:
    """BPE as it is defined: count all pairs anew for every merge."""
    spelled = {word: [bytes([byte]) for byte in word.encode()] for word in words}
    merges = []
    for _ in range(count):
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, pieces in spelled.items():
            for pair in pairwise(pieces):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word, pieces in spelled.items():
            new, at = [], 0
            while at < len(pieces):
                joined = tuple(pieces[at : at + 2]) == best
                new.append(b"".join(best) if joined else pieces[at])
                at += 1 + joined
            spelled[word] = new
    return merges


@pytest.mark.parametrize("seed", range(12))
def test_the_learner_equals_the_definition(seed: int) -> None:
    choose = random.Random(seed)
    letters = ("ab", "aab\u00e4", "abcdefgh ")[seed % 3]
    words = {"".join(choose.choices(letters, k=choose.randrange(1, 14))): choose.randrange(1, 6) for _ in range(40)}
    keys = [bytes([byte]) for byte in range(256)]

    def join(left: int, right: int) -> int:
        keys.append(keys[left] + keys[right])
        return len(keys) - 1

    found = []
    for merge in learn([list(word.encode()) for word in words], list(words.values()), keys, join):
        found.append((keys[merge.left], keys[merge.right]))
        if len(found) == 60:
            break
    assert found == naive(words, 60)


@pytest.mark.parametrize("least", [1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_a_piece_that_is_made_in_two_ways_is_one_piece(seed: int, least: int) -> None:
    """As the definition on strings has it: "ab" + "c" and "a" + "bc" are the same."""
    choose = random.Random(100 + seed)
    words = {"".join(choose.choices("abc", k=choose.randrange(1, 25))): choose.randrange(1, 4) for _ in range(12)}
    keys = [bytes([byte]) for byte in range(256)]
    ids = {key: id for id, key in enumerate(keys)}

    def join(left: int, right: int) -> int:
        made = keys[left] + keys[right]
        if made not in ids:
            ids[made] = len(keys)
            keys.append(made)
        return ids[made]

    spelled = [list(word.encode()) for word in words]
    found = list(learn(spelled, list(words.values()), keys, join, least))
    wanted = naive(words, len(found))
    assert [(keys[merge.left], keys[merge.right]) for merge in found] == wanted
    if least == 1:
        assert naive(words, len(found) + 1) == wanted  # nothing is left
    else:
        assert [merge.times for merge in found] == sorted((merge.times for merge in found), reverse=True)
        assert found[-1].times >= least


def test_nothing_is_joined_across_a_barrier() -> None:
    keys = [b"a", b"b"]
    assert list(learn([[0, BARRIER, 1]] * 3, [5, 5, 5], keys, lambda left, right: 0)) == []
    (merge,) = learn([[0, 1, BARRIER, 0, 1]], [2], keys, lambda left, right: keys.append(b"ab") or 2)
    assert merge == (0, 1, 2, 4)


def test_long_texts_are_cut_where_no_word_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one\n\n two  \nthree.\nfour\n\tfive\n\n\nsix's\nseven 8\n9" * 20
    whole = count_words([text], GPT2)
    monkeypatch.setattr("paddock.tokenizer.training.counting.AT_ONCE", 30)
    assert len(list(short(text))) > 10 and "".join(short(text)) == text
    assert count_words([text], GPT2) == whole


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        train(TEXTS, small(kind, special=("pad=<pad>", "[gMASK]", "<sop>"))).save(folders[kind])
    return folders


@pytest.mark.parametrize("kind", KINDS)
def test_paddock_and_transformers_read_it_alike(trained: dict[str, Path], kind: str) -> None:
    ours, theirs = load(trained[kind]), AutoTokenizer.from_pretrained(trained[kind])
    assert len(ours) == len(theirs)
    for text in (*HARD, *TEXTS):
        if (
            kind == "unigram" and "<s>" in text
        ):  # there the library takes a control token for the best spelling of itself
            continue
        assert ours.encode(text) == theirs(text, split_special_tokens=True)["input_ids"], text
        assert ours.encode(text, "parse", add_special=False) == theirs(text, add_special_tokens=False)["input_ids"]
    for role in ("bos", "eos", "pad", "unk", "cls", "sep", "mask"):
        assert ours.specials.get(role) == getattr(theirs, f"{role}_token_id"), role
    assert theirs.convert_tokens_to_ids("[gMASK]") == ours.specials["[gMASK]"]


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe", "unigram"])
def test_text_comes_back(trained: dict[str, Path], kind: str) -> None:
    tokenizer = load(trained[kind])
    for text in HARD:
        if "▁" not in text:  # SentencePiece's sign for a blank
            assert tokenizer.decode(tokenizer.encode(text), skip_special=True) == text


@pytest.mark.parametrize("kind", KINDS)
def test_equal_texts_make_equal_files(trained: dict[str, Path], kind: str) -> None:
    plan = small(kind, special=("pad=<pad>", "[gMASK]", "<sop>"))
    again = train(iter(TEXTS), plan)
    assert again.files() == load(trained[kind]).files()
    if kind in ("bpe", "wordpiece"):
        assert train(TEXTS[::-1], plan).files() == again.files(), "the order of the texts does not matter"


@pytest.mark.parametrize("kind", ["sentencepiece-bpe", "unigram"])
@pytest.mark.parametrize("fallback", [True, False])
def test_ids_are_those_of_the_library(shared_data: Path, kind: str, fallback: bool) -> None:
    texts = [(shared_data / "text" / name).read_text()[:25_000] for name in ("botchan.txt", "zh_xiyouji.txt")]
    plan = Plan(kind, 2200, byte_fallback=fallback, coverage=0.99)
    ours, library = train(texts, plan), sentencepiece.SentencePieceProcessor()
    library.LoadFromSerializedProto(_train(texts, plan))
    assert [ours.piece(id) for id in range(len(ours))] == [library.IdToPiece(id) for id in range(len(ours))]
    for text in texts:
        for line in text.split("\n")[:150]:
            assert ours.encode(line, add_special=False) == library.EncodeAsIds(line), line


def test_roles_and_what_is_put_around(tmp_path: Path) -> None:
    plain = train(TEXTS, small("bpe"))
    assert (plain.before, plain.after, plain.specials) == ((), (), {"bos": 0, "eos": 0})
    framed = train(TEXTS, small("bpe", special=("bos=<s>", "eos=</s>", "pad=[PAD]"), add_bos=True, add_eos=True))
    assert [framed.piece(id) for id in framed.encode("a")] == ["<s>", "a", "</s>"] and framed.pad_id == 0
    none = train(TEXTS, small("bpe", special=("bos=", "eos=")))
    assert none.specials == {} and none.piece(0) == "!"
    llama = train(TEXTS, small("sentencepiece-bpe"))
    assert [llama.piece(id) for id in range(4)] == ["<unk>", "<s>", "</s>", "<0x00>"] and llama.before == (1,)
    assert train(TEXTS, small("sentencepiece-bpe", add_bos=False)).before == ()
    bert = train(TEXTS, small("wordpiece"))
    assert [bert.piece(id) for id in bert.encode("Goose")][::2] == ["[CLS]", "[SEP]"]
    for kind in ("bpe", "unigram"):
        glm = train(TEXTS, small(kind, special=("[gMASK]", "bos=<sop>", "eos=<eop>"), behind=("[gMASK]", "<sop>")))
        glm.save(tmp_path / kind)
        again = load(tmp_path / kind)
        assert [again.piece(id) for id in again.encode("a")][-2:] == ["[gMASK]", "<sop>"]
    with pytest.raises(UsageError, match="'<sep>', which is to stand behind every text"):
        small("bpe", behind=("<sep>",))
    assert train(TEXTS, small("wordpiece", lowercase=False)).encode("Goose") != bert.encode("Goose")


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_in_the_texts_teach_nothing(kind: str) -> None:
    spelled = ["<|control|>".join([text] * 2) for text in TEXTS]
    made = train(spelled, small(kind, special=("<|control|>",)))
    assert not any("control" in (made.piece(id)) for id in range(len(made)) if not made.is_control(id))
    assert made.encode("<|control|>", "parse", add_special=False)[-1] == made.id_of("<|control|>")
    assert made.id_of("<|control|>") not in made.encode("<|control|>")


def test_other_ways_to_cut_words() -> None:
    digits = [f"{number} " for number in range(1000, 1100)]
    whole, apart = (train(digits, Plan("bpe", 300, words=way)) for way in ("gpt-2", "qwen2"))
    assert len(whole.encode("1050")) < len(apart.encode("1050")) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "bppe", "size": 300}, "did you mean 'bpe'"),
        ({"kind": "bpe", "size": 0}, "vocabulary of 0"),
        ({"kind": "bpe", "size": 10**9}, "vocabulary of 1000000000"),
        ({"kind": "bpe", "size": 300, "words": "gpt-3"}, "no way to cut words"),
        ({"kind": "bpe", "size": 300, "coverage": 1.5}, "coverage"),
        ({"kind": "bpe", "size": 300, "least": 0}, "least"),
        ({"kind": "bpe", "size": 300, "special": ("x",)}, "a character that texts hold"),
        ({"kind": "bpe", "size": 300, "special": ("  ",)}, "not all blank"),
        ({"kind": "bpe", "size": 300, "special": ("y" * 101,)}, "1 to 100 characters"),
        ({"kind": "unigram", "size": 300, "special": ("unk=",)}, "needs an unknown token"),
        ({"kind": "bpe", "size": 300, "special": ("bos=",), "add_bos": True}, "no bos token"),
    ],
)
def test_plans_that_cannot_be_meant(options: dict, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        Plan(**options)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        ("bpe", 200, "--vocab-size 257 or more"),
        ("wordpiece", 20, "a lower --coverage"),
        ("unigram", 100, "smaller than required_chars"),
        ("unigram", 50_000, "too high"),
        ("sentencepiece-bpe", 100, "smaller than required_chars"),
    ],
)
def test_sizes_that_do_not_fit(kind: str, size: int, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        train(TEXTS, Plan(kind, size))
    assert said in str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_and_strange_text(kind: str) -> None:
    for texts in ([], ["", ""]):
        with pytest.raises(DataError, match="no text"):
            train(texts, small(kind))
    strange = ["\0" * 50, "\x00a\x00", "x" * (5000 if kind == "unigram" else 100_000), "\u2028\r\n", *TEXTS]
    try:
        assert train(strange, small(kind)).encode("the goose")
    except PaddockError as error:  # the alphabet of the strange text may not fit
        assert "pieces" in str(error)


def test_a_text_with_few_pairs_gives_a_small_vocabulary() -> None:
    assert len(train(["ab ab"], Plan("bpe", 1000))) == 258
    assert len(train(["ab ab"], Plan("bpe", 1000, least=1))) == 259
