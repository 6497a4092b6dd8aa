r"""LaTeX sources of papers: what is cut, what is written out, and what hostile ones cost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cleaning_texts import apply, cleaned
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.data.cleaning.latex import Latex, without_comments
from paddock.data.cleaning.latexmacros import Refused, expanded

PAPER = r"""\documentclass[11pt]{article} % two columns look worse
\usepackage{amsmath}
% \usepackage{times}
\newcommand{\eg}{e.g.}
\newcommand{\R}{\mathbb{R}}
\def\Rn{\R^n}
\renewcommand{\vec}[1]{\mathbf{#1}}
\newcommand\be{\begin{equation}}
\providecommand*{\ee}{\end{equation}}
\title{On geese} \author{A. Goose}
\begin{document}
\maketitle
\begin{abstract}Geese swim.\end{abstract}

\section{Introduction} % start slowly
Geese, \eg{} the grey one, lose 5\% of their feathers\\% each year
a year. Let $\vec{x} \in \Rn$ and
% TODO: cite somebody
\be x = {\cal\Rname} \ee
\begin{verbatim}
% this is printed: \eg
\end{verbatim}
\begin{comment}
Reviewer 2 will hate this. % and that
\end{comment}
We call \verb|%d| a format. % no, really
\section*{Outlook}
More geese.

\bibliographystyle{plain}
\bibliography{geese}
\appendix
\section{Proofs}
Omitted.
\end{document}
"""
BODY = r"""\section{Introduction} 
Geese, e.g. the grey one, lose 5\% of their feathers\\
a year. Let $\vec{x} \in \mathbb{R}^n$ and
\begin{equation} x = {\cal\Rname} \end{equation}
\begin{verbatim}
% this is printed: e.g.
\end{verbatim}

We call \verb|%d| a format. 
\section*{Outlook}
More geese.

\bibliographystyle{plain}
"""  # noqa: W291


def chain(depth: int, times: int) -> str:
    """Macros of which each calls the next one so many times."""
    names = ["\\x" + "i" * number for number in range(1, depth + 1)]
    bodies = [name * times for name in names[1:]] + ["y"]
    return "".join(f"\\def{name}{{{body}}}" for name, body in zip(names, bodies, strict=True))


def stage(**how: bool | int) -> Latex:
    return Latex(**({"comments": True, "macros": True, "head": True, "tail": True, "characters": 0} | how))  # type: ignore[arg-type]


def test_a_paper() -> None:
    outcome = apply(stage(), PAPER)
    assert outcome.document is not None
    assert outcome.document.text == BODY
    assert outcome.changes == {
        "comments": 7, "macros": 5, "before the first section": 1, "bibliography or appendix": 1,
    }  # fmt: skip
    again = apply(stage(), BODY)
    assert again.document is not None and again.document.text == BODY


def test_each_part_by_itself() -> None:
    off = {"comments": False, "macros": False, "head": False, "tail": False}
    outcome = apply(stage(**off), PAPER)
    assert outcome.document is not None and outcome.document.text == PAPER and not outcome.changes
    head = apply(stage(**{**off, "head": True}), PAPER).document
    assert head is not None and head.text == PAPER[PAPER.index("\\section{Intro") :]
    tail = apply(stage(**{**off, "tail": True}), PAPER).document
    assert tail is not None and tail.text == PAPER[: PAPER.index("\\bibliography{")].rstrip() + "\n"


@pytest.mark.parametrize(
    "given, reason",
    [
        ("", "no section"),
        ("A page of prose about a \\sectional sofa.", "no section"),
        ("% \\section{hidden}\nHello", "no section"),
        ("\\newcommand{\\s}{\\section{Hi}}\nHello", "no section"),
        ("\\def\\a{\\a x}\\section{A} \\a", "macros that call themselves"),
        ("\\def\\a{\\b}\\def\\b{\\c}\\def\\c{\\a}\\section{A} x", "macros that call themselves"),
        ("\\section{A}" + chain(99, 1), "macros nest too deeply"),
        ("\\section{A}" + "\\def\\x{y}" * 6000, "too many macros"),
        ("\\section{A}" + chain(20, 10) + "\\xi", "macros grow too large"),
        ("\\section{A} short \\end{document}", "too little left"),
    ],
    ids=lambda given: given if len(given) < 40 else given[:20],
)  # fmt: skip
def test_removed_for_a_reason(given: str, reason: str) -> None:
    outcome = apply(stage(characters=40), given)
    assert outcome.document is None and outcome.reason == reason


def test_macros_as_they_are_used() -> None:
    assert expanded("\\def\\F{F}${\\cal\\F} \\F1\\F_2 \\Fa \\F{}x \\\\F$") == ("${\\cal F} F1F_2 \\Fa Fx \\\\F$", 4)
    twice = "\\def\\a{x}\\def\\a{y}\\a"
    assert expanded(twice) == (twice, 0)  # which one counts depends on the place
    assert expanded("\\def\\a{x}\\def\\a{x}\\a") == ("x", 1)
    assert expanded("\\newcommand{\\a}{\\{ {b} \\}}\\a") == ("\\{ {b} \\}", 1)
    for kept in ("\\newcommand{\\a}[1]{#1}\\a{b}", "\\def\\a#1{b}\\a", "\\def\\a{b", "\\newcommand{\\a}{#1}"):
        assert expanded(kept) == (kept, 0)
    assert expanded("\\def\\a{\\b\\b}\\def\\b{\\c.}\\def\\c{d}\\a") == ("d.d.", 1)
    assert expanded("\\def\\a{1\\def\\b{2}3}\\a \\b")[0] == "1\\def2{2}3 2"  # nobody's TeX, but nothing fails


def test_comments_as_tex_reads_them() -> None:
    for written, wanted in {
        "a % b\nc": "a \nc",
        "a\n  % b\nc": "a\nc",
        "50\\% of": "50\\% of",
        "line\\\\% gone\nx": "line\\\\\nx",
        "\\\\\\% stays": "\\\\\\% stays",
        "%": "",
        "\\verb+%+ % x": "\\verb+%+ ",
        "\\verb+%": "\\verb+",
        "\\begin{lstlisting}\n%d\n\\end{lstlisting}%": "\\begin{lstlisting}\n%d\n\\end{lstlisting}",
        "\\begin{verbatim} % x": "\\begin{verbatim} ",
        "a\\begin{comment}b\\end{comment}c": "ac",
        "\\": "\\",
    }.items():
        assert without_comments(written)[0] == wanted, written


def plainly(line: str) -> str:
    """A line up to the first % behind an even number of backslashes."""
    at = 0
    while at < len(line):
        if line[at] == "\\":
            at += 1
        elif line[at] == "%":
            return line[:at]
        at += 1
    return line


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="a%\\ {", max_size=40))
def test_a_line_s_comment_beside_a_plain_reading(line: str) -> None:
    kept = plainly("x" + line)
    assert without_comments("x" + line)[0] == kept


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(
    ["\\def", "\\a", "\\b", "{", "}", "\\newcommand", "#1", "\\section{x}", "%", "\n", "\\begin{verbatim}", "\\verb|",
     "\\appendix", "\\", "\\end{verbatim}", "\\begin{comment}", " ", "w"]), max_size=40))  # fmt: skip
def test_anything_is_taken_or_removed(parts: list[str]) -> None:
    outcome = apply(stage(), "".join(parts))
    assert (outcome.document is None) == bool(outcome.reason)


HOSTILE = {
    "open verbatims": "\\begin{verbatim}" * 15_000,
    "open comments": "\\begin{comment}%" * 15_000,
    "verbs": "\\verb|" * 40_000,
    "definitions": "\\def\\a{" * 35_000,
    "braces": "\\def\\a{" + "{" * 250_000,
    "backslashes": "\\" * 250_000,
    "percents": "%" * 250_000,
    "blanks": ("\\section" + " " * 50) * 4_000 + " " * 10**5,
    "lines of blanks": (" " * 99 + "\n") * 2_500,
    "words": "\\def\\a{b}" + "\\a" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_quarter_megabyte_of_ill_will_takes_no_longer_than_one_of_text(name: str) -> None:
    began = time.thread_time()
    apply(stage(), HOSTILE[name] + "\\section{A}")
    assert time.thread_time() - began < 2


def test_growth_is_counted_before_anything_grows() -> None:
    began = time.thread_time()
    with pytest.raises(Refused, match="macros grow too large"):
        expanded(chain(45, 20) + "\\xi")
    assert time.thread_time() - began < 1


def test_as_a_stage_of_a_recipe(tmp_path: Path) -> None:
    kept, manifest = cleaned([PAPER, "no paper"], tmp_path / "out", {"stage": "latex", "characters": 100})
    assert kept == [BODY]
    (found,) = [each for each in manifest["stages"] if each["stage"] == "latex"]
    assert found["reasons"] == {"no section": 1}
