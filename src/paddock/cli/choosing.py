"""What `paddock catalog which` does: asks what is not said, ranks, and tells why."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

from paddock.catalog import choosing, languages, running
from paddock.catalog.catalogue import catalogue
from paddock.catalog.choosing import Candidate, Choice, Question
from paddock.catalog.filters import one_of
from paddock.catalog.fit import budget
from paddock.catalog.schema import Task
from paddock.cli import catalogprint, output
from paddock.errors import UsageError

Value = TypeVar("Value")
TERMS = ("commercial", "any")


def which(
    task: str | None,
    language: str | None,
    licence: str | None,
    memory: str | None,
    context: int | None,
    runnable: bool,
    top: int,
    json: bool,
) -> None:
    one_of("licence", licence, TERMS)
    if (
        task is None
        and (language, licence, memory, context) == (None,) * 4
        and not runnable
        and _can_ask()
        and not json
    ):
        question = _ask()
    elif task is None:
        raise UsageError("nothing says what the model is for", expected=f"--task {', '.join(get_args(Task))}")
    else:
        question = Question(
            task,
            running.free() if memory is None else budget.parse(memory),
            None if language is None else languages.code(language),
            licence == "commercial",
            context,
            runnable,
        )
    choice = choosing.choose(catalogue(), question, running.fits)
    if json:
        output.as_json(_record(choice, top))
        return
    output.painted_result(_text(choice, top))


def _can_ask() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask() -> Question:
    """One question after the other; an empty answer is what stands in brackets."""
    free = running.free()
    tasks = get_args(Task)
    task = _asked(f"What is it for ({', '.join(tasks)})", "chat", _task)
    language = _asked("In which language, by its code or its English name", "any", _language)
    commercial = _asked("For commercial use (yes, no)", "no", _yes)
    memory = _asked("With how much memory, such as 8GB", f"{free / 1e9:.1f}GB, free now", _memory(free))
    context = _asked("For texts of how many tokens", "whatever", _context)
    return Question(task, memory, language, commercial, context)


def _asked(text: str, default: str, read: Callable[[str], Value]) -> Value:
    """An answer as `read` takes it; what it refuses is asked again. Raises UsageError where answers end."""
    while True:
        sys.stderr.write(f"{text} [{default}]: ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise UsageError("the answers ended", fix="`paddock catalog which --help` shows what may be given at once")
        try:
            return read(line.strip() or default)
        except UsageError as error:
            output.note(str(error))


def _task(answer: str) -> str:
    one_of("task", answer, get_args(Task))
    return answer


def _language(answer: str) -> str | None:
    return None if answer == "any" else languages.code(answer)


def _yes(answer: str) -> bool:
    word = answer.lower()
    if word not in ("yes", "y", "no", "n"):
        raise UsageError(f"the answer is {answer[:60]!r}", expected="yes or no")
    return word.startswith("y")


def _memory(free: int) -> Callable[[str], int]:
    return lambda answer: free if answer.endswith("free now") else budget.parse(answer)


def _context(answer: str) -> int | None:
    if answer == "whatever":
        return None
    digits = answer.replace(",", "")
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:12]) <= 10**9):
        raise UsageError(f"the answer is {answer[:60]!r}", expected="a number of tokens, such as 4096")
    return int(digits)


def _text(choice: Choice, top: int) -> str:
    parts = [catalogprint.heading(_said(choice.question))]
    models = choice.by_model
    for place, sizes in enumerate(models[:top], 1):
        parts.append(_paragraph(place, sizes))
    if not models:
        parts.append("no size in the catalogue is for that")
    elif len(models) > top:
        parts.append(f"{len(models) - top} more models would do; --top {len(models)} shows all")
    if choice.ruled_out:
        rows = [[f"{count}", reason] for reason, count in choice.ruled_out.items()]
        parts.append(catalogprint.heading("sizes ruled out") + "\n" + output.table(rows, right=(0,), indent=2))
    if models:
        parts.append("(an advantage of 1 is worth a model of twice the size; docs/catalogue.md has the formula)")
    return "\n\n".join(parts)


def _said(question: Question) -> str:
    told = [question.task]
    told += [languages.called(question.language)] if question.language is not None else []
    told += ["commercial use"] if question.commercial else []
    told += ["run by Paddock"] if question.runnable else []
    told += [f"{question.memory / 1e9:.1f} GB"]
    told += [f"texts of {question.context:,} tokens"] if question.context is not None else []
    return ", ".join(told)


def _paragraph(place: int, sizes: Sequence[Candidate]) -> str:
    """The best size of a model with its reasons, and what its others came to."""
    best = sizes[0]
    columns = catalogprint.width() - 11
    rows = []
    for reason in best.reasons:
        points = f"{reason.points:+6.2f}" if reason.points else ""
        rows += [[points if not i else "", line] for i, line in enumerate(textwrap.wrap(reason.text, columns))]
    if len(sizes) > 1:
        others = ", ".join(f"{one.size.name} {one.score:.2f}" for one in sizes[1:])
        rows.append(["", f"its other sizes: {others}"])
    head = catalogprint.heading(f"{place}. {best.found.name}  {best.score:.2f}")
    return head + "\n" + output.table(rows, right=(0,), indent=3)


def _record(choice: Choice, top: int) -> dict[str, Any]:
    return {
        "question": choice.question,
        "models": [[_candidate(one) for one in sizes] for sizes in choice.by_model[:top]],
        "found": len(choice.by_model),
        "ruled_out": choice.ruled_out,
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    return {
        "name": one.found.name,
        "model": one.model.id,
        "size": one.size.name,
        "hub": one.size.hub,
        "score": one.score,
        "fit": one.fit,
        "reasons": one.reasons,
    }
