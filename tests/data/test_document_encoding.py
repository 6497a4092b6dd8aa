"""Documents to shards: what is put around them, and who is kept back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddock.data.document import Document
from paddock.data.encoding import Plan, kept_back, pack_files, vocabulary_of
from paddock.data.mixing import Mixture
from paddock.data.mixture_file import check_alike, mixture, read_mixture, write_mixture
from paddock.data.reading import Options, Report
from paddock.data.shard_writing import write_shards
from paddock.data.shards import TOKENIZER, check_tokenizer, open_tokens, read_index
from paddock.data.tokens import Tokens, Vocabulary
from paddock.errors import DataError, UsageError
from paddock.tokenizer import Tokenizer, load

LINES = Options(split="lines")


@pytest.fixture(scope="module")
def llama(shared_data: Path) -> Tokenizer:
    return load(shared_data / "weights/llama2c/tok512.bin")


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    path = tmp_path / "stories.txt"
    path.write_text("".join(f"Story {number % 80} of a dog who had {number % 80} bones.\n" for number in range(400)))
    return path


def packed(stories: Path, name: str, tokenizer: Tokenizer, share: float = 0.0, replace: bool = False) -> Path:
    goal = stories.parent / name
    pack_files([str(stories)], goal, Plan(tokenizer, vocabulary_of(tokenizer), share, 2000), LINES, replace=replace)
    return goal


def test_documents_come_back_as_text(stories: Path, llama: Tokenizer) -> None:
    folder = packed(stories, "shards", llama)
    held, own = open_tokens(folder, verify=True), load(folder / TOKENIZER)
    check_tokenizer(held, own)
    assert held.vocabulary == Vocabulary(512, llama.fingerprint(), end=2, begin=1)
    assert len(held) == 400 and len(read_index(folder).files) > 1
    for number in (0, 17, 399):
        ids = held.document(number).tolist()
        assert ids[0] == 1 and ids[-1] == 2 and not {1, 2} & set(ids[1:-1])
        assert own.decode(ids).strip() == f"Story {number % 80} of a dog who had {number % 80} bones."


def test_a_rerun_gives_equal_bytes(stories: Path, llama: Tokenizer) -> None:
    one, other = packed(stories, "one", llama, 0.2), packed(stories, "other", llama, 0.2)
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_copies_are_on_the_same_side(stories: Path, llama: Tokenizer) -> None:
    folder = packed(stories, "shards", llama, 0.25)
    train, kept = (open_tokens(folder / side) for side in ("train", "validation"))
    sides = [{tuple(side.document(number).tolist()) for number in range(len(side))} for side in (train, kept)]
    assert not sides[0] & sides[1]
    assert len(train) + len(kept) == 400 and len(kept) == 5 * len(sides[1])
    assert 8 <= len(sides[1]) <= 32  # 20 of 80 on average
    with pytest.raises(DataError, match=r"name .*train"):
        open_tokens(folder)


def test_who_is_kept_back_depends_on_words_alone() -> None:
    texts = [f"document number {number}" for number in range(4000)]
    kept = {text for text in texts if kept_back(text, 0.05)}
    assert 140 < len(kept) < 260
    assert kept < {text for text in texts if kept_back(text, 0.1)}
    assert all(kept_back(f"  {text}\n".replace(" ", "  \t"), 0.05) == (text in kept) for text in texts[:500])
    assert kept_back("document number 7", 0.0) is False and kept_back("x\ud800", 0.5) in (True, False)


def test_what_is_put_around_a_document(llama: Tokenizer, shared_data: Path) -> None:
    words = [vocabulary_of(llama, *how) for how in ((True, None), (False, False), (True, False), (False, True))]
    assert [(each.begin, each.end) for each in words] == [(1, 2), (None, None), (None, 2), (1, None)]
    document = Document("a dog", "x")
    (plain,) = Plan(llama, words[1]).encode([document])
    assert plain == llama.encode("a dog", add_special=False)
    assert Plan(llama, words[0]).encode([document, document]) == [[1, *plain, 2]] * 2
    bert = load(shared_data / "tokenizers/bert/vocab.txt")
    with pytest.raises(UsageError, match="no id that begins"):
        vocabulary_of(bert, begin=True)


def test_a_spelling_of_a_control_token_stays_text(llama: Tokenizer) -> None:
    (ids,) = Plan(llama, vocabulary_of(llama)).encode([Document("an </s> and <s> in a text", "x")])
    assert ids.count(2) == ids.count(1) == 1


def test_sources_are_the_inputs(stories: Path, llama: Tokenizer) -> None:
    more = stories.with_name("more.jsonl")
    more.write_text('{"text": "A cat."}\n{"text": ""}\n{"text": "A cow."}\n')
    report, heard = Report(), []
    goal, plan = stories.with_name("shards"), Plan(llama, vocabulary_of(llama))
    pack_files([str(stories), str(more)], goal, plan, LINES, report=report, told=lambda d, t: heard.append(d))
    assert {name: each.documents for name, each in read_index(goal).sources.items()} == {
        str(stories): 400,
        str(more): 2,
    }
    assert sum(report.dropped.values()) == 1 and heard == sorted(heard) and heard


@pytest.mark.parametrize(
    ("text", "share", "says"),
    [
        ("", 0.0, "no documents"), ("\n\n", 0.0, "no documents"), ("one\n", 0.5, "of 1 documents none"),
        ("fine\n\ud800\n", 0.0, "UTF-8"),
    ],
)  # fmt: skip
def test_texts_that_make_no_shards(tmp_path: Path, llama: Tokenizer, text: str, share: float, says: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=says):
        packed(path, "shards", llama, share)
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_a_text_that_cannot_be_spelt_names_its_place(llama: Tokenizer) -> None:
    documents = [Document("fine", "file.txt:6"), Document("\ud800", "file.txt:7")]
    with pytest.raises(DataError, match=r"file\.txt:7: the text has a lone surrogate"):
        Plan(llama, vocabulary_of(llama)).encode(documents)


def test_many_at_once_are_as_one_by_one(shared_data: Path) -> None:
    """A byte-level vocabulary in the library, where control tokens in the texts must stay text there too."""
    tokenizer = load(shared_data / "tokenizers/bert/vocab.txt")
    texts = ["a dog", "", "[SEP] and <|endoftext|>", "naïve 红楼梦 " * 700, " \n\t"]
    assert tokenizer.encode_many(texts) == [tokenizer.encode(text, add_special=False) for text in texts]


# Mixtures at rest.


@pytest.fixture
def two(tmp_path: Path) -> Path:
    for name, id in (("a", 1), ("b", 2)):
        write_shards([[id] * 40] * 30, tmp_path / name, Vocabulary(9))
    write_mixture(tmp_path / "mix.json", [(str(tmp_path / "a"), 3.0), (str(tmp_path / "b"), 1.0)])
    return tmp_path


def test_a_mixture_is_read_back(two: Path) -> None:
    held = read_mixture(two / "mix.json")
    assert [weight for _, weight in held] == [3, 1]
    table = mixture(held, 16, "stream")
    assert isinstance(table, Mixture) and len(table) == 2 * 74
    assert [use.share for use in table.use(1000)] == [0.75, 0.25]
    two.rename(two.with_name("elsewhere"))
    assert len(read_mixture(two.with_name("elsewhere") / "mix.json")) == 2


@pytest.mark.parametrize(
    "record",
    [
        {"sources": []}, {"sources": [{"path": "a"}]}, {"sources": [{"path": "a", "weight": 0}]}, {"version": 2},
        {"sources": [{"path": "a", "weight": 1, "wieght": 2}]}, {"format": "x"}, {"more": 1}, {"sources": None},
        {"sources": [{"path": "nothing", "weight": 1}]},
    ],
)  # fmt: skip
def test_a_mixture_that_is_none_is_refused(two: Path, record: dict[str, object]) -> None:
    (two / "bad.json").write_text(json.dumps({"sources": [{"path": "a", "weight": 1}], **record}))
    with pytest.raises(DataError, match=r"bad\.json|nothing is missing"):
        read_mixture(two / "bad.json")


def test_other_places_and_packings_are_refused(two: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        read_mixture(two / "none.json")
    with pytest.raises(UsageError, match="no packing 'fits'"):
        mixture(read_mixture(two / "mix.json"), 16, "fits")


def test_ids_of_two_vocabularies_are_not_mixed(two: Path) -> None:
    write_shards([[1]], two / "c", Vocabulary(10))
    with pytest.raises(DataError, match="another tokenizer than"):
        check_alike([open_tokens(two / "a"), Tokens.of([[1]]), open_tokens(two / "c")])
