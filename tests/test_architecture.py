"""The shape of the repository: who may import whom, what is public, how long things may be, what is explained."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import paddock

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "paddock"
MODULES = sorted(SRC.rglob("*.py"))
# fmt: off
VERBS = (
    "pretrain", "finetune", "align", "synthesize", "distill", "quantize", "evaluate", "bench", "serve",
    "retrieve", "guard", "apps", "vision",
)
# fmt: on
NOUNS = [
    "errors",
    "child_process",
    "kernels",
    "model",
    "checkpoint",
    "tokenizer",
    "data",
    "training",
    "engine",
    "catalog",
]
LEVELS = {room: level for level, room in enumerate(NOUNS)} | dict.fromkeys(VERBS, len(NOUNS)) | {"cli": len(NOUNS) + 1}
LEVELS["__main__"] = len(NOUNS) + 2
LONGEST_FILE, LONGEST_FUNCTION = 400, 70
LONGER: dict[str, str] = {}  # "file" or "file::function", and why it cannot be shorter


def room(module: str) -> str:
    """The room of a dotted name: "paddock.model.spec" lies in "model"."""
    return (module + ".").split(".")[1]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str, list[str]]]:
    """Line, module and names of every import of a Paddock module, those by importlib and inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: None if is_package and node.level == 1 else -node.level] if node.level else []
            parent = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, parent, [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((node.lineno, str(name.value), []) for name in node.args if isinstance(name, ast.Constant))


def breaches(source: str, module: str, is_package: bool = False) -> list[str]:
    """Imports from a room above, from a room beside among the verbs, and of another room's private names."""
    found = []
    own = room(module)
    for line, target, names in imports(ast.parse(source), module, is_package):
        if target.split(".")[0] != "paddock":
            continue
        targets = [f"{target}.{name}" for name in names] if target == "paddock" else [target]
        for other in (room(name) for name in targets):
            if other not in LEVELS:
                continue
            if own != other and LEVELS[other] >= LEVELS[own]:
                found.append(f"{module}:{line} imports {other}, which is not below {own}")
            if own != other and any(name.startswith("_") for name in [*names, *target.split(".")]):
                found.append(f"{module}:{line} imports a private name of {other}")
    return found


def test_imports_point_one_way() -> None:
    found = []
    for path in MODULES:
        if path != SRC / "__init__.py":  # the front door, which opens on what is asked for
            found += breaches(path.read_text(encoding="utf-8"), dotted(path), path.name == "__init__.py")
    assert found == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from paddock.checkpoint import folder", "paddock.model.spec"),
        ("import paddock.engine.sampler", "paddock.tokenizer.load"),
        ("from paddock import engine", "paddock.checkpoint.folder"),
        ("def f():\n    from paddock.cli import run", "paddock.engine.generate"),
        ("import importlib\nimportlib.import_module('paddock.engine.generate')", "paddock.model.spec"),
        ("from paddock.serve import routes", "paddock.evaluate.suite"),
        ("from ..checkpoint import folder", "paddock.model.spec"),
        ("from ...checkpoint.folder import write", "paddock.model.families.llama"),
        ("from paddock.model.config import _short", "paddock.checkpoint.folder"),
        ("from paddock.model._hidden import x", "paddock.checkpoint.folder"),
        ("from paddock.kernels import linear", "paddock.errors"),
    ],
)
def test_the_rule_sees_each_kind_of_import(source: str, module: str) -> None:
    assert breaches(source, module)


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from paddock.model import spec", "paddock.checkpoint.folder"),
        ("from paddock.model.config import _short", "paddock.model.families.llama"),
        ("from . import spec\nfrom .config import Config", "paddock.model.rules"),
        ("import torch, json\nfrom paddock import __version__", "paddock.model.spec"),
        ("from paddock.engine import generate", "paddock.cli.run"),
    ],
)
def test_the_rule_lets_the_rest_pass(source: str, module: str) -> None:
    assert breaches(source, module) == []


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {dotted(path).split(".")[1] for path in MODULES if path.parent != SRC}
    assert rooms - LEVELS.keys() == set()


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(paddock.__all__) == ["Client", "LanguageModel", "__version__", "load"]
    assert all(getattr(paddock, name) is not None for name in paddock.__all__)
    assert dir(paddock) == sorted(paddock.__all__)


def too_long(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    if (lines := text.count("\n")) > LONGEST_FILE and name not in LONGER:
        yield f"{name} has {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > LONGEST_FUNCTION and f"{name}::{node.name}" not in LONGER:
                yield f"{name}::{node.name} has {length} lines"


def test_files_and_functions_can_be_read_in_one_sitting() -> None:
    assert [line for path in MODULES for line in too_long(path)] == []


def test_every_dependency_is_explained_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = {re.split(r"[^A-Za-z0-9._-]", item)[0] for item in wanted} - {"paddock"}
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| *([^|]+?) *\|", page, re.MULTILINE)
    explained = {name for cell in cells for name in re.split(r", *", cell)} - {"package"}
    explained = {name for name in explained if not set(name) <= set("-: ")}
    assert (names - explained, explained - names) == (set(), set())


def repository() -> list[Path]:
    """Every file that is or will be in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


# Split, so that this file does not speak of what it forbids.
PRIVATE = re.compile(
    r"(?<![\w.~-])/" r"(work|root|tmp/v)\b|(?<![\w.])/(home|Users)/" r"\w+|"
    r"py" r"pi\.org|python" r"hosted\.org|registry\.npm" r"js|repo\.ana" r"conda|--index" r"-url|--extra-index" r"-url"
)  # fmt: skip


def test_nothing_names_this_machine_or_a_package_registry() -> None:
    found = []
    for path in repository():
        data = path.read_bytes()
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if match := PRIVATE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


SPOKEN = (
    "see /" "work/main", "cd /" "root", "'/home/" "someone/x'", "https://py" "pi.org/simple",
    "files.python" "hosted.org", "pip install --index" "-url x",
)  # fmt: skip


@pytest.mark.parametrize("text", SPOKEN)
def test_the_pattern_sees_each_of_them(text: str) -> None:
    assert PRIVATE.search(text)


@pytest.mark.parametrize("text", ["a/work/b", "the root of it", "~/work/x", "https://example.org/work/x", "homework/"])
def test_the_pattern_lets_the_rest_pass(text: str) -> None:
    assert not PRIVATE.search(text)


def test_every_test_file_has_a_name_of_its_own() -> None:
    """pytest imports test files by their bare names: two of one name stop the whole run, and only the whole run."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_nothing_that_trains_asks_what_time_of_day_it_is() -> None:
    """A clock that is set while a run goes on changes nothing: durations come from monotonic clocks."""
    asking = re.compile(r"\b(time\.time|time_ns|datetime\.(now|utcnow|today)|date\.today|localtime|gmtime|strftime)\b")
    rooms = {"training", "pretrain", "finetune", "data", "model", "kernels"}
    found = [
        p for p in MODULES if p.relative_to(SRC).parts[0] in rooms and asking.search(p.read_text(encoding="utf-8"))
    ]
    assert not found
    assert asking.search("started = time.time()")
