"""Pulling from a hub that fails in every way it can: what arrives is whole, and nothing is fetched twice."""

from __future__ import annotations

import errno
import os
import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub_server import Fault, HubServer, Repo, folder_files, git_hash, running, sha256
from paddock import __version__
from paddock.checkpoint.hub import cache, pulling, transfer
from paddock.checkpoint.hub.exchange import Hub, Patience
from paddock.checkpoint.hub.files import is_safe
from paddock.checkpoint.hub.pulling import Plan, ask, carry_out, plan
from paddock.checkpoint.hub.settings import Settings
from paddock.errors import (
    AccessError,
    CheckpointError,
    NotFoundError,
    OverloadError,
    PaddockError,
    ResourceError,
    ServiceError,
    UsageError,
)

REPO = "acme/tiny"
WEIGHTS = "model.safetensors"
TOKEN = "hf_SecretSecretSecret"
SIZE = 300_000


@pytest.fixture(autouse=True)
def _this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        assert self.family != socket.AF_INET or address[0] == "127.0.0.1", address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    for name in list(os.environ):
        if name.upper().startswith("HF_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[HubServer]:
    with running() as hub:
        hub.repos[REPO] = Repo(
            {"config.json": b"{}", "README.md": b"", WEIGHTS: os.urandom(SIZE)}, card={"license": "mit"}
        )
        yield hub


@pytest.fixture
def pull(server: HubServer, tmp_path: Path) -> Callable[..., Path]:
    """Pulls REPO into a cache of this test; `waits` of the function are the seconds it would have waited."""
    waits: list[float] = []
    notes: list[str] = []

    def run(to: Path | None = None, progress: Any = lambda bytes: None, **settings: Any) -> Path:
        ours = settings_of(server, tmp_path, **settings)
        with Hub(ours, Patience(sleep=waits.append, enough=1000), notes.append, plain()) as hub:
            return carry_out(hub, plan(hub, ask(hub, REPO), to), progress)

    run.waits, run.notes = waits, notes  # type: ignore[attr-defined]
    return run


def settings_of(server: HubServer, tmp_path: Path, **more: Any) -> Settings:
    return replace(Settings(server.url, tmp_path / "hub", stall=10.0), **more)


def asking(server: HubServer, tmp_path: Path, **settings: Any) -> Hub:
    return Hub(settings_of(server, tmp_path, **settings), transport=plain())


def plain() -> httpx.HTTPTransport:
    """Without the certificates that take a fifth of a second to read."""
    return httpx.HTTPTransport(verify=False)


def same(folder: Path, server: HubServer) -> bool:
    return folder_files(folder) == server.repos[REPO].files


def faulty(server: HubServer, *faults: Fault, name: str = WEIGHTS) -> None:
    server.faults[name].extend(faults)


def test_a_model_comes_whole_into_the_layout_of_the_cache(server: HubServer, pull: Any, tmp_path: Path) -> None:
    progress: list[int] = []
    found = pull(progress=progress.append)
    commit = server.repos[REPO].commit
    assert found == tmp_path / "hub" / "models--acme--tiny" / "snapshots" / commit and same(found, server)
    assert (found.parent.parent / "refs" / "main").read_text() == commit
    blobs = found.parent.parent / "blobs"
    data = server.repos[REPO].files
    assert {path.name for path in blobs.iterdir()} == {sha256(data[WEIGHTS]), git_hash(b"{}"), git_hash(b"")}
    assert os.readlink(found / WEIGHTS) == f"../../blobs/{sha256(data[WEIGHTS])}"
    assert sum(progress) == sum(map(len, data.values()))
    before = len(server.seen)
    assert pull() == found and len(server.seen) == before + 1  # the description, and no file again


def test_the_hubs_own_library_finds_what_was_pulled(pull: Any, tmp_path: Path) -> None:
    import huggingface_hub

    found = pull()
    there = huggingface_hub.snapshot_download(REPO, cache_dir=tmp_path / "hub", local_files_only=True)
    assert Path(there) == found
    scan = huggingface_hub.scan_cache_dir(tmp_path / "hub")
    assert [repo.repo_id for repo in scan.repos] == [REPO] and not scan.warnings and not scan.incomplete_files


def test_what_the_hubs_own_library_pulled_is_found(
    server: HubServer, pull: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It also shows that the server of these tests is one that the library takes for the hub."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    assert cache.cached(tmp_path / "hub") == {}
    there = huggingface_hub.snapshot_download(REPO, cache_dir=tmp_path / "hub", endpoint=server.url, token=False)
    assert cache.cached(tmp_path / "hub") == {REPO: Path(there)} and same(Path(there), server)
    before = len(server.seen)
    assert pull() == Path(there) and len(server.seen) == before + 1


@pytest.mark.parametrize("points", [(0,), (1,), (77_777,), (SIZE - 1,), (1000, 50_000, 120_000)], ids=str)
def test_what_is_cut_goes_on_where_it_was_cut(server: HubServer, pull: Any, points: tuple[int, ...]) -> None:
    faulty(server, *(Fault("cut", at) for at in points))
    assert same(pull(), server)
    assert server.sent(WEIGHTS) == SIZE and len(pull.waits) == len(points)
    assert any("trying again" in note for note in pull.notes)


def test_what_was_left_by_an_earlier_pull_is_not_fetched_again(server: HubServer, pull: Any) -> None:
    faulty(server, Fault("cut", 100_000), *[Fault("status", 500)] * 6)
    with pytest.raises(ServiceError, match="fails: it answers 500"):
        pull()
    sent = server.sent(WEIGHTS)
    server.faults.clear()
    assert same(pull(), server)
    assert sent == 100_000 and server.sent(WEIGHTS) == SIZE
    assert server.requests(WEIGHTS)[-1].headers["Range"] == f"bytes=100000-{SIZE - 1}"


def test_a_server_without_ranges_begins_anew(server: HubServer, pull: Any) -> None:
    faulty(server, Fault("cut", 100_000), Fault("whole"))
    progress: list[int] = []
    assert same(pull(progress=progress.append), server)
    assert sum(progress) == sum(map(len, server.repos[REPO].files.values())) and min(progress) == -100_000


def test_a_part_that_is_refused_is_given_up(server: HubServer, pull: Any) -> None:
    faulty(server, Fault("cut", 100_000), Fault("status", 416))
    assert same(pull(), server)
    last = [seen for seen in server.requests(WEIGHTS) if seen.server == "network"][-1]
    assert "Range" not in last.headers and last.sent == [SIZE]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("stall", 50_000),
        Fault("drip", 50_000),
        Fault("short", 50_000),
        Fault("length", SIZE + 5),
        Fault("length", 10),
        Fault("more"),
        Fault("status", 500),
        Fault("status", 416),
        Fault("status", 429, {"Retry-After": "7"}),
        Fault("status", 403),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.at}",
)
def test_each_fault_is_got_over_once(server: HubServer, pull: Any, fault: Fault) -> None:
    faulty(server, fault)
    assert same(pull(stall=0.5 if fault.kind in ("stall", "drip") else 10.0), server)
    assert pull.waits == ([7.0] if fault.at == 429 else [1.0])


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault("status", 429, {"Retry-After": "3"}), OverloadError, "no more requests"),
        (Fault("status", 503), ServiceError, "it answers 503; tried 6 times"),
        (Fault("stall", 0), ServiceError, "silent for 0.2 seconds"),
        (Fault("short", 0), ServiceError, "stopped in the middle"),
        (Fault("length", SIZE * 9), ServiceError, "announces 2700000 bytes"),
        (Fault("more"), ServiceError, "more bytes than the file has"),
        (Fault("packed"), ServiceError, "packed"),
    ],
    ids=["429", "503", "stall", "short", "length", "more", "packed"],
)
def test_a_fault_that_stays_is_refused_and_the_waits_are_bounded(
    server: HubServer, pull: Any, fault: Fault, kind: type[PaddockError], words: str
) -> None:
    faulty(server, *[fault] * 10)
    with pytest.raises(kind, match=words):
        pull(stall=0.2 if fault.kind == "stall" else 10.0)
    expected = [] if fault.kind == "packed" else [3.0] * 5 if fault.at == 429 else [1.0, 2.0, 4.0, 8.0, 16.0]
    assert pull.waits == expected


def test_a_wait_without_end_is_not_waited(server: HubServer, pull: Any) -> None:
    faulty(server, Fault("status", 429, {"Retry-After": "86400"}), name="api")
    with pytest.raises(OverloadError, match="asks to wait 86400 seconds"):
        pull()
    assert pull.waits == []


def test_wrong_bytes_are_fetched_once_more_and_then_refused(server: HubServer, pull: Any, tmp_path: Path) -> None:
    faulty(server, Fault("flip"))
    assert same(pull(), server) and server.sent(WEIGHTS) == 2 * SIZE
    shutil.rmtree(tmp_path / "hub")
    faulty(server, Fault("flip"), Fault("flip"))
    with pytest.raises(CheckpointError, match=r"model.safetensors came twice with other bytes") as refusal:
        pull()
    assert refusal.value.exit_code == 3
    blobs = tmp_path / "hub" / "models--acme--tiny" / "blobs"
    assert sha256(server.repos[REPO].files[WEIGHTS]) not in {path.name[:64] for path in blobs.iterdir()}
    assert cache.commit_of(tmp_path / "hub", REPO) is None and cache.cached(tmp_path / "hub") == {}
    faulty(server, Fault("flip"), name="config.json")  # small files too: their hash is git's
    assert same(pull(), server)


def test_spoiled_bytes_of_an_earlier_pull_are_noticed(server: HubServer, pull: Any, tmp_path: Path) -> None:
    digest = sha256(server.repos[REPO].files[WEIGHTS])
    blobs = tmp_path / "hub" / "models--acme--tiny" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{digest}{pulling.PARTIAL}").write_bytes(bytes(200_000))
    assert same(pull(), server)
    assert server.sent(WEIGHTS) == SIZE - 200_000 + SIZE
    shutil.rmtree(tmp_path / "hub")
    blobs.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (blobs / f"{digest}{pulling.PARTIAL}").symlink_to(outside)  # and a link is not written through
    assert same(pull(), server) and outside.read_bytes() == b"mine"


def test_a_file_of_the_cache_that_somebody_cut_is_fetched_again(server: HubServer, pull: Any) -> None:
    blob = (pull() / WEIGHTS).resolve()
    blob.write_bytes(b"cut")
    assert same(pull(), server) and server.sent(WEIGHTS) == 2 * SIZE


def test_large_files_are_asked_for_in_parts(server: HubServer, pull: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = transfer.fetch
    monkeypatch.setattr(pulling, "fetch", lambda *values: fetch(*values, piece=100_001))
    assert same(pull(), server)
    ranges = [seen.headers["Range"] for seen in server.requests(WEIGHTS) if seen.server == "network"]
    assert ranges == ["bytes=0-100000", "bytes=100001-200001", "bytes=200002-299999"]


def test_into_a_plain_folder(server: HubServer, pull: Any, tmp_path: Path) -> None:
    faulty(server, Fault("cut", 9_000), *[Fault("status", 500)] * 6)
    with pytest.raises(ServiceError):
        pull(tmp_path / "mine")
    server.faults.clear()
    assert pull(tmp_path / "mine") == tmp_path / "mine" and same(tmp_path / "mine", server)
    assert server.sent(WEIGHTS) == SIZE and not (tmp_path / "mine" / WEIGHTS).is_symlink()
    assert not (tmp_path / "hub" / "models--acme--tiny").exists()
    before = len(server.seen)
    assert same(pull(tmp_path / "mine"), server) and len(server.seen) == before + 1
    (tmp_path / "mine" / "config.json").write_bytes(b"[]")
    with pytest.raises(UsageError, match=r"config.json is there, and is another file"):
        pull(tmp_path / "mine")
    assert (tmp_path / "mine" / "config.json").read_bytes() == b"[]"


def test_what_the_cache_has_is_copied_into_a_plain_folder(server: HubServer, pull: Any, tmp_path: Path) -> None:
    pull()
    sent = server.sent(WEIGHTS)
    assert same(pull(tmp_path / "mine"), server) and server.sent(WEIGHTS) == sent


def test_a_link_in_a_plain_folder_leads_nothing_out(server: HubServer, pull: Any, tmp_path: Path) -> None:
    server.repos[REPO].files["1_Pooling/config.json"] = b"{}"
    (tmp_path / "mine").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine" / "1_Pooling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="a link out of"):
        pull(tmp_path / "mine")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/x", "..\\x", "a\\b", "C:/x", "a//b", "./a", "a/.", "x\0y", "x\ny", "y" * 300,
     "a/" * 600, "", 5, None],
    ids=lambda name: ascii(name)[:12],
)  # fmt: skip
def test_hostile_names_are_refused(server: HubServer, pull: Any, tmp_path: Path, name: Any) -> None:
    server.repos[REPO].extra = [{"rfilename": name, "size": 3, "blobId": git_hash(b"abc")}]
    with pytest.raises(CheckpointError, match="lists a file named"):
        pull()
    assert not (tmp_path / "hub").exists() and not is_safe("\ud800")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"size": -1}, "has -1 bytes"),
        ({"size": 2**70}, "bytes"),
        ({"size": "9"}, "bytes"),
        ({"size": True}, "bytes"),
        ({"blobId": "../../../x"}, "no hash"),
        ({"blobId": "A" * 40}, "no hash"),
        ({"lfs": {"sha256": "0" * 63, "size": 1}}, "no hash"),
        ({"lfs": {}}, "bytes"),
    ],
    ids=str,
)
def test_absurd_listings_are_refused(server: HubServer, pull: Any, entry: dict[str, Any], words: str) -> None:
    server.repos[REPO].extra = [{"rfilename": "x", "size": 3, "blobId": git_hash(b"abc"), **entry}]
    with pytest.raises(CheckpointError, match=words):
        pull()


def test_two_names_of_one_file_on_some_systems_are_refused(server: HubServer, pull: Any) -> None:
    server.repos[REPO].files["readme.MD"] = b"x"
    server.repos[REPO].files["LICENSE"] = b"x"
    server.repos[REPO].files["License"] = b"y"
    with (
        Hub(Settings(server.url, Path("unused")), transport=plain()) as hub,
        pytest.raises(CheckpointError, match="one name on some"),
    ):
        plan(hub, ask(hub, REPO), include=["L*"])


def test_a_disk_without_room_is_refused_before_anything_comes(
    server: HubServer, pull: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))  # type: ignore[attr-defined]
    with pytest.raises(ResourceError, match="free") as refusal:
        pull()
    assert refusal.value.exit_code == 4 and not server.sent(WEIGHTS) and not (tmp_path / "hub").exists()


def test_a_disk_that_fills_up_keeps_what_came(server: HubServer, pull: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = os.write, [120_000]

    def full(handle: int, data: Any) -> int:
        if len(data) > 100:  # pytest and locks write too
            if room[0] <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            data = data[: room[0]]
            room[0] -= len(data)
        return write(handle, data)

    monkeypatch.setattr(transfer.os, "write", full)
    with pytest.raises(ResourceError, match=r"no space left for model\.safetensors; 120,000 bytes of it are kept"):
        pull()
    monkeypatch.undo()
    before = server.sent(WEIGHTS)
    assert same(pull(), server) and server.sent(WEIGHTS) - before == SIZE - 120_000


def test_two_pulls_at_once_fetch_once(server: HubServer, pull: Any, tmp_path: Path) -> None:
    faulty(server, Fault("cut", 200_000))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(pull())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(found)) == 1 and len(found) == 2 and same(found[0], server)
    assert server.sent(WEIGHTS) == SIZE


def test_names_only_from_a_mirror_are_asked_for(server: HubServer, pull: Any) -> None:
    server.repos[REPO].bare = True
    assert same(pull(), server)
    assert {seen.method for seen in server.requests("config.json")} == {"HEAD", "GET"}


def test_no_hub_is_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    waits: list[float] = []
    hub = Hub(Settings(f"http://127.0.0.1:{port}", tmp_path), Patience(sleep=waits.append), transport=plain())
    with hub, pytest.raises(ServiceError, match=r"127\.0\.0\.1 cannot be reached"):
        ask(hub, REPO)
    assert waits == [1.0]  # nobody waits long for a network that is not there


def test_proxies_are_those_of_the_environment(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hub(Settings("http://hub.example.org", tmp_path / "hub")) as hub:
        assert same(carry_out(hub, plan(hub, ask(hub, REPO))), server)
    assert {seen.headers["Host"] for seen in server.seen if seen.server == "hub"} == {"hub.example.org"}


def test_offline_is_offline(server: HubServer, pull: Any) -> None:
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set"):
        pull(offline=True)
    assert server.seen == []


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"sha": 5}', b'{"sha": "main", "siblings": []}', b"{" * 99], ids=repr
)
def test_an_answer_that_is_no_hubs(server: HubServer, pull: Any, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import hub_server

    monkeypatch.setattr(hub_server.json, "dumps", lambda value: body.decode())
    with pytest.raises(ServiceError, match="answer"):
        pull()


def test_an_answer_without_end_is_cut(server: HubServer, pull: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.checkpoint.hub.exchange.MAX_LISTING", 100)
    with pytest.raises(ServiceError, match="more than"):
        pull()


ODD = (None, True, -1, 2**80, 1.5, "", "../x", [], {}, [[]], {"a": 1}, "a" * 3000, "0" * 64, ["mit"])


def mutated(value: Any, chance: random.Random) -> Any:
    """`value` with some of its parts exchanged for odd ones, left out or there twice."""
    if chance.random() < 0.12:
        return chance.choice(ODD)
    if isinstance(value, dict):
        return {key: mutated(item, chance) for key, item in value.items() if chance.random() > 0.05}
    if isinstance(value, list):
        return [mutated(item, chance) for item in value] * chance.choice((1, 1, 1, 2))
    return value


def test_whatever_a_hub_answers_is_taken_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(0)
    repo = Repo({"config.json": b"{}", WEIGHTS: b"weights"}, card={"license": "mit"})
    sound = {
        "sha": repo.commit,
        "siblings": [repo.entry(path) for path in repo.files],
        "gated": False,
        "cardData": repo.card,
    }
    headers = [
        httpx.Headers({"ETag": etag, "Content-Length": size}) for etag in ("x", "0" * 40) for size in ("", "-5", "9")
    ]
    monkeypatch.setattr(Hub, "json", lambda self, path: {key: mutated(item, chance) for key, item in sound.items()})
    monkeypatch.setattr(Hub, "head", lambda self, url: chance.choice(headers))
    outcomes = set()
    with Hub(Settings("http://127.0.0.1:9", tmp_path / "hub"), transport=plain()) as hub:
        for _ in range(1000):
            try:
                planned = plan(hub, ask(hub, REPO))
                outcomes.add("taken")
                assert {file.path for file in planned.choice.files} <= repo.files.keys()
            except PaddockError as refusal:
                outcomes.add(type(refusal).__name__)
    assert outcomes == {"taken", "CheckpointError", "ServiceError", "UsageError"} and not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------------------------- tokens, refusals


def test_who_asks_is_said_and_nothing_of_the_machine(server: HubServer, pull: Any) -> None:
    pull()
    for seen in server.seen:
        assert seen.headers["User-Agent"] == f"paddock/{__version__}"
        assert set(seen.headers) <= {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection", "Range"}


def test_the_token_goes_to_the_hub_alone(server: HubServer, pull: Any) -> None:
    server.token, server.repos[REPO].gated = TOKEN, True
    assert same(pull(token=TOKEN), server)
    sent = {seen.server: {"Authorization" in other.headers for other in server.seen if other.server == seen.server}
            for seen in server.seen}  # fmt: skip
    assert sent == {"hub": {True}, "network": {False}}


@pytest.mark.parametrize(
    ("token", "words"), [(None, "only to who is known there"), ("hf_other", "not give this model to the owner")]
)
def test_a_gated_model(server: HubServer, pull: Any, token: str | None, words: str) -> None:
    server.token, server.repos[REPO].gated = TOKEN, True
    with pytest.raises(AccessError, match=words) as refusal:
        pull(token=token)
    assert refusal.value.known == (token is not None) and not pull.waits


def test_a_model_that_is_not_there(server: HubServer, tmp_path: Path) -> None:
    server.token = TOKEN
    for token, words in ((None, "or it is private and HF_TOKEN is not set"), (TOKEN, "has no such model")):
        with (
            Hub(settings_of(server, tmp_path, token=token), transport=plain()) as hub,
            pytest.raises(NotFoundError, match=words),
        ):
            ask(hub, "acme/nothing")
    with (
        Hub(settings_of(server, tmp_path), transport=plain()) as hub,
        pytest.raises(NotFoundError, match="no such revision"),
    ):
        ask(hub, REPO, "step7")


@pytest.mark.parametrize("fault", [Fault("status", 400), Fault("status", 500), Fault("status", 451)], ids=str)
def test_what_a_server_sends_back_shows_no_token(server: HubServer, pull: Any, fault: Fault) -> None:
    faulty(server, *[fault] * 9, name="api")
    with pytest.raises(ServiceError) as refusal:
        pull(token=TOKEN)
    assert TOKEN not in str(refusal.value) + "".join(pull.notes) + repr(settings_of(server, Path("x"), token=TOKEN))
    assert refusal.value.__cause__ is None and (refusal.value.__suppress_context__ or not refusal.value.__context__)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("file:///etc/passwd", "not followed"),
        ("ftp://127.0.0.1/x", "not followed"),
        ("http://[", "not followed"),
        ("/acme/tiny/resolve/main/model.safetensors", "without end"),
    ],
)
def test_redirects_that_are_not_followed(server: HubServer, pull: Any, where: str, words: str) -> None:
    faulty(server, *[Fault("elsewhere", where=where)] * 20)
    with pytest.raises(ServiceError, match=words):
        pull()


def test_a_way_from_https_to_http_is_not_gone() -> None:
    from paddock.checkpoint.hub.exchange import _followed

    assert _followed("https://a/x", "/y") == "https://a/y"
    with pytest.raises(ServiceError, match="not followed"):
        _followed("https://a/x", "http://a/y")


def planned_in(server: HubServer, tmp_path: Path, **values: Any) -> Plan:
    with asking(server, tmp_path) as hub:
        return plan(hub, ask(hub, REPO), **values)


def test_planning_writes_nothing(server: HubServer, tmp_path: Path) -> None:
    planned = planned_in(server, tmp_path)
    assert planned.listing.licence == "mit" and planned.missing == SIZE + 2 and not list(tmp_path.iterdir())
