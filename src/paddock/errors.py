"""Every way Paddock refuses, as one tree.

    PaddockError                exit 1   something failed
    ├── UsageError              exit 2   the request cannot be meant: unknown key, impossible value
    │   └── ContextLengthError  exit 2   the prompt does not fit the model
    ├── InputError              exit 3   a file is not what it should be
    │   ├── CheckpointError              weights or config.json: corrupt, incomplete
    │   │   └── UnsupportedError         sound, but not something Paddock can run
    │   ├── TokenizerError
    │   ├── TemplateError
    │   └── DataError
    ├── ResourceError           exit 4   does not fit in memory or on disk
    ├── Interrupted             exit 75  a run was asked to stop; it is saved, and can go on
    ├── DivergedError           exit 1   training went where it cannot go on from
    └── ServiceError            exit 1   a server does not take this request
        ├── AccessError                  no key, a wrong one, or one that may not do this
        ├── NotFoundError                no model, adapter or page of that name
        └── OverloadError                too much at once, or shutting down: try again later

A refusal says what was found, what was expected where that helps, and the fix. The command line prints `str(error)`;
the server sends it as the message of an OpenAI-shaped error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 800  # characters of a message's sentence


class PaddockError(Exception):
    """Base of every refusal. `what` is one sentence without a final full stop; `fix` is what the user can do."""

    exit_code = 1

    def __init__(self, what: str, *, expected: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = _brief(what)
        self.expected = _brief(expected) if expected else None
        self.fix = fix

    def __str__(self) -> str:
        text = self.what
        if self.expected:
            text += f"; expected {self.expected}"
        if self.fix:
            text += f"\n  fix: {self.fix}"
        return text


class UsageError(PaddockError):
    """The request itself cannot be meant."""

    exit_code = 2


class ContextLengthError(UsageError):
    """The prompt (and what is to be generated) does not fit the model's context; nothing is ever cut unasked."""


class InputError(PaddockError):
    """A file is not what it should be. `what` names the file."""

    exit_code = 3


class CheckpointError(InputError):
    """Weights or their description are corrupt or incomplete."""


class UnsupportedError(CheckpointError):
    """The checkpoint is sound, but describes something Paddock does not run."""


class TokenizerError(InputError):
    """A vocabulary file cannot be read, or text cannot be encoded with it."""


class TemplateError(InputError):
    """A chat template is broken, hostile, or does not take these messages."""


class DataError(InputError):
    """A data file or record is malformed."""


class ResourceError(PaddockError):
    """Memory or disk does not suffice."""

    exit_code = 4


class DivergedError(PaddockError):
    """Training cannot go on: numbers that are none, or a loss that does not come back. Saved steps are good."""


class Interrupted(PaddockError):
    """A run was asked to stop and did, at a step that is saved. `fix` is the command that goes on from there."""

    exit_code = 75


class ServiceError(PaddockError):
    """A server does not take this request; nothing is wrong with what it asks."""


class AccessError(ServiceError):
    """No key came with the request, or a wrong one, or (`known`) one that may not do this."""

    def __init__(self, what: str, *, known: bool = False, fix: str | None = None) -> None:
        super().__init__(what, fix=fix)
        self.known = known


class NotFoundError(ServiceError):
    """There is no such model, adapter or page here."""


class OverloadError(ServiceError):
    """Too much at once. `retry_after`: seconds to wait. `down`: the server cannot, whoever asks."""

    def __init__(self, what: str, *, retry_after: int = 1, down: bool = False, fix: str | None = None) -> None:
        super().__init__(what, fix=fix)
        self.retry_after, self.down = retry_after, down


def _brief(text: str) -> str:
    """A message quotes what a file or a user said, which may be megabytes long: the middle of it is left out."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when none is like it: for "did you mean" in a refusal."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A ready `fix` line for a misspelt word, or None."""
    match = nearest(word, known)
    return f"did you mean {match!r}?" if match else None
