"""The web interface: one page at / and the files it is made of, as they were built from web/ (docs/web.md).

Every name that can be asked for is in a table made from the folder, so no address reaches another file.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from paddock.serve.server import Here

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).resolve().parent.parent / "web"
PAGE = "index.html"
# Said here, not looked up in the machine's own table: with nosniff a browser runs nothing of a wrong type.
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain",
}
PACKED = frozenset({".woff2"})  # compressed as they are
HASHED = re.compile(r"-[A-Za-z0-9_-]{8}\.[a-z0-9]+")  # a name that changes whenever the content does
FOREVER, ASK = "private, max-age=31536000, immutable", "no-cache"


@dataclass(frozen=True)
class File:
    """gzipped: the same, where that is shorter."""

    data: bytes
    gzipped: bytes | None
    type: str
    caching: str


@cache
def files(folder: Path = FOLDER) -> dict[str, File]:
    """The page under PAGE, the rest by name. Empty where the interface was not built."""
    paths = [folder / PAGE, *(folder / "assets").glob("*.*")]
    return {path.name: _read(path) for path in paths if path.is_file() and path.suffix in TYPES}


def _read(path: Path) -> File:
    data = path.read_bytes()
    gzipped = None if path.suffix in PACKED else gzip.compress(data, mtime=0)
    shorter = gzipped if gzipped is not None and len(gzipped) < len(data) else None
    caching = FOREVER if HASHED.search(path.name) and path.name != PAGE else ASK
    return File(data, shorter, TYPES[path.suffix], caching)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request, server: Here) -> Response:
    """The page."""
    return _sent(PAGE, request, server)


@router.api_route("/assets/{name}", methods=["GET", "HEAD"])
async def asset(name: str, request: Request, server: Here) -> Response:
    """A script, style, font or licence of the page."""
    return _sent(name if name != PAGE else "", request, server)


def _sent(name: str, request: Request, server: Here) -> Response:
    """Raises HTTPException, 404, for other names, and for all where the interface is switched off."""
    file = files().get(name) if server.settings.web else None
    if file is None:
        raise HTTPException(404)
    headers = {"Cache-Control": file.caching}
    data = file.data
    if file.gzipped is not None:
        headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            data = file.gzipped
            headers["Content-Encoding"] = "gzip"
    return Response(data, headers=headers, media_type=file.type)
