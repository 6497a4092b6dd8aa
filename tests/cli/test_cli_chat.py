"""`paddock chat`, from a pipe and at a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.cli import chatting
from paddock.cli.conversation import Conversation, Said
from paddock.cli.loaded import Loaded
from paddock.errors import ResourceError, UsageError


def test_the_bundled_model_goes_on_with_the_story(paddock: Callable) -> None:
    run = paddock("chat", "-n", 6, stdin="Once upon\nAnd\n")
    first, second = run.out.splitlines()
    assert run.code == 0 and first == " a time, there was a"
    assert "only stories" in run.err and second
    whole = paddock("generate", "Once upon" + first + " And", "-n", 6).out
    assert whole == second + "\n", "the second turn continues the whole text"


def test_turns_go_through_the_template_with_their_history(paddock: Callable, talker: Path) -> None:
    run = paddock("chat", talker, "--system", "Be kind.", "-n", 5, "--temp", 0, stdin="Hi\nBye\n")
    answers = run.out.splitlines()
    assert run.code == 0 and len(answers) == 2 and "chat_template.jinja" in run.err
    prompt = f"system: Be kind.\nuser: Hi\nassistant: {answers[0]}\nuser: Bye\nassistant:"
    assert paddock("generate", prompt, "-m", talker, "-n", 5).out.splitlines()[0] == answers[1] or answers[0][0] != " "


def test_a_model_without_a_template_is_refused_before_its_weights_are_read(
    paddock: Callable, storyteller: Path
) -> None:
    run = paddock("chat", storyteller, stdin="Hi\n")
    assert run.code == 3 and run.out == ""
    assert "has no chat template" in run.err and "--template none" in run.err and "paddock template ls" in run.err
    assert paddock("chat", storyteller, "--template", "none", "-n", 3, stdin="Once\n").out == " upon a time\n"
    assert paddock("chat", storyteller, "--template", "llama-2", "-n", 3, stdin="Once\n").code == 0
    missing = paddock("chat", storyteller, "--template", "lama-2", stdin="Once\n")
    assert missing.code == 3 and "llama-2" in missing.err


def test_an_encoder_decoder_answers_each_line_alone(paddock: Callable, t5: Path) -> None:
    run = paddock("chat", t5, "--template", "none", "-n", 4, "--temp", 0, stdin="one\none\n")
    first, second = run.out.splitlines()
    assert first == second and "by itself" in run.err


def test_an_encoder_cannot_chat(paddock: Callable, bert: Path) -> None:
    assert paddock("chat", bert, "--template", "none", stdin="Hi\n").code == 3


def test_commands(paddock: Callable, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    script = f"""/help
/set max_tokens=4
/set temperature=0
Once upon
/tokens
/settings
/retry
/save {saved}
/undo
/undo
/reset
/load {saved}
/tokens
/exit
never said
"""
    run = paddock("chat", stdin=script)
    assert run.code == 0, run.err
    assert run.out == " a time, there\n" * 2
    for said in ("/save FILE", "7 tokens of 512", "temperature", "(taken back: Once upon)", "(nothing to take back)"):
        assert said in run.err, said
    assert "(2 messages)" in run.err and run.err.count("7 tokens of 512") == 2
    record = json.loads(saved.read_text())
    assert record["messages"] == [
        {"role": "user", "content": "Once upon"},
        {"role": "assistant", "content": " a time, there"},
    ]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("/rety", 2, "did you mean '/retry'?"),
        ("/xyzzy", 2, "//"),
        ("/set temprature=1", 2, "did you mean 'temperature'?"),
        ("/set temperature=hot", 2, "temperature"),
        ("/set temperature", 2, "KEY=VALUE"),
        ("/set max_tokens=x", 2, "whole number"),
        ("/save", 2, "/save FILE"),
        ("/load ./missing.json", 3, "missing.json"),
        ("/system Be kind.", 2, "no system message"),
        ("/retry", 2, "nothing to answer"),
        (b"\xff\xfe", 3, "UTF-8"),
        ("word " * 600, 2, "/reset begins afresh"),
    ],
)
def test_from_a_pipe_the_first_error_ends_it(paddock: Callable, line: str | bytes, code: int, said: str) -> None:
    given = line if isinstance(line, bytes) else line.encode()
    run = paddock("chat", "-n", 3, stdin=given + b"\nOnce\n")
    assert run.code == code and said in run.err and run.out == ""


@pytest.mark.parametrize(
    "content",
    ["{", "[1]", '{"messages": 3}', '[{"role": "robot", "content": "x"}]', "[" * 100_000, '[{"role": "user"}]'],
)
def test_files_that_hold_no_conversation(paddock: Callable, tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    run = paddock("chat", stdin=f"/load {tmp_path / 'bad.json'}\n")
    assert run.code == 3 and "bad.json" in run.err


def test_messages_of_several_lines_and_with_a_slash(paddock: Callable, talker: Path, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    script = f'"""\none\ntwo\n"""\n//slash\n/save {saved}\n'
    assert paddock("chat", talker, "-n", 2, stdin=script).code == 0
    said = [m["content"] for m in json.loads(saved.read_text())["messages"] if m["role"] == "user"]
    assert said == ["one\ntwo", "/slash"]


def test_a_full_context_is_said_with_numbers_and_nothing_is_cut(paddock: Callable) -> None:
    run = paddock("chat", "-n", 150, stdin="Once\nAnd then\nAnd then\nAnd then\n")
    assert run.code == 2
    assert "at most 512 tokens" in run.err and "/reset begins afresh" in run.err


def test_what_does_not_fit_is_not_kept() -> None:
    import paddock as package

    talk = Conversation(Loaded(package.load(), plain=True))
    with pytest.raises(UsageError):
        list(talk.answer("word " * 600))
    assert talk.messages == []


def test_an_answer_cut_short_stays_in_the_conversation() -> None:
    import paddock as package

    talk = Conversation(Loaded(package.load(), plain=True))
    answer = talk.answer("Once")
    next(answer)
    answer.close()
    assert [message["role"] for message in talk.messages] == ["user", "assistant"]
    assert talk.messages[1]["content"] == " upon"
    assert talk.undo() == "Once" and talk.messages == []


class Failing:
    """Pieces of an answer that ends in an error."""

    def __init__(self, texts: list[str], error: BaseException) -> None:
        self.texts, self.error = texts, error

    def __iter__(self) -> Iterator[Said]:
        for text in self.texts:
            yield Said(text)
        raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("error", [ResourceError("out of memory"), RuntimeError("a fault"), KeyboardInterrupt()])
@pytest.mark.parametrize(("texts", "kept"), [([], []), ([" upon"], ["Once", " upon"])])
def test_an_answer_that_fails_leaves_no_empty_turn(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, texts: list[str], kept: list[str]
) -> None:
    import paddock as package

    talk = Conversation(Loaded(package.load(), plain=True))
    monkeypatch.setattr(talk, "_start", lambda: Failing(texts, error))
    with pytest.raises(type(error)):
        list(talk.answer("Once"))
    assert [message["content"] for message in talk.messages] == kept


def test_ctrl_c_while_printing_ends_the_answer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import paddock as package

    def interrupted(text: str) -> None:
        if text != "\n":
            raise KeyboardInterrupt

    talk = Conversation(Loaded(package.load(), plain=True))
    monkeypatch.setattr(chatting.output, "piece", interrupted)
    held = []
    answer = Conversation.answer

    def hold(self: Conversation, text: str) -> Any:
        held.append(answer(self, text))  # as whoever holds a reference would keep it from being closed
        return held[-1]

    monkeypatch.setattr(Conversation, "answer", hold)
    chat = chatting.Chat(talk, 0.0, verbose=False)
    chat.interactive = True
    chat._answer("Once")
    assert [message["content"] for message in talk.messages] == ["Once", " upon"]


class Typist:
    """Somebody at a real (pseudo) terminal."""

    def __init__(self, *arguments: str) -> None:
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            code = "import sys; from paddock.cli import main; sys.exit(main())"
            os.execv(sys.executable, [sys.executable, "-c", code, *arguments])
        self.seen = ""

    def until(self, text: str, seconds: float = 60) -> str:
        """What appeared since the last call, up to and with `text`."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.seen += os.read(self.terminal, 4096).decode("utf-8", "replace")
        found, _, self.seen = self.seen.partition(text)
        return found + text

    def interrupt(self, text: str) -> None:
        """Ctrl-C until `text` appears: Python hears one that comes just before it waits for a key with the next key."""
        for _ in range(10):
            self.type("\x03")
            with contextlib.suppress(AssertionError):
                self.until(text, 6)
                return
        raise AssertionError(self.seen)

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def leave(self) -> int:
        while True:
            try:
                if not os.read(self.terminal, 4096):
                    break
            except OSError:  # the other end is closed
                break
        status = os.waitpid(self.child, 0)[1]
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status)


def test_at_a_terminal_ctrl_c_stops_the_answer_and_not_the_program() -> None:
    typist = Typist("chat", "-n", "480")
    typist.until(">>> ")
    typist.type("/set min_new_tokens=470\r")  # a story that is over before the test hears of it cannot be stopped
    typist.until(">>> ")
    typist.type("Once upon a time\r")
    typist.until(" was")
    os.kill(typist.child, signal.SIGINT)
    typist.until("stays in the conversation)")
    typist.until(">>> ")
    typist.type("/nonsense\r")
    typist.until("there is no command /nonsense")
    typist.until(">>> ")
    typist.type("/undo\r")
    typist.until("(taken back: Once upon a time)")
    typist.until(">>> ")
    typist.type("\x04")
    assert typist.leave() == 0


def test_at_a_terminal_two_ctrl_c_leave() -> None:
    typist = Typist("chat")
    typist.until(">>> ")
    typist.interrupt("Ctrl-C again")
    typist.until(">>> ")
    with contextlib.suppress(OSError):  # gone, as it should be
        typist.interrupt("interrupted")
    assert typist.leave() == 130
