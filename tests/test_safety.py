"""No code that could run a file's code, reach the network or start a shell; and none that does when it is watched."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import audited

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "paddock"

UNPICKLERS = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
NETWORK = {
    "socket", "ssl", "urllib.request", "urllib3", "http.client", "http.server", "requests", "httpx", "aiohttp",
    "ftplib", "smtplib", "telnetlib", "xmlrpc", "websockets", "huggingface_hub", "webbrowser", "socketserver",
    "uvicorn",
}  # fmt: skip
# Who may: what listens for a server's clients, what speaks to a server that a user named, and `paddock pull`.
NETWORKED = {
    "serve/listening.py": {"socket", "ssl"},
    "serve/run.py": {"socket", "uvicorn"},
    "serve/connections.py": {"uvicorn"},
    "serve/client.py": {"httpx"},
    "serve/exchange.py": {"httpx"},
    "checkpoint/hub/exchange.py": {"httpx"},
    "checkpoint/hub/library.py": {"huggingface_hub"},
}
# Coroutines are no network; these ways out of an event loop are.
WAYS_OUT = {
    "open_connection", "open_unix_connection", "start_server", "start_unix_server", "create_connection", "sock_connect",
    "create_server", "create_unix_connection", "create_unix_server", "create_datagram_endpoint", "subprocess_exec",
    "subprocess_shell", "create_subprocess_exec", "create_subprocess_shell",
}  # fmt: skip
ORACLES = {"transformers", "peft", "gguf", "llama_cpp", "sentence_transformers", "tiktoken"}
BANNED = dict.fromkeys(UNPICKLERS, "unpickles")
BANNED |= dict.fromkeys(NETWORK, "reaches the network")
BANNED |= dict.fromkeys(ORACLES, "is only a test's oracle")
BANNED |= dict.fromkeys(("code", "codeop", "runpy", "pty", "pdb", "imp", "torch.hub", "torch.package"), "runs code")
BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint"}
TEMPLATES = {"Environment", "Template", "NativeEnvironment", "NativeTemplate", "SandboxedEnvironment"}
CALLS = {
    "os.system", "os.popen", "os.startfile", "os.execv", "os.execve", "os.execvp", "os.execl", "os.execlp", "os.spawnv",
    "os.spawnl", "os.spawnlp", "os.posix_spawn", "os.fork", "subprocess.getoutput", "subprocess.getstatusoutput",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "torch.jit.load", "torch.export.load",
    "torch.distributed.checkpoint.load", "numpy.fromregex", "tempfile.mktemp", "shutil.unpack_archive",
}  # fmt: skip
# Modules whose imports are computed; each computes them from its own list.
DYNAMIC = {"model/families/__init__.py", "cli/verb.py"}


class Lint(ast.NodeVisitor):
    """Collects what a module must not do. Names are followed through `import ... as ...`."""

    def __init__(self, dynamic: bool, networked: Collection[str] = ()) -> None:
        self.dynamic, self.networked = dynamic, networked
        self.known: dict[str, str] = {}
        self.found: list[str] = []

    def refuse(self, node: ast.AST, what: str) -> None:
        self.found.append(f"line {getattr(node, 'lineno', 0)}: {what}")

    def full(self, node: ast.AST) -> str:
        """The dotted name an expression stands for, or nothing."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (base := self.full(node.value)):
            return f"{base}.{node.attr}"
        return ""

    def imported(self, node: ast.AST) -> bool:
        """Whether a dotted expression begins with a name that was imported, not with a variable's."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.known

    def check_module(self, node: ast.AST, name: str) -> None:
        parts = name.split(".")
        for banned in (".".join(parts[:i]) for i in range(1, len(parts) + 1)):
            if banned in BANNED and banned not in self.networked:
                self.refuse(node, f"{banned} {BANNED[banned]}")

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.check_module(node, alias.name)
            self.known[alias.asname or alias.name.split(".")[0]] = (
                alias.name if alias.asname else alias.name.split(".")[0]
            )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            if not node.level:
                self.check_module(node, name)
            self.known[alias.asname or alias.name] = name
            if (
                name in CALLS
                or alias.name in WAYS_OUT
                or (str(node.module).startswith("jinja2") and alias.name in TEMPLATES)
            ):
                self.refuse(node, f"imports {name}")

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in BUILTINS and node.id not in self.known and isinstance(node.ctx, ast.Load):
            self.refuse(node, f"uses {node.id}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self.full(node)
        if (
            name in CALLS
            or node.attr in WAYS_OUT | {"extractall"}
            or re.fullmatch(r"builtins\.(eval|exec|compile|__import__)", name)
        ):
            self.refuse(node, f"uses {name or node.attr}")
        elif node.attr in TEMPLATES and name.startswith("jinja2.") and not name.startswith("jinja2.nodes."):
            self.refuse(node, f"uses {name}")
        elif self.imported(node):
            self.check_module(node, name)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if node.value == "trust_remote_code":
            self.refuse(node, "trusts remote code")

    def visit_Call(self, node: ast.Call) -> None:
        name, options = self.full(node.func), {word.arg: word.value for word in node.keywords}
        literal = {key: value.value for key, value in options.items() if isinstance(value, ast.Constant)}
        if name == "torch.load" and literal.get("weights_only") is not True:
            self.refuse(node, "torch.load without a literal weights_only=True")
        if options.get("weights_only") is not None and literal.get("weights_only") is not True:
            self.refuse(node, "weights_only is not True")
        if "shell" in options and literal.get("shell") is not False:
            self.refuse(node, "a shell")
        if "allow_pickle" in options and literal.get("allow_pickle") is not False:
            self.refuse(node, "allow_pickle")
        if "trust_remote_code" in options:
            self.refuse(node, "trusts remote code")
        if name.endswith("import_module"):
            self.check_import(node)
        self.generic_visit(node)

    def check_import(self, node: ast.Call) -> None:
        target = node.args[0] if node.args else None
        if isinstance(target, ast.Constant):
            self.check_module(node, str(target.value))
        elif not self.dynamic:
            self.refuse(node, "imports a module whose name is computed")


def lint(source: str, name: str = "x.py") -> list[str]:
    checker = Lint(name in DYNAMIC, NETWORKED.get(name, ()))
    checker.visit(ast.parse(source))
    return checker.found


def test_the_source_does_none_of_it() -> None:
    paths = sorted(SRC.rglob("*.py"))
    assert len(paths) > 50
    found = {
        path.relative_to(SRC).as_posix(): lint(path.read_text("utf-8"), path.relative_to(SRC).as_posix())
        for path in paths
    }
    assert {name: lines for name, lines in found.items() if lines} == {}


def bad() -> Iterator[str]:
    """One snippet per rule, most of them in disguise."""
    for module in sorted(BANNED):
        yield f"import {module}"
        yield f"def f():\n    import {module} as harmless"
        yield f"from {module} import anything"
        yield f"import importlib\nimportlib.import_module({module!r})"
    yield from (f"f = {name}" for name in sorted(BUILTINS))
    yield from (f"import asyncio\nasyncio.{name}(x)" for name in sorted(WAYS_OUT))
    yield from (f"loop.{name}(x)" for name in sorted(WAYS_OUT))
    yield from (f"from asyncio import {name}" for name in sorted(WAYS_OUT))
    yield from ("import builtins\nbuiltins.eval('1')", "import builtins as b\nb.exec('1')")
    yield from (f"import {name.rpartition('.')[0]}\n{name}(x)" for name in sorted(CALLS))
    yield from (f"from {name.rpartition('.')[0]} import {name.rpartition('.')[2]} as f" for name in sorted(CALLS))
    yield from (f"from jinja2 import {name}" for name in sorted(TEMPLATES))
    yield from ("import jinja2\njinja2.Environment()", "import jinja2 as j\nj.Template('x')")
    yield "from jinja2.sandbox import SandboxedEnvironment"
    yield from ("import os as o\no.system('x')", "from os import system as s")
    yield from ("import torch\ntorch.load(p)", "import torch\ntorch.load(p, weights_only=False)")
    yield from (
        "import torch\ntorch.load(p, weights_only=flag)",
        "import torch as t\nt.load(p)",
        "from torch import load\nload(p)",
    )
    yield from ("load(p, weights_only=False)", "load(p, weights_only=0)")
    yield from ("run(x, shell=True)", "run(x, shell=flag)", "import numpy\nnumpy.load(p, allow_pickle=True)")
    yield from ("archive.extractall()", "import tarfile\ntarfile.open(p).extractall(q)")
    yield from (
        "load(p, trust_remote_code=True)",
        "load(p, trust_remote_code=False)",
        "options['trust_remote_code'] = True",
    )
    yield from ("import importlib\nimportlib.import_module(name)", "from importlib import import_module as f\nf(name)")
    yield from ("import torch\ntorch.hub.load('x')", "import urllib\nurllib.request.urlopen('x')")


@pytest.mark.parametrize("source", sorted(set(bad())))
def test_each_rule_sees_what_it_is_for(source: str) -> None:
    assert lint(source)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import re\nre.compile('x')",
        "import torch\ntorch.load(p, weights_only=True)",
        "import pickletools",
        "from jinja2.sandbox import ImmutableSandboxedEnvironment",
        "from jinja2 import nodes\nnodes.Template",
        "import subprocess\nsubprocess.run([x], shell=False)",
        "import yaml\nyaml.safe_load(x)",
        "import urllib.parse",
        "import json\njson.load(f)",
        "import importlib\nimportlib.import_module('paddock.model')",
        "import asyncio\nasyncio.to_thread(f)",
        "code = f()\ncode.real",
        "class A:\n    def compile(self): self.exec()",
    ],
)
def test_the_rules_let_the_rest_pass(source: str) -> None:
    assert lint(source) == []


def test_loading_and_writing_touch_nothing_outside(tmp_path: Path) -> None:
    bundled = SRC / "models" / "stories260K"
    if not bundled.is_dir():
        pytest.fail("the bundled model is missing")
    for name in ("warm up", "watched"):
        shutil.copytree(bundled, tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    found = audited.audit("acts:load_and_write", [tmp_path / "warm up", tmp_path / "watched"])
    assert found["watched"] == ("accepted", [])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_watch_is_not_blind(tmp_path: Path) -> None:
    for name in ("warm up", "watched"):
        (tmp_path / name).mkdir()
    (tmp_path / "warm up" / "trace").touch()
    outcome, events = audited.audit("acts:look_around", [tmp_path / "warm up", tmp_path / "watched"])["watched"]
    assert outcome == "accepted"
    assert {event.split()[0] for event in events} >= {"open", "compile", "exec"}


ADDRESS = r"\w+://(?!127\.0\.0\.1[:/]|\w+\.example\.org\b)[^\s\"']+"


# The one address that is asked: where `paddock pull` goes when HF_ENDPOINT names no other place. The others are only
# written down: SVG's namespace, the home of the lists that `paddock catalog import` reads, the source of a table.
KNOWN = {
    "settings.py: https://huggingface.co",
    "drawing.py: http://www.w3.org/2000/svg",
    "chart.py: https://github.com/shm007g/LLaMA-Cult-and-More",
    "ecosystem.py: https://github.com/stanford-crfm/ecosystem-graphs",
    "chatglm.py: https://github.com/THUDM/ChatGLM-6B",
}


def test_nothing_phones_home() -> None:
    """Addresses in the source are sources of facts, in docstrings and comments, never strings that are used; but for
    this machine's own, the ones that stand for a user's in an example, and those of KNOWN."""
    found = []
    for path in sorted(SRC.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        owners = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef) and n.body]
        documented = {id(owner.body[0].value) for owner in owners if isinstance(owner.body[0], ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
                found += [f"{path.name}: {address}" for address in re.findall(ADDRESS, node.value)]
    assert set(found) - KNOWN == set()
