"""Errors, exit codes, streams: what every command has in common."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from paddock.cli import entry
from paddock.cli.help import VERBS

PROGRAM = [sys.executable, "-c", "import sys; from paddock.cli import main; sys.exit(main())"]


def program(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=120, **options)  # type: ignore


def test_help_is_one_screen_of_every_verb(paddock: Callable) -> None:
    run = paddock("--help")
    assert run.code == 0 and run.err == ""
    lines = run.out.splitlines()
    assert len(lines) <= 54 and max(map(len, lines)) <= 120
    for verb in VERBS.values():
        assert f"  {verb.name} " in run.out and verb.example in run.out
    assert paddock().out == paddock("-h").out == paddock("help").out == run.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_there_and_explains_itself(paddock: Callable, verb: str) -> None:
    run = paddock(verb, "--help")
    assert run.code == 0 and run.err == ""
    assert run.out.lower().startswith(f"usage: paddock {verb}")
    assert paddock("help", verb).out == run.out


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("generate", "--help"), ("template",), ("chta",)])
def test_help_and_usage_errors_import_no_torch_and_no_rich(arguments: tuple[str, ...]) -> None:
    code = (
        f"import sys; from paddock.cli import main; main({list(arguments)!r}); "
        "print([name for name in ('torch', 'rich', 'numpy', 'jinja2', 'tokenizers') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.splitlines()[-1] == "[]", run.stdout


def test_main_help_imports_no_typer() -> None:
    code = "import sys; from paddock.cli import main; main(['--help']); print('typer' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.splitlines()[-1] == "False"


def test_a_group_of_verbs_alone_shows_its_help(paddock: Callable) -> None:
    run = paddock("template")
    assert run.code == 0 and run.err == "" and "render" in run.out
    assert "─" not in run.out, "help is plain text"


def test_version(paddock: Callable) -> None:
    import paddock as package

    assert paddock("--version").out == f"paddock {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["genrate", "x"], "did you mean 'generate'?"),
        (["xyzzy"], "see `paddock --help`"),
        (["generate", "x", "--tempratur", "1"], "did you mean '--temperature'?"),
        (["generate", "x", "--zzz"], "see `paddock generate --help`"),
        (["generate", "x", "--top-k"], "paddock generate"),
        (["generate", "x", "--top-k", "many"], "--top-k"),
        (["show", "a", "b"], "unexpected extra argument"),
        (["--nonsense"], "--nonsense"),
        (["template", "chek"], "chek"),
    ],
)
def test_usage_errors_say_what_and_how(paddock: Callable, arguments: list[str], said: str) -> None:
    run = paddock(*arguments)
    assert run.code == 2 and run.out == ""
    assert run.err.startswith("error: ") and said in run.err
    assert len(run.err.splitlines()) <= 2


def test_lone_surrogates_in_arguments_are_refused(paddock: Callable) -> None:
    run = paddock("generate", "a\udcffb")
    assert run.code == 2 and "UTF-8" in run.err and "argument 2" in run.err


def test_bytes_that_are_no_text_are_refused_for_real() -> None:
    run = subprocess.run([*map(os.fsencode, PROGRAM), b"generate", b"\xff"], capture_output=True, timeout=60)
    assert run.returncode == 2 and b"UTF-8" in run.stderr and b"Traceback" not in run.stderr


def test_debug_shows_the_place_and_the_same_error(paddock: Callable, capfd: pytest.CaptureFixture[str]) -> None:
    run = program("--debug", "show", "./missing.gguf")
    assert run.returncode == 3
    assert "Traceback" in run.stderr and "error: missing.gguf is missing" in run.stderr


def test_what_nobody_foresaw_is_one_line(paddock: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("paddock.cli.listing.ls", broken)
    run = paddock("ls")
    assert run.code == 1
    assert run.err.startswith("error: internal error: ZeroDivisionError: division\n  fix:") and "--debug" in run.err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MemoryError(), 4, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), 4, "out of memory"),
        (OSError(28, "No space left on device"), 4, "No space left"),
        (PermissionError(13, "Permission denied", "x"), 1, "x: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_machine_refuses(
    paddock: Callable, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("paddock.cli.listing.ls", broken)
    run = paddock("ls")
    assert run.code == code and said in run.err and len(run.err.splitlines()) <= 2


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_ends_a_generation_with_130() -> None:
    with started("generate", "Once", "-n", "500") as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == "interrupted\n" and (first + out).endswith("\n")


def test_a_reader_that_leaves_is_no_error() -> None:
    with started("generate", "Once", "-n", "200") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(timeout=120) == 0
        assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_said() -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run([*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert run.returncode == 4 and run.stderr.startswith("error: No space left")


def test_closed_streams_do_no_harm() -> None:
    command = " ".join(map(_quoted, PROGRAM))
    run = subprocess.run(["sh", "-c", f"{command} ls >&-"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and run.stderr == ""


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONUTF8": "0", "LANG": ""}]
)
def test_output_is_utf8_whatever_the_locale(environment: dict[str, str]) -> None:
    run = subprocess.run(
        [*PROGRAM, "help"], capture_output=True, timeout=60, env={"PATH": os.environ["PATH"], **environment}
    )
    assert "naïve".encode() in run.stdout


def test_colours_only_where_they_are_wanted(paddock: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in paddock("tokens", "a b").out
    assert "\x1b[" in paddock("tokens", "a b", terminal=True).out
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b[" not in paddock("tokens", "a b", terminal=True).out
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in paddock("tokens", "a b", terminal=True).out


def test_completion_of_verbs_and_options() -> None:
    def completed(words: str, place: int) -> list[str]:
        extra = {"_PADDOCK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
        run = program(env={**os.environ, **extra})
        assert run.returncode == 0 and run.stderr == ""
        return run.stdout.split()

    assert completed("paddock ge", 1) == ["generate"]
    assert completed("paddock generate --top", 2) == ["--top-k", "--top-p"]
    assert "render" in completed("paddock template ", 2)
    assert set(completed("paddock ", 1)) == set(VERBS)


def test_completion_scripts_can_be_shown() -> None:
    run = program("--show-completion", env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert run.returncode == 2 and "requires an argument" in run.stderr
    run = program("--show-completion", "zsh", env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert run.returncode == 0 and "_PADDOCK_COMPLETE=complete_zsh" in run.stdout


def test_a_message_never_carries_escape_sequences(paddock: Callable) -> None:
    run = paddock("show", "./\x1b[31mred.gguf")
    assert run.code == 3 and "\x1b" not in run.err and "\\x1b[31mred" in run.err


def test_an_error_after_debug_words_for_the_verb(paddock: Callable) -> None:
    """What follows -- belongs to the verb, even if it is spelt --debug."""
    assert entry.run(["tokens", "--json", "--", "--debug"]) == 0
