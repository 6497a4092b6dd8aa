"""The server against its own OpenAPI document: what schemathesis makes of that, sound and not, NULs included."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from guarded import ADMIN, INSIDE, KEYED, bearer
from schemathesis import Case, Config
from schemathesis.checks import CHECKS, load_all_checks

from paddock.serve.app import make_app
from paddock.serve.document import document
from paddock.serve.server import Server
from paddock.serve.settings import Settings

HERE = "http://127.0.0.1"
CHOSEN = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
MODEL = "stories260K"
TEMPLATE = Path(__file__).with_name("words.jinja")  # adds nothing to what the messages say
SERVER = Server(Settings(**{**KEYED, "template": str(TEMPLATE), "ctx_size": 48, "parallel": 8}))
APP = make_app(SERVER)
load_all_checks()
CHECKED = [check for check in CHECKS.get_all() if getattr(check, "__name__", type(check).__name__) in CHOSEN]


@contextlib.asynccontextmanager
async def _nothing(app: Any) -> AsyncIterator[None]:
    """schemathesis begins and ends the application with each request."""
    yield


APP.router.lifespan_context = _nothing


@pytest.fixture(scope="module", autouse=True)
def _open() -> Iterator[None]:
    SERVER.open()
    yield
    SERVER.close()


def schema_of(examples: int) -> Any:
    chosen = {"mode": "all", "max-examples": examples, "allow-x00": True, "deterministic": True, "no-shrink": True}
    refusals = {"negative_data_rejection": {"expected-statuses": [400, 404, 413, 415]}}
    config = Config.from_dict({"base-url": HERE, "generation": chosen, "checks": refusals})
    return schemathesis.openapi.from_dict(told(), config=config)


def told() -> dict[str, Any]:
    """The document, and which model there is: else almost everything would end with a 404."""
    found = copy.deepcopy(document(APP))
    for schema in found["components"]["schemas"].values():
        fields = schema.get("properties", {})
        if "model" in fields:
            fields["model"] = {"enum": [MODEL, None] if "anyOf" in fields["model"] else [MODEL]}
    return found


def check(case: Case) -> None:
    response = case.call(app=APP, base_url=HERE, headers=bearer(ADMIN))
    if response.status_code >= 400:
        assert not INSIDE.search(response.text), response.text
    case.validate_response(response, checks=CHECKED)


# Twins of other operations take the same bodies: once is enough in a hurry.
TWINS = ["/v1/messages/count_tokens", "/api/embeddings", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"]
quick, thorough = schema_of(2).exclude(path=TWINS), schema_of(200)


@quick.parametrize()
def test_every_operation_keeps_its_word(case: Case) -> None:
    check(case)


@pytest.mark.slow
@thorough.parametrize()
def test_every_operation_keeps_its_word_at_length(case: Case) -> None:
    check(case)


def test_all_checks_were_found() -> None:
    assert len(CHECKED) == len(CHOSEN)
