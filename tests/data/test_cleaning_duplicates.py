"""Exact duplicates, lines, MinHash and SimHash: planted copies go, what is different stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cleaning_texts import apply, cleaned, edited, text
from cleaning_texts import words as made

from paddock.data.cleaning.clusters import band_keys, first_of_cluster
from paddock.data.cleaning.exact import Exact, Lines
from paddock.data.cleaning.minhash import MinHash, similarity
from paddock.data.cleaning.simhash import SimHash, distances, simhash
from paddock.data.cleaning.words import bare, shingles, word_hashes, words


def test_words_are_folded_and_unspaced_scripts_fall_into_characters() -> None:
    assert words("The Cat’s  “ＨＡＴ”—fine_print 42!") == ["the", "cat", "s", "hat", "fine", "print", "42"]
    assert words("紅樓夢 is 好") == ["紅", "樓", "夢", "is", "好"]
    assert words("It's 3.5-fold") == ["it", "s", "3", "5", "fold"]
    assert words(" \n—!?") == []


def test_ascii_and_unicode_paths_agree() -> None:
    for given in ("The cat's hat_2, x-ray.", "A\tb\nC", "1,5 (six) [7]"):
        assert words(given) == words(given + " é")[:-1]
        assert bare(given) == bare(given + "é")[:-1]


def test_word_hashes_are_these_everywhere() -> None:
    # BLAKE2b, 8 bytes, little endian: the number must not depend on the process, the platform or the release.
    assert int(word_hashes(["cat"])[0]) == 0x2F989D7B2CDD2733
    assert int(shingles(word_hashes(["the", "cat", "sat"]), 3)[0]) == 0x35BADE1CA07D619A
    assert MinHash(4).signature("the cat sat on the mat").tolist() == [876930249, 2585162946, 2013104494, 383853466]
    assert shingles(word_hashes(["a", "b"]), 2)[0] != shingles(word_hashes(["b", "a"]), 2)[0]
    assert len(shingles(word_hashes(["a", "b"]), 5)) == 1
    assert len(shingles(word_hashes([]), 5)) == 0


def jaccard(one: str, other: str, size: int) -> float:
    sets = [
        {tuple(parts[i : i + size]) for i in range(len(parts) - size + 1)} for parts in (one.split(), other.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("permutations", [128, 256])
def test_the_estimate_is_within_a_tenth_of_the_true_similarity(permutations: int) -> None:
    minhash = MinHash(permutations)
    errors = []
    for changes in (0, 1, 3, 6, 10, 16, 25, 40, 70, 199):
        for seed in range(4):
            one = text(300, seed)
            other = edited(one, list(range(seed, seed + 1 + changes)))
            other = " ".join([*other.split()[: 300 - changes // 2], *made(changes, seed + 100)])
            estimate = float(similarity(minhash.signature(one), minhash.signature(other)))
            errors.append(estimate - jaccard(one, other, 5))
    assert max(map(abs, errors)) < 0.1
    # No bias, and the spread that theory gives: sqrt(J (1 - J) / permutations), at most 0.5 / sqrt(permutations).
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.55 / np.sqrt(permutations)


def test_long_texts_are_taken_in_blocks_and_give_the_same_signature() -> None:
    minhash = MinHash(32)
    given = made(9000, 1)
    parts = [minhash.signature(" ".join(given[start : start + 3000 + 4])) for start in (0, 3000, 6000)]
    assert np.array_equal(minhash.signature(" ".join(given)), np.min(parts, axis=0))


def test_a_planted_near_duplicate_goes_and_a_distinct_text_stays(tmp_path: Path) -> None:
    original = text(200, 1)
    near = edited(original, [20, 100, 170])  # 3 words of 200
    other = text(200, 2)
    half = " ".join([*original.split()[:100], *made(100, 3)])  # shares half of its words: another text
    kept, manifest = cleaned([other, original, near, half], tmp_path / "out", "minhash")
    assert kept == [other, original, half]
    assert manifest["stages"][1]["reasons"] == {"near duplicate": 1}


def test_near_duplicates_are_found_whatever_three_words_were_edited(tmp_path: Path) -> None:
    texts, wanted = [], []
    for seed in range(150):
        original = text(200, seed)
        chance = np.random.default_rng(seed)
        texts += [original, edited(original, sorted(chance.choice(200, 3, replace=False).tolist()))]
        wanted.append(original)
    assert cleaned(texts, tmp_path / "out", "minhash")[0] == wanted


def test_the_first_of_a_chain_stays() -> None:
    minhash = MinHash(128)
    chain = [text(200, 5)]
    for step in range(6):
        chain.append(edited(chain[-1], [step * 30, step * 30 + 10]))
    order = [text(200, 6), *reversed(chain), text(200, 7)]
    signatures = np.array([minhash.signature(each) for each in order])
    assert float(similarity(signatures[1], signatures[7])) < 0.7  # the ends alone are no pair
    first = first_of_cluster(signatures, band_keys(signatures, 20, 6), 0.7)
    assert first.tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 8]


def test_clusters_agree_with_comparing_everything() -> None:
    minhash = MinHash(64)
    texts = [edited(text(120, n % 17), list(range(n // 17))) for n in range(120)]
    signatures = np.array([minhash.signature(each) for each in texts])
    first = first_of_cluster(signatures, band_keys(signatures, 32, 2), 0.7)
    expected = list(range(120))
    for other in range(120):  # the slow way: a cluster takes its least number
        for one in range(other):
            if similarity(signatures[one], signatures[other]) >= 0.7:
                a, b = sorted((expected[one], expected[other]))
                expected = [a if each == b else each for each in expected]
    assert first.tolist() == expected


def test_a_text_is_compared_with_its_neighbour_in_a_band_too() -> None:
    first = np.arange(20, dtype=np.uint32)
    second, third = first.copy(), first.copy()
    second[2:6] += 100  # 16 of 20 equal the first one's
    third[2:10] += 100  # and 16 the second one's, but 12 the first one's
    signatures = np.array([first, second, third])
    keys = band_keys(signatures, 1, 2)
    assert len(set(keys[0].tolist())) == 1
    assert first_of_cluster(signatures, keys, 0.8).tolist() == [0, 0, 0]
    assert first_of_cluster(signatures[[0, 2]], keys[:, [0, 2]], 0.8).tolist() == [0, 1]


def test_texts_without_words_are_nobodys_duplicates(tmp_path: Path) -> None:
    given = ["...", "!!!", "—", "one", "one!"]
    assert cleaned(given, tmp_path / "out", "minhash")[0] == ["...", "!!!", "—", "one"]


def test_redpajamas_settings_of_minhash_can_be_asked_for(tmp_path: Path) -> None:
    original = text(400, 1)
    settings = {"stage": "minhash", "shingle": 13, "bands": 9, "rows": 13, "threshold": 0.8}
    kept, _ = cleaned([original, edited(original, [399]), edited(original, [200])], tmp_path / "out", settings)
    assert kept[0] == original
    assert edited(original, [399]) not in kept


def test_exact_duplicates_are_told_by_normalised_text() -> None:
    stage = Exact()
    assert apply(stage, "naïve  café\nat noon ", 0).document is not None
    again = apply(stage, "nai\u0308ve cafe\u0301 at noon", 7)
    assert (again.reason, again.like) == ("exact duplicate", 0)
    assert apply(stage, "Naïve café at noon", 8).document is not None
    restored = Exact()
    restored.restore(stage.learned())
    assert apply(restored, "naïve café at noon", 9).like == 0
    assert stage.learned() == b""


def test_lines_that_came_before_are_taken_out() -> None:
    stage = Lines("line", 10, 5)
    menu = "Home | About us | Contact 2023"
    first = apply(stage, f"{menu}\nA first story of its own.\n}}\n}}")
    assert first.document is not None
    assert first.document.text.count("}") == 2  # short lines are no copies
    second = apply(stage, f"{menu.upper().replace('2023', '1999')}\nQuite another story.", 1)
    assert second.document is not None
    assert second.document.text == "Quite another story."
    assert second.changes == {"lines": 1}
    assert apply(stage, menu, 2).reason == "all lines came before"
    paragraphs = Lines("paragraph", 10, 20)
    apply(paragraphs, "The same words in here.\n\nand some more of them")
    assert apply(paragraphs, "the same words in here\n\nshort", 1).reason == "too little left of its paragraphs"
    restored = Lines("line", 10, 5)
    restored.restore(stage.learned())
    assert apply(restored, menu, 3).document is None


def test_a_near_copy_of_a_book_is_within_five_bits() -> None:
    stage = SimHash(6, 5)
    book = text(5000, 1)
    assert apply(stage, book, 0).document is not None
    assert apply(stage, text(5000, 2), 1).document is not None
    copy = apply(stage, edited(book, [100, 2000]), 2)
    assert (copy.reason, copy.like) == ("near copy", 0)
    assert apply(stage, "...", 3).document is not None
    assert apply(stage, "!!!", 4).document is not None
    restored = SimHash(6, 5)
    restored.restore(stage.learned())
    assert apply(restored, book, 5).document is None
    assert restored.learned() == b""


def test_distances_of_simhash_are_bits() -> None:
    assert distances(0b1011, np.array([0b1011, 0, 2**64 - 1], np.uint64)).tolist() == [0, 3, 61]
    assert simhash("a b c d e f g", 6) != simhash("g f e d c b a", 6)


def test_duplicates_go_before_anything_is_held_out(tmp_path: Path) -> None:
    import json

    texts = []
    for seed in range(60):
        texts += [text(200, seed), edited(text(200, seed), [5, 90, 150])]
    cleaned(texts, tmp_path / "out", "exact", "minhash", holdout=0.3)
    sides = {
        name: [json.loads(line)["text"] for line in (tmp_path / "out" / f"{name}-00000.jsonl").read_text().splitlines()]
        for name in ("shard", "holdout")
    }
    assert len(sides["shard"]) + len(sides["holdout"]) == 60
    assert 8 < len(sides["holdout"]) < 30
    minhash = MinHash()
    held = np.array([minhash.signature(each) for each in sides["holdout"]])
    assert max(similarity(held, minhash.signature(each)).max() for each in sides["shard"]) < 0.2
