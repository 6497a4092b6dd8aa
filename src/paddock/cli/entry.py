"""Where every command begins and ends: streams, errors, exit codes."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from paddock import __version__
from paddock.errors import Interrupted, PaddockError, ResourceError, UsageError

INTERRUPTED = 130
COMPLETE = "_PADDOCK_COMPLETE"  # set by the shell's completion script


def run(argv: Sequence[str] | None = None) -> int:
    """One command line from the first argument to the exit code. Nothing is raised."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    arguments = [a for at, a in enumerate(arguments) if at >= end or a != "--debug"]
    _speak_utf8()
    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")  # a library's advice to programmers is no use to who types a command
        return _guarded(lambda: _dispatch(arguments), debug)


def _dispatch(arguments: list[str]) -> int:
    _check_arguments(arguments)
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if not os.environ.get(COMPLETE):
        if arguments in ([], ["--help"], ["-h"]):
            from paddock.cli.help import screen

            return _say(screen())
        if arguments in (["--version"], ["-V"]):
            return _say(f"paddock {__version__}")
    from paddock.cli.app import execute

    return execute(arguments)


def _say(text: str) -> int:
    sys.stdout.write(text + "\n")
    return 0


def _guarded(command: Callable[[], int], debug: bool) -> int:
    """Runs `command`; whatever goes wrong becomes a line or two on standard error and an exit code."""
    try:
        code = command()
        sys.stdout.flush()
    except Interrupted as error:
        return _refuse(f"{error.what}\n  {error.fix}", error.exit_code, error if debug else None, label="")
    except PaddockError as error:
        return _refuse(str(error), error.exit_code, error if debug else None)
    except KeyboardInterrupt as error:
        return _refuse("interrupted", INTERRUPTED, error if debug else None, label="")
    except BrokenPipeError:
        # Whoever read our output has what they wanted. The stream's own last flush must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MemoryError, RuntimeError, OSError) as error:
        known = _known(error)
        if known is None:
            return _internal(error, debug)
        return _refuse(str(known), known.exit_code, error if debug else None)
    except Exception as error:
        return _internal(error, debug)
    return code


def _known(error: MemoryError | RuntimeError | OSError) -> PaddockError | None:
    """What the machine refused, said as ours; PyTorch reports an allocation that failed as a RuntimeError."""
    from paddock.checkpoint.writing import FULL

    text = str(error)
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        return ResourceError("out of memory", fix="use a smaller model, --dtype bfloat16, or fewer tokens")
    if isinstance(error, OSError) and error.errno is not None:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        return ResourceError(what, fix="free some space") if error.errno in FULL else PaddockError(what)
    return None


def _internal(error: Exception, debug: bool) -> int:
    what = f"internal error: {type(error).__name__}: {error}".splitlines()[0][:500]
    return _refuse(
        f"{what}\n  fix: this is a fault of Paddock; run again with --debug to see where", 1, error if debug else None
    )


def _refuse(text: str, code: int, trace: BaseException | None, label: str = "error: ") -> int:
    from paddock.cli.output import printable

    try:
        if trace is not None:
            traceback.print_exception(trace)
        sys.stdout.flush()
        sys.stderr.write(printable(f"{label}{text}") + "\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _speak_utf8() -> None:
    """Text is UTF-8 whatever the locale says; what cannot be written is spelt with escapes, never an error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the program runs
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _check_arguments(arguments: Sequence[str]) -> None:
    """Bytes that are not UTF-8 reach Python as lone surrogates, which would fail later and less clearly."""
    for place, argument in enumerate(arguments, 1):
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(
                f"argument {place} is not well-formed UTF-8: character {error.start} of {argument!r}",
                fix="write it in UTF-8; a file of such a name can be renamed",
            ) from None
