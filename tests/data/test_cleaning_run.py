"""A run as a whole: its books balance, it can be killed anywhere, it gives the same bytes again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cleaning_texts import cleaned, documents, edited, folder_bytes, recipe, text

from paddock.data.cleaning.publish import read_manifest, read_removed
from paddock.data.cleaning.run import WORK, clean, clean_files
from paddock.data.document import Document
from paddock.data.reading import documents as read
from paddock.errors import DataError, ResourceError, UsageError

STAGES: tuple[Any, ...] = (
    "unicode",
    "exact",
    {"stage": "lines", "unit": "line", "shortest": 10, "characters": 20},
    {"stage": "quality", "preset": "none", "limits": {"words": [30, None]}},
    "minhash",
    {"stage": "simhash"},
    "pii",
)


def corpus(seeds: int = 12) -> list[str]:
    """Five texts a seed, with copies of every kind among them."""
    texts = []
    for seed in range(seeds):
        whole = text(200, seed)
        texts += [
            whole,
            f"{whole} ",
            edited(whole, [3, 70, 150]),
            text(10 + seed, seed + 50),
            f"menu of pages\n{text(60, seed + 90)}",
        ]
    texts[9] += " write to somebody@example.org"
    return texts


def write(path: Path, texts: list[Any]) -> Path:
    path.write_text("".join(json.dumps({"text": each, "source": "made"}) + "\n" for each in texts))
    return path


def check_books(manifest: dict[str, Any]) -> None:
    before = None
    for stage in manifest["stages"]:
        assert stage["documents_in"] == stage["documents_out"] + sum(stage["reasons"].values())
        if before is not None:
            assert stage["documents_in"] == before["documents_out"]
            assert stage["characters_in"] == before["characters_out"]
        if not stage["documents_changed"] and before is not None:
            assert stage["characters_in"] == stage["characters_out"] + sum(stage["removed_characters"].values())
        before = stage
    assert before is not None
    shards = [*manifest["shards"], *manifest["holdout"]]
    assert sum(shard["documents"] for shard in shards) == before["documents_out"] == manifest["documents_out"]
    assert sum(shard["characters"] for shard in shards) == before["characters_out"]


def test_reasons_sum_up_and_shards_are_what_the_manifest_says(tmp_path: Path) -> None:
    import hashlib

    source = write(tmp_path / "in.jsonl", corpus())
    asked = recipe(*STAGES, chunk=7, shard_megabytes=0.004, holdout=0.1, format="jsonl.zst")
    manifest = clean_files([source], asked, tmp_path / "out")
    check_books(manifest)
    reasons = {reason: n for stage in manifest["stages"] for reason, n in stage["reasons"].items()}
    assert reasons == {"exact duplicate": 12, "near duplicate": 12, "words too low": 12}
    assert manifest["stages"][3]["changes"] == {"lines": 11}
    assert manifest["stages"][7]["changes"] == {"email": 1}
    assert manifest["inputs"][0]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert len(manifest["shards"]) > 1
    found = 0
    for shard in [*manifest["shards"], *manifest["holdout"]]:
        path = tmp_path / "out" / shard["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
        kept = list(read(path))
        assert all(document.meta == {"source": "made"} for document in kept)
        assert sum(len(document.text) for document in kept) == shard["characters"]
        found += len(kept)
    assert found == manifest["documents_out"] == 24
    assert not (tmp_path / "out" / WORK).exists()
    assert (tmp_path / "out" / "funnel.png").read_bytes().startswith(b"\x89PNG")


def test_a_rerun_gives_the_same_bytes_in_one_chunk_or_many(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", corpus())
    for name in ("one", "two"):
        clean_files([source], recipe(*STAGES, chunk=7), tmp_path / name)
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "two")
    clean_files([source], recipe(*STAGES, chunk=1000), tmp_path / "three")
    for name in ("shard-00000.jsonl", "removed.jsonl"):
        assert (tmp_path / "three" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_examples_of_what_went_say_why_and_what_is_like_them(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", corpus())
    clean_files([source], recipe(*STAGES, chunk=7), tmp_path / "out")
    rows = read_removed(tmp_path / "out")
    near = [row for row in rows if row["reason"] == "near duplicate"]
    assert len(near) == 12
    assert near[0]["place"] == f"{source}:3"
    assert near[0]["like"]["place"] == f"{source}:1"
    assert near[0]["like"]["text"] == text(200, 0)[:500]
    low = [row for row in rows if row["reason"] == "words too low"]
    assert low[0]["detail"] == "10, least 30"
    changed = [row for row in rows if row["name"] == "pii"]
    assert "<EMAIL>" in changed[0]["text"]
    assert "example.org" not in json.dumps(rows)


def killed_at(place: int, source: Path, output: Path) -> bool:
    """A child process cleans and kills itself (SIGKILL) at the place-th time that a file is put in its place, in the
    middle: written, and not yet renamed. False when there is no such place."""
    child = os.fork()
    if not child:
        try:
            count, rename = 0, Path.replace

            def replace(self: Path, target: Path) -> Any:
                nonlocal count
                count += 1
                if count == place:
                    os.kill(os.getpid(), signal.SIGKILL)
                return rename(self, target)

            Path.replace = replace  # type: ignore[method-assign,assignment]
            clean_files([source], recipe(*STAGES, chunk=25), output)
        except BaseException:
            os._exit(3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def test_a_run_killed_at_any_save_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", corpus())
    clean_files([source], recipe(*STAGES, chunk=25), tmp_path / "whole")
    whole = folder_bytes(tmp_path / "whole")
    place = 1
    while killed_at(place, source, tmp_path / "out"):  # each run goes on from what the ones before left
        place += 1
        assert place < 100
    assert place > 4
    assert folder_bytes(tmp_path / "out") == whole
    for at in range(2, 100, 5):
        fresh = tmp_path / f"at-{at}"
        if not killed_at(at, source, fresh):
            break
        clean_files([source], recipe(*STAGES, chunk=25), fresh)
        assert folder_bytes(fresh) == whole
    assert at > 20


def test_a_run_goes_on_from_the_last_whole_chunk(tmp_path: Path) -> None:
    texts = corpus()
    counts = []

    def told(what: str, count: int) -> None:
        if what == "pass 1":
            counts.append(count)
            if counts == list(range(1, 31)):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clean(documents(texts), recipe(*STAGES, chunk=7), tmp_path / "out", told=told)
    counts.clear()
    clean(documents(texts), recipe(*STAGES, chunk=7), tmp_path / "out", told=told)
    assert counts[0] == 29


def stopped(texts: list[str], output: Path, **more: Any) -> None:
    """A run that ends in its second chunk."""

    def told(what: str, count: int) -> None:
        if count == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clean(documents(texts), recipe(*STAGES, chunk=7, **more), output, told=told)


def test_a_run_does_not_go_on_over_another_recipe_or_other_documents(tmp_path: Path) -> None:
    texts = corpus()
    stopped(texts, tmp_path / "out")
    with pytest.raises(UsageError, match=r"another recipe\n.*--force"):
        clean(documents(texts), recipe(*STAGES, chunk=8), tmp_path / "out")
    with pytest.raises(DataError, match="not those that this run began with"):
        clean(documents(["another", *texts[1:]]), recipe(*STAGES, chunk=7), tmp_path / "out")
    with pytest.raises(DataError, match="not those that this run began with"):
        clean(documents(texts[:3]), recipe(*STAGES, chunk=7), tmp_path / "out")
    clean(documents(texts), recipe(*STAGES, chunk=8), tmp_path / "out", force=True)
    clean(documents(texts), recipe(*STAGES, chunk=8), tmp_path / "other")
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "other")


def test_a_run_that_is_done_is_not_done_again_nor_for_other_inputs(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", corpus())
    first = clean_files([source], recipe("exact"), tmp_path / "out")
    stamp = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    assert clean_files([source], recipe("exact"), tmp_path / "out") == first
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="another recipe"):
        clean_files([source], recipe("exact", "pii"), tmp_path / "out")
    write(source, corpus()[1:])
    with pytest.raises(UsageError, match=r"other inputs \(.*in.jsonl differs\)"):
        clean_files([source], recipe("exact"), tmp_path / "out")
    (tmp_path / "out" / "shard-00000.jsonl").unlink()
    write(source, corpus())
    with pytest.raises(DataError, match="is gone"):
        clean_files([source], recipe("exact"), tmp_path / "out")


def test_other_peoples_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        cleaned(["a"], tmp_path, "exact")
    with pytest.raises(UsageError, match="is a file"):
        cleaned(["a"], tmp_path / "notes.txt", "exact")
    with pytest.raises(UsageError, match="holds other files"):
        clean(documents(["a"]), recipe("exact"), tmp_path, force=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    def told(what: str, count: int) -> None:
        with pytest.raises(UsageError, match="another process"):
            cleaned(corpus(), tmp_path / "out", "exact")

    clean(documents(corpus()[:3]), recipe("exact"), tmp_path / "out", told=told)


def test_a_chunk_that_was_damaged_is_refused(tmp_path: Path) -> None:
    stopped(corpus(), tmp_path / "out")
    path = tmp_path / "out" / WORK / "pass-0" / "000000.learned"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="is not what was written"):
        clean(documents(corpus()), recipe(*STAGES, chunk=7), tmp_path / "out")


def test_a_full_disk_says_so_and_the_run_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    import paddock.checkpoint.writing as writing

    flush, calls = writing.flush, 0

    def full(path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 14:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    monkeypatch.setattr(writing, "flush", full)
    with pytest.raises(ResourceError, match="no space left"):
        clean(documents(corpus()), recipe(*STAGES, chunk=7), tmp_path / "out")
    clean(documents(corpus()), recipe(*STAGES, chunk=7), tmp_path / "out")
    clean(documents(corpus()), recipe(*STAGES, chunk=7), tmp_path / "other")
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "other")


def test_nothing_in_gives_nothing_out(tmp_path: Path) -> None:
    kept, manifest = cleaned([], tmp_path / "out", *STAGES)
    assert kept == []
    check_books(manifest)
    assert manifest["shards"] == []
    assert read_manifest(tmp_path / "out") == manifest
    (tmp_path / "empty.jsonl").touch()
    assert clean_files([tmp_path / "empty.jsonl"], recipe(*STAGES), tmp_path / "files")["documents_in"] == 0
    kept, manifest = cleaned(["short"], tmp_path / "all gone", *STAGES)
    assert (kept, manifest["documents_in"]) == ([], 1)


def test_what_is_no_text_is_counted_and_goes(tmp_path: Path) -> None:
    given: list[Any] = ["a text", None, 5, ["x"], "", " \n", "half \ud800", "another"]
    kept, manifest = cleaned(given, tmp_path / "out", "exact", "minhash")
    assert kept == ["a text", "another"]
    check_books(manifest)
    assert manifest["stages"][0]["reasons"] == {
        "text is NoneType": 1, "text is int": 1, "text is list": 1, "empty": 2, "half a character": 1,
    }  # fmt: skip
    with pytest.raises(DataError, match="made:1: its meta is not JSON"):
        clean([Document("a", "made:1", {"x": object()})], recipe("exact"), tmp_path / "meta")


def test_what_reading_skips_stands_in_the_books(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "one"}\n{"text": 5}\nno json\n{"text": " "}\n{"text": "two"}\n')
    with pytest.raises(DataError, match=r"in.jsonl:2"):
        clean_files([source], recipe("exact"), tmp_path / "strict")
    manifest = clean_files([source], recipe("exact", read={"on_error": "skip"}), tmp_path / "out")
    check_books(manifest)
    assert manifest["documents_in"] == 5
    assert manifest["documents_out"] == 2
    assert sum(manifest["stages"][0]["reasons"].values()) == 3


def test_one_huge_document(tmp_path: Path) -> None:
    huge = "\n".join(text(50, seed % 100) + f" {seed}" for seed in range(15_000))  # 4 MB
    kept, manifest = cleaned([huge, "small", huge + "!"], tmp_path / "out", "unicode", "exact", "minhash", "pii")
    assert kept == [huge, "small"]
    check_books(manifest)


def test_nothing_depends_on_the_hash_seed_of_the_process(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", corpus(25))  # more copies than examples are kept of
    program = (
        "import sys; from pathlib import Path; from paddock.data.cleaning.recipe import parse_recipe;"
        "from paddock.data.cleaning.run import clean_files;"
        "clean_files([sys.argv[1]], parse_recipe({'format': 'jsonl', 'stages': [{'stage': 'exact'}, {'stage': 'lines'},"
        "{'stage': 'script', 'keep': ['latin']},"
        "{'stage': 'quality', 'preset': 'any'}, {'stage': 'minhash'}, {'stage': 'pii'}]}), Path(sys.argv[2]))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, source, tmp_path / seed], env={**os.environ, "PYTHONHASHSEED": seed}
        )
        for seed in ("1", "4242")
    ]
    assert [child.wait(120) for child in children] == [0, 0]
    assert folder_bytes(tmp_path / "1") == folder_bytes(tmp_path / "4242")
