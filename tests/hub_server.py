"""A hub of models on 127.0.0.1 that speaks as the real one does, and fails on request.

The hub describes repositories at /api/models/REPO/revision/R and gives files at /REPO/resolve/R/FILE: small ones
itself, large ones by sending to a second server, as to a content network: another origin, which must see no token.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf")


@dataclass
class Repo:
    """files: what lies in it; commit: what main means; extra: entries that the listing has besides."""

    files: dict[str, bytes]
    commit: str = "c0ffee" + "0" * 34
    revisions: dict[str, str] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    gated: bool = False
    extra: list[dict[str, Any]] = field(default_factory=list)
    bare: bool = False  # a mirror that lists names only

    def entry(self, path: str) -> dict[str, Any]:
        data = self.files[path]
        if self.bare:
            return {"rfilename": path}
        entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_hash(data)}
        if path.endswith(LARGE):
            entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
        return entry


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong: status, cut, stall, drip, flip, short, length, whole, more, packed, elsewhere."""

    kind: str
    at: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True)
class Seen:
    """One request: which server it reached, and how many bytes of a body were sent for it."""

    server: str
    method: str
    path: str
    headers: Mapping[str, str]
    sent: list[int]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def folder_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class HubServer:
    """Both servers. `faults[NAME]` are taken one by one by requests whose path ends in NAME, "api" for descriptions."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.seen: list[Seen] = []
        self.token: str | None = None  # what gated repositories ask for
        self.over = threading.Event()
        self.hub, self.network = _Server(self, "hub"), _Server(self, "network")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.hub.server_port}"

    def sent(self, name: str) -> int:
        """Bytes of bodies sent for a file."""
        return sum(sum(seen.sent) for seen in self.requests(name))

    def requests(self, name: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path.split("?")[0].endswith(name)]


@contextlib.contextmanager
def running() -> Iterator[HubServer]:
    hub = HubServer()
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in (hub.hub, hub.network)
    ]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.over.set()
        for server in (hub.hub, hub.network):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, owner: HubServer, name: str) -> None:
        self.owner, self.name = owner, name
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *unused: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        owner = self.server.owner
        self.seen = Seen(self.server.name, self.command, self.path, dict(self.headers), [])
        owner.seen.append(self.seen)
        path = unquote(urlsplit(self.path).path)
        if self.server.name == "network":
            repo, _, name = path.removeprefix("/").partition("//")
            self.give(owner.repos[repo].files[name], self.fault(name), {})
        elif match := re.fullmatch(r"/api/models/(.+)/revision/(.+)", path):
            self.describe(match[1], match[2])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
            self.list(match[1], match[2])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], match[2], match[3])
        else:
            self.refuse(404, {})

    def fault(self, name: str) -> Fault:
        waiting = self.server.owner.faults[name]
        return waiting.popleft() if waiting else Fault("")

    def repo(self, name: str, revision: str) -> tuple[Repo, str] | None:
        """The repository and its commit; None after saying why not."""
        owner = self.server.owner
        repo = owner.repos.get(name)
        if repo is None:
            known = owner.token is not None and self.headers.get("Authorization") == f"Bearer {owner.token}"
            self.refuse(404 if known else 401, {"X-Error-Code": "RepoNotFound"})
            return None
        commit = repo.commit if revision in ("main", repo.commit) else repo.revisions.get(revision)
        if commit is None and revision in repo.revisions.values():
            commit = revision
        if commit is None:
            self.refuse(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return repo, commit

    def describe(self, name: str, revision: str) -> None:
        fault = self.fault("api")
        if fault.kind == "status":
            self.refuse(fault.at, fault.headers)
            return
        found = self.repo(name, revision)
        if found is None:
            return
        repo, commit = found
        blobs = "blobs=" in urlsplit(self.path).query
        files = [repo.entry(path) if blobs else {"rfilename": path} for path in sorted(repo.files)]
        siblings = files + repo.extra
        told = {"id": name, "sha": commit, "siblings": siblings, "gated": repo.gated, "cardData": repo.card}
        self.give(json.dumps(told).encode(), fault, {"Content-Type": "application/json"})

    def list(self, name: str, revision: str) -> None:
        """The same as the hub's own library asks for it."""
        found = self.repo(name, revision)
        if found is not None:
            entries = [found[0].entry(path) for path in sorted(found[0].files)]
            rows = [
                {"type": "file", "path": entry["rfilename"], "oid": entry["blobId"], "size": entry["size"]}
                | ({"lfs": {**entry["lfs"], "oid": entry["lfs"]["sha256"]}} if "lfs" in entry else {})
                for entry in entries
            ]
            self.give(json.dumps(rows).encode(), Fault(""), {"Content-Type": "application/json"})

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self.repo(name, revision)
        if found is None:
            return
        repo, commit = found
        owner = self.server.owner
        if repo.gated and self.headers.get("Authorization") != f"Bearer {owner.token}":
            self.refuse(403 if "Authorization" in self.headers else 401, {"X-Error-Code": "GatedRepo"})
            return
        if path not in repo.files:
            self.refuse(404, {"X-Error-Code": "EntryNotFound"})
            return
        data = repo.files[path]
        about = {"X-Repo-Commit": commit}
        if not path.endswith(LARGE):
            self.give(data, self.fault(path), about | {"ETag": f'"{git_hash(data)}"'})
            return
        about |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
        here = f"http://127.0.0.1:{owner.network.server_port}/{name}//{path}?Signature=secret"
        fault = owner.faults[path][0] if owner.faults[path] else Fault("")
        if fault.kind == "elsewhere":
            here = self.fault(path).where
        self.answer(302, about | {"Location": here, "Content-Length": "0"})

    def refuse(self, status: int, headers: Mapping[str, str]) -> None:
        body = b'{"error":"refused"}'
        echo = {"X-Error-Message": f"refused {self.headers.get('Authorization', '')}"}
        self.answer(status, {**echo, "Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def give(self, data: bytes, fault: Fault, headers: dict[str, str]) -> None:
        """A body, or the part of it that was asked for, or less than that."""
        if fault.kind == "status":
            self.refuse(fault.at, fault.headers)
            return
        status, begin, size = 200, 0, len(data)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and fault.kind != "whole":
            begin, end = int(match[1]), int(match[2]) + 1 if match[2] else size
            if begin >= size:
                self.refuse(416, {"Content-Range": f"bytes */{size}"})
                return
            status, data = 206, data[begin : min(end, size)]
            headers |= {"Content-Range": f"bytes {begin}-{begin + len(data) - 1}/{size}"}
        headers |= {"Content-Length": str(len(data)), "Accept-Ranges": "bytes"}
        if fault.kind == "flip":
            data = bytes([data[0] ^ 1]) + data[1:]
        if fault.kind == "packed":
            headers["Content-Encoding"] = "gzip"
        if fault.kind == "length":
            headers["Content-Length"] = str(fault.at)
        if fault.kind in ("short", "more"):
            del headers["Content-Length"]
            headers["Connection"] = "close"
            data = data[: fault.at] if fault.kind == "short" else data + b"x" * 10
        self.answer(status, headers)
        if self.command != "HEAD":
            self.pour(data, fault)

    def pour(self, data: bytes, fault: Fault) -> None:
        stops = fault.kind in ("cut", "stall", "drip")
        first = data[: fault.at] if stops else data
        self.seen.sent.append(len(first))
        self.wfile.write(first)
        self.wfile.flush()
        if fault.kind == "stall":
            self.server.owner.over.wait(20)
        elif fault.kind == "drip":
            for byte in data[fault.at :]:
                if self.server.owner.over.is_set():
                    break
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.01)
        if stops or fault.kind in ("short", "more", "length"):
            self.close_connection = True
