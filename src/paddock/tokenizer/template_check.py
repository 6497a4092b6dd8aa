"""Is this chat template sound, and does it go with this tokenizer?

Most broken chats are one of a few silent faults: two BOS tokens, an end of turn that nothing stops on, a generation
prompt that training never saw, a message left out, a `</s>` that is five characters instead of a token. Each check
renders a small conversation and looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from paddock.errors import PaddockError, TemplateError
from paddock.tokenizer.chat import control_texts, encode_chat, role_texts, stops
from paddock.tokenizer.template import Template
from paddock.tokenizer.tokenizer import Tokenizer

Level = Literal["ok", "warn", "fail"]
SYSTEM, QUESTION, ANSWER, QUESTION2 = "Be brief-Sx7.", "First-Qx7?", "Answer-Ax7.", "Second-Qy8?"
LOOKS_LIKE_CONTROL = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</?s>|\[/?INST\]|\[gMASK\]|<[se]op>|<eo[a-z]>"
)
MAX_SPELLINGS = 64
TOOL = {
    "type": "function",
    "function": {
        "name": "look-Tx7",
        "description": "Looks.",
        "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
    },
}


@dataclass(frozen=True)
class Finding:
    """One result. `about`: what was looked at. `fix`: what the user can do where the level is not ok."""

    level: Level
    about: str
    text: str
    fix: str | None = None


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def check(template: Template, tokenizer: Tokenizer | None = None) -> list[Finding]:
    """All findings, the checks that need ids only where a tokenizer is given. Raises nothing a template can cause."""
    checker = Checker(template, tokenizer)
    first = checker.try_render([user(QUESTION)])
    if isinstance(first, TemplateError):
        fix = first.fix or "correct the template, or name another with --template"
        return [Finding("fail", "render", f"one user message cannot be rendered: {first.what}", fix)]
    findings = [Finding("ok", "render", "one user message renders")]
    for part in (
        checker.history(),
        checker.roles(),
        checker.generation_prompt(first),
        checker.blanks(first),
        checker.variables(),
    ):
        findings.extend(part)
    if tokenizer is not None:
        for part in (checker.start(tokenizer), checker.ends(tokenizer), checker.spellings(tokenizer, first)):
            findings.extend(part)
    return findings


class Checker:
    """The checks, each a generator of findings."""

    def __init__(self, template: Template, tokenizer: Tokenizer | None) -> None:
        self.template = template
        self.tokens = role_texts(tokenizer) if tokenizer else {"bos_token": "<s>", "eos_token": "</s>"}

    def try_render(self, messages: list[dict[str, Any]], **settings: Any) -> str | TemplateError:
        try:
            return self.template.render(messages, **{**self.tokens, **settings})
        except TemplateError as error:
            return error

    def history(self) -> Iterator[Finding]:
        """Whether a conversation can go on, and whether its beginning stays the same when it does."""
        turns = [user(QUESTION), assistant(ANSWER), user(QUESTION2)]
        whole = self.try_render(turns, add_generation_prompt=False)
        if isinstance(whole, TemplateError):
            yield Finding("warn", "history", f"holds no earlier turns: {whole.what}", "start each question afresh")
            return
        lost = [text for text in (QUESTION, ANSWER, QUESTION2) if text not in whole]
        if lost:
            yield Finding("fail", "history", f"earlier turns are left out ({', '.join(lost)})", "correct the template")
            return
        yield Finding("ok", "history", "a second question renders with the first and its answer")
        start = self.try_render(turns[:2], add_generation_prompt=False)
        if isinstance(start, str) and whole.startswith(start):
            yield Finding("ok", "prefix", "a new turn leaves the turns before it as they were")
        else:
            yield Finding(
                "warn",
                "prefix",
                "a new turn changes the text of the turns before it, so nothing computed for them can be used again",
                "expect each turn to be computed from the start",
            )

    def roles(self) -> Iterator[Finding]:
        """System messages and tools: taken, refused, or lost."""
        rendered = self.try_render([{"role": "system", "content": SYSTEM}, user(QUESTION)])
        if isinstance(rendered, TemplateError):
            yield Finding("warn", "system", f"takes no system message: {rendered.what}", "put it into the question")
        elif SYSTEM not in rendered:
            yield Finding("fail", "system", "a system message is left out without a word", "put it into the question")
        else:
            yield Finding("ok", "system", "a system message is written")
        if not self.template.takes_tools:
            yield Finding("ok", "tools", "knows no tools, and refuses them")
            return
        tools = self.try_render([user(QUESTION)], tools=[TOOL])
        if isinstance(tools, TemplateError):
            yield Finding("fail", "tools", f"reads tools but fails on one: {tools.what}", "leave tools out")
        elif "look-Tx7" not in tools:
            yield Finding("fail", "tools", "reads tools but does not write them", "leave tools out")
        else:
            yield Finding("ok", "tools", "a tool's description is written")

    def generation_prompt(self, first: str) -> Iterator[Finding]:
        """Whether an answer is asked for exactly where training put one."""
        full = self.try_render([user(QUESTION), assistant(ANSWER)], add_generation_prompt=False)
        if isinstance(full, TemplateError):
            yield Finding("fail", "generation prompt", f"an answer cannot be rendered: {full.what}", "correct it")
        elif full.startswith(first):
            gap = full[len(first) :].partition(ANSWER)[0]
            note = f", after {gap!r}" if gap else ""
            yield Finding("ok", "generation prompt", f"an answer in the history continues the generation prompt{note}")
        else:
            place = next((i for i, (a, b) in enumerate(zip(full, first, strict=False)) if a != b), len(full))
            yield Finding(
                "warn",
                "generation prompt",
                f"asks for an answer with {first[place:][-40:]!r}, but writes an earlier one after "
                f"{full[place:].partition(ANSWER)[0][-40:]!r}",
                "right for models that reason before they answer; otherwise correct the template",
            )

    def blanks(self, first: str) -> Iterator[Finding]:
        """Doubled blanks: most often one from the template and one from its author."""
        match = re.search(r"[^\s]{1,12} {2,}[^\s]{1,12}", first)
        if match:
            fix = "take one out, unless the model was trained so"
            yield Finding("warn", "blanks", f"writes two blanks in a row: {match.group()!r}", fix)
        else:
            yield Finding("ok", "blanks", "no doubled blanks")

    def variables(self) -> Iterator[Finding]:
        """What the prompt depends on besides the messages."""
        if "strftime_now" in self.template.source:
            yield Finding(
                "warn",
                "date",
                "writes the date, so the same messages give another prompt tomorrow",
                "pass a fixed `now` where results must repeat",
            )
        if self.template.options:
            yield Finding("ok", "options", f"may be told: {', '.join(sorted(self.template.options))}")

    # --- with a tokenizer

    def start(self, tokenizer: Tokenizer) -> Iterator[Finding]:
        """BOS: once at the start if the model wants it."""
        bos = tokenizer.bos_id
        if bos is None:
            yield Finding("ok", "BOS", "the tokenizer has none")
            return
        ids = encode_chat(tokenizer, self.template, [user(QUESTION)])
        count, leading = ids.count(bos), ids[:2].count(bos) if ids[:1] == [bos] else 0
        if leading == 2:
            yield Finding("fail", "BOS", "the prompt starts with two BOS tokens", "take one out of the template")
        elif count > 1:
            level: Level = "ok" if self.template.bundled else "warn"
            fix = None if self.template.bundled else "take them out, unless the model was trained so"
            yield Finding(level, "BOS", f"{count} BOS tokens, one before each part", fix)
        elif tokenizer.adds_bos and ids[0] != bos:
            yield Finding("fail", "BOS", "the prompt does not start with BOS", "start the template with bos_token")
        else:
            yield Finding("ok", "BOS", "once, at the start" if count else "none, as this model wants")

    def ends(self, tokenizer: Tokenizer) -> Iterator[Finding]:
        """Whether what closes an answer in the history is something generation stops on."""
        found = stops(tokenizer, self.template)
        if not found.ids and not found.strings:
            yield Finding("fail", "stop", "nothing ends an answer", "name the model's end token as eos_token")
            return
        if not self.template.control and not found.strings and not self.template.stop:
            yield Finding("ok", "stop", "ends where the tokenizer's end token comes")
            return
        whole = self.try_render([user(QUESTION), assistant(ANSWER)], add_generation_prompt=False)
        if isinstance(whole, TemplateError):
            return
        tail = whole.partition(ANSWER)[2]
        ends = {text for text, id in control_texts(tokenizer).items() if id in found.ids} | set(found.strings)
        following = next((text for text in sorted(ends) if tail.lstrip(" \n").startswith(text.lstrip(" \n"))), None)
        closing = next((text for text in control_texts(tokenizer) if text and tail.strip().startswith(text)), None)
        if following is not None:
            yield Finding("ok", "stop", f"an answer ends in {following!r}, which stops generation")
        elif closing is not None:
            yield Finding(
                "fail",
                "stop",
                f"an answer ends in {closing!r}, which does not stop generation (stops: {', '.join(sorted(ends))})",
                f"add {closing!r} to eos_token_id in generation_config.json",
            )
        elif self.template.bundled:
            yield Finding("ok", "stop", f"stops on {', '.join(map(repr, sorted(ends)))}")
        else:
            yield Finding(
                "warn",
                "stop",
                f"nothing that stops generation follows an answer; {tail[:40]!r} does",
                "pass a stop string, or write eos_token after each answer",
            )

    def spellings(self, tokenizer: Tokenizer, first: str) -> Iterator[Finding]:
        """Control tokens: those the template writes are tokens, those a user writes are not."""
        known = control_texts(tokenizer)
        if self.template.control:
            yield self._missing(first, known)
        yield self._neutral(tokenizer, known)

    def _missing(self, first: str, known: dict[str, int]) -> Finding:
        written = {match.group() for match in LOOKS_LIKE_CONTROL.finditer(first + "".join(self.template.stop))}
        missing = sorted(written - set(known) - set(self.template.plain_tags))
        if not missing:
            return Finding("ok", "tokens", "every control token it writes is one token")
        certain = self.template.bundled or "<s>" in missing or "</s>" in missing  # some formats have tags of plain text
        return Finding(
            "fail" if certain else "warn",
            "tokens",
            f"writes {', '.join(missing)}, which this tokenizer spells in several ordinary tokens",
            "use the template that belongs to this tokenizer",
        )

    def _neutral(self, tokenizer: Tokenizer, known: dict[str, int]) -> Finding:
        controls = set(known.values())

        def count(text: str) -> int:
            return sum(id in controls for id in encode_chat(tokenizer, self.template, [user(text)]))

        calm = count("a b")
        for text in sorted(known)[:MAX_SPELLINGS]:
            try:
                if count(f"a {text} b") != calm:
                    fix = "do not serve this template to people you do not trust"
                    return Finding("fail", "injection", f"{text!r} written by a user becomes a control token", fix)
            except PaddockError:
                continue  # refused, which is safe
        return Finding("ok", "injection", "control tokens written by a user stay text, or are refused")
