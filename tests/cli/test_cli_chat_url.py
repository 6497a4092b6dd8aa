"""`paddock chat --url`: the same conversation, with a model that a server runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_server import running

from paddock.cli.conversation import Conversation
from paddock.cli.remote import Remote
from paddock.serve.client import Client
from paddock.serve.settings import Named, Settings

TALK = ["--system", "Be kind.", "-n", 5, "--temp", 0]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, talker: Path, storyteller: Path, bert: Path, t5: Path) -> Any:
    models = {"talker": talker, "storyteller": storyteller, "bert": bert, "t5": t5}
    named = (*(Named(name, str(path)) for name, path in models.items()), Named("bundled", None))
    with running(Settings(models=named)) as (_, address):
        yield address


def test_it_says_what_the_model_says_here(paddock: Callable, address: str, talker: Path) -> None:
    here = paddock("chat", talker, *TALK, stdin="Hi\nBye\n")
    there = paddock("chat", "--url", address, *TALK, stdin="Hi\nBye\n")
    assert there.code == 0, there.err
    assert there.out == here.out and len(there.out.splitlines()) == 2
    assert f"talker at {address}" in there.err and "chat_template.jinja" in there.err


def test_a_drawn_answer_and_a_stop_are_the_same_too(paddock: Callable, address: str, talker: Path) -> None:
    drawn = ["-n", 12, "--temp", 1, "--top-k", 20, "--seed", 3, "--stop", "e "]
    here = paddock("chat", talker, *drawn, stdin="Hi\n")
    assert paddock("chat", "--url", f"{address}/v1", "-m", "talker", *drawn, stdin="Hi\n").out == here.out


def test_a_model_without_turns_goes_on_as_it_does_here(paddock: Callable, address: str) -> None:
    here = paddock("chat", "-n", 6, stdin="Once upon\nAnd\n")
    there = paddock("chat", "--url", address, "-m", "bundled", "-n", 6, stdin="Once upon\nAnd\n")
    assert there.out == here.out and there.code == 0, there.err
    refused = paddock("chat", "--url", address, "-m", "storyteller", stdin="Once\n")
    assert refused.code == 3 and "--template none" in refused.err
    plain = paddock("chat", "--url", address, "storyteller", "--template", "none", "-n", 3, stdin="Once\n")
    assert plain.out == " upon a time\n"


def test_commands(paddock: Callable, address: str, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    script = f"""/set max_tokens=4
/set temperature=0
Once upon
/tokens
/settings
/retry
/save {saved}
/undo
/load {saved}
/exit
"""
    run = paddock("chat", "--url", address, "-m", "bundled", stdin=script)
    assert run.code == 0, run.err
    assert run.out == " a time, there\n" * 2
    for said in ("7 tokens of 512", "temperature", "request", "(taken back: Once upon)", "(2 messages)"):
        assert said in run.err, said
    record = json.loads(saved.read_text())
    assert record["model"] == f"bundled at {address}" and len(record["messages"]) == 2
    counted = paddock("chat", "--url", address, "-m", "talker", "-n", 3, stdin="Hi\n/tokens\n")
    assert "tokens of 512" in counted.err


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("/set temprature=1", 2, "did you mean 'temperature'?"),
        ("/set temperature=hot", 2, "temperature"),
        ("/set temperature=-1", 2, "temperature"),
        ("/system Be kind.", 2, "no system message"),
        ("word " * 600, 2, "/reset begins afresh"),
    ],
)
def test_the_first_error_ends_it(paddock: Callable, address: str, line: str, code: int, said: str) -> None:
    run = paddock("chat", "--url", address, "-m", "bundled", "-n", 3, stdin=f"{line}\nOnce\n")
    assert run.code == code and said in run.err and run.out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-m", "gpt-9"], 1, "gpt-9"),
        (["-m", "bert"], 3, "does not write"),
        (["-m", "talker", "--dtype", "float32"], 2, "--dtype"),
        (["-m", "talker", "--template", "llama-2"], 2, "--template"),
        (["talker", "-m", "bundled"], 2, "two models"),
        (["-m", "talker", "--top-p", 3], 2, "top_p"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_of_a_server(
    paddock: Callable, address: str, arguments: list[Any], code: int, said: str
) -> None:
    run = paddock("chat", "--url", address, *arguments, stdin="Hi\n")
    assert run.code == code and said in run.err and run.out == ""


def test_no_server_is_said_with_its_address(paddock: Callable) -> None:
    run = paddock("chat", "--url", "http://127.0.0.1:1", stdin="Hi\n")
    assert run.code == 1 and "http://127.0.0.1:1" in run.err and "paddock serve" in run.err
    assert paddock("chat", "--url", "nowhere", stdin="Hi\n").code == 2


def test_an_encoder_decoder_answers_each_line_alone(paddock: Callable, address: str) -> None:
    run = paddock("chat", "--url", address, "-m", "t5", "--template", "none", "-n", 4, "--temp", 0, stdin="one\none\n")
    first, second = run.out.splitlines()
    assert first == second and "by itself" in run.err


def test_times_are_the_server_s(paddock: Callable, address: str) -> None:
    run = paddock("chat", "--url", address, "-m", "talker", "-n", 5, "-v", stdin="Hi\n")
    assert "prompt" in run.err and "decode" in run.err and "load" not in run.err


def test_an_answer_cut_short_stays_and_ends_at_the_server(address: str) -> None:
    with Client(address, model="bundled") as client:
        talk = Conversation(Remote(client, plain=True), {"temperature": 0}, max_tokens=400)
        answer = talk.answer("Once")
        first = next(answer).text
        answer.close()
        assert [message["content"] for message in talk.messages] == ["Once", first]
        assert talk.undo() == "Once" and talk.messages == []


@pytest.fixture(scope="module")
def keyed(talker: Path) -> Iterator[str]:
    with running(Settings(models=(Named("talker", str(talker)),), api_keys=("open-sesame-0123456789",))) as (
        _,
        address,
    ):
        yield address


def test_the_key_comes_from_the_environment_or_an_option(
    paddock: Callable, keyed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = paddock("chat", "--url", keyed, stdin="Hi\n")
    assert refused.code == 1 and "PADDOCK_API_KEY" in refused.err
    given = paddock("chat", "--url", keyed, "--api-key", "open-sesame-0123456789", "-n", 3, stdin="Hi\n")
    assert given.code == 0, given.err
    monkeypatch.setenv("PADDOCK_API_KEY", "open-sesame-0123456789")
    assert paddock("chat", "--url", keyed, "-n", 3, stdin="Hi\n").out == given.out


def test_it_needs_no_pytorch(address: str) -> None:
    code = (
        "import sys; from paddock.cli import main; "
        f"main(['chat', '--url', {address!r}, '-m', 'talker', '-n', '2']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b"Hi\n", capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stdout, done.stderr
