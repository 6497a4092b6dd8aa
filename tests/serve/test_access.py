"""Keys: how they are kept, compared, read from files, and what each opens."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guarded import ADMIN, KEYED, OTHER, USER, bearer, check_refusal, client_of, opened

from paddock.errors import InputError, UsageError
from paddock.serve import access, guards, limits, login
from paddock.serve.access import Access, keys_of, read_keys
from paddock.serve.routes import login as login_route


def sha(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def test_a_key_is_found_by_its_hash_alone() -> None:
    known = Access(keys_of([USER, sha(OTHER)], None, [ADMIN]))
    assert [known.owner(key.encode()) and known.owner(key.encode()).name for key in (USER, OTHER, ADMIN)] == [
        "key-1",
        "key-2",
        "admin-1",
    ]
    for wrong in ("", USER[:-1], USER + " ", USER.upper(), sha(USER), "x" * 10**6):
        assert known.owner(wrong.encode()) is None
    assert USER not in repr(vars(known)) and not known.open and Access().open


def test_callers_have_salts_of_their_own_which_change_with_every_start() -> None:
    keys = keys_of([USER, OTHER], None, [])
    salts = {known.owner(key.encode()).salt for known in (Access(keys), Access(keys)) for key in (USER, OTHER)}
    assert len(salts) == 4 and "" not in salts


@pytest.mark.parametrize(
    "key", ["", "short", "with space in it", "nul\0nul\0nul", "sch\u00fcssel-123", "x" * 257, "sha256:12"]
)
def test_keys_nobody_should_use_are_refused(key: str) -> None:
    with pytest.raises(UsageError) as refused:
        keys_of([key], None, [])
    assert not key or key not in str(refused.value)


def test_one_key_or_name_for_two_is_refused() -> None:
    with pytest.raises(UsageError, match="same key"):
        Access(keys_of([USER, sha(USER)], None, []))
    with pytest.raises(UsageError, match="same key"):
        Access(keys_of([USER], None, [USER]))


FILE = f"""
# people
alice:{USER}   limit=3 per_minute=7
bob.b-2:{sha(OTHER)}
\tops:{ADMIN} admin
"""


def test_a_file_names_keys_and_their_limits(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(FILE)
    alice, bob, ops = read_keys(path)
    assert (alice.name, alice.in_flight, alice.per_minute, alice.admin) == ("alice", 3, 7, False)
    assert (bob.name, bob.in_flight, ops.name, ops.admin) == ("bob.b-2", None, "ops", True)
    assert bob.digest == hashlib.sha256(OTHER.encode()).digest()


@pytest.mark.parametrize(
    "line",
    [USER, f"a b:{USER}", f":{USER}", f"a:{USER} limit=0", f"a:{USER} limit=-1", f"a:{USER} limit=1 limit=2",
     f"a:{USER} limit", f"a:{USER} lim=2", f"a:{USER} admin=1", "a:short", "a:sha256:00", f"a:{USER} limit=99999999",
     sha(USER), f"a:{USER} limit=\u0663"],
)  # fmt: skip
def test_a_line_that_is_wrong_is_told_by_its_number_and_not_quoted(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# first\ngood:{ADMIN}\n{line}\n")
    with pytest.raises(InputError, match="line 3") as refused:
        read_keys(path)
    assert USER not in str(refused.value)


def test_files_that_hold_no_keys_are_refused(tmp_path: Path) -> None:
    for data in (b"", b"# nothing\n\n", b"\xff\xfe", b"a:" + b"x" * 2**20):
        path = tmp_path / "keys"
        path.write_bytes(data)
        with pytest.raises(InputError):
            read_keys(path)
    with pytest.raises(InputError, match="missing is missing; expected a text file with a line name:key"):
        read_keys(tmp_path / "missing")
    with pytest.raises(InputError):
        read_keys(tmp_path)


@pytest.fixture(scope="module")
def keyed() -> Iterator[Any]:
    with opened(**KEYED) as server:
        yield client_of(server)


def session(client: Any, headers: Any) -> Any:
    return client.get("/session", headers=headers)


def test_headers_that_carry_a_key(keyed: Any) -> None:
    for headers in (
        bearer(USER),
        {"authorization": f"bearer   {USER} "},
        {"X-Api-Key": USER},
        {"x-api-key": USER, "authorization": f"Bearer {USER}"},
        {"x-api-key": USER, "authorization": "Basic Zm9vOmJhcg=="},
    ):
        assert session(keyed, headers).json() == {"name": "key-1", "admin": False, "by": "key"}
    assert session(keyed, bearer(ADMIN)).json()["admin"] is True


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("wrong-key-123"),
        bearer(USER[:-1]),
        bearer(f"{USER} {USER}"),
        bearer(f"{USER},{USER}"),
        {"authorization": USER},
        {"authorization": f"Basic {USER}"},
        {"authorization": f"Bearer\t{USER}x"},
        {"x-api-key": ""},
        {"x-api-key": USER, "authorization": f"Bearer {OTHER}"},
        {"x-api-key": "wrong-key-123", "authorization": f"Bearer {USER}"},
        [("authorization", f"Bearer {USER}"), ("authorization", f"Bearer {ADMIN}")],
        {"cookie": f"paddock_session={USER}"},
        {"api-key": USER},
    ],
)
def test_headers_that_carry_none(keyed: Any, headers: Any) -> None:
    response = session(keyed, headers)
    check_refusal(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["code"] == "invalid_api_key"


def test_a_key_in_the_address_is_none(keyed: Any) -> None:
    check_refusal(keyed.get(f"/session?key={USER}&api_key={USER}&access_token={USER}"), 401)


def test_without_keys_only_administration_is_closed(client: Any) -> None:
    assert session(client, {}).json() == {"name": "anybody", "admin": False, "by": "open"}
    for path in ("/v1/admin", "/v1/admin/models", "/v1/admin/nothing"):
        response = client.post(path)
        check_refusal(response, 403)
        assert "--admin-key" in response.json()["error"]["message"]


def test_a_users_key_opens_no_administration(keyed: Any) -> None:
    for path in ("/v1/admin", "/v1/admin/models", "/v1/%61dmin/x"):
        check_refusal(keyed.post(path, headers=bearer(USER)), 403)
        assert keyed.post(path, headers=bearer(ADMIN)).status_code != 403


SECRET = ("key", "digest", "session", "secret", "token", "password", "owner")


def test_no_secret_is_compared_with_an_operator_that_takes_its_time() -> None:
    """`==` ends at the first byte that differs, and so tells how many were right."""
    for module in (access, guards, limits, login, login_route):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(node, ast.Compare) or not any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                continue
            for side in (node.left, *node.comparators):
                names = {part.id for part in ast.walk(side) if isinstance(part, ast.Name)}
                names |= {part.attr for part in ast.walk(side) if isinstance(part, ast.Attribute)}
                lengths = isinstance(side, ast.Call) and isinstance(side.func, ast.Name) and side.func.id == "len"
                found = {name for name in names if any(word in name.lower() for word in SECRET)}
                assert lengths or not found, f"{module.__name__}:{node.lineno} compares {found}"


def test_a_key_is_compared_with_every_one_that_is_known() -> None:
    body = ast.parse(inspect.getsource(Access.owner).lstrip().replace("\n    ", "\n"))
    loops = [node for node in ast.walk(body) if isinstance(node, ast.For)]
    assert len(loops) == 1
    assert not any(isinstance(node, ast.Break | ast.Return | ast.Continue) for node in ast.walk(loops[0]))
    calls = [node.func for node in ast.walk(loops[0]) if isinstance(node, ast.Call)]
    assert [call.attr for call in calls if isinstance(call, ast.Attribute)] == ["compare_digest"]
