"""Hostile templates: each ends in TemplateError in time (a second of the processor, five of the wall), in bounded memory,
and leaves nothing behind."""

# ruff: noqa: E501  a hostile template is read best on its one line

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from paddock.errors import TemplateError
from paddock.tokenizer import template_sandbox as box
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_worker import WORKER

MESSAGES = [{"role": "user", "content": "hi"}]

ESCAPES = {
    "class of a string": "{{ ''.__class__ }}",
    "mro": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "class by subscript": "{{ ''['__class__'] }}",
    "class by concatenated subscript": "{{ ''['__cla' ~ 'ss__'].x }}",
    "class by attr filter": "{{ ''|attr('__class__') }}",
    "class by built attr filter": "{{ ''|attr('__cla' ~ 'ss__') }}",
    "attr in map": "{{ ['']|map(attribute='__class__')|list }}{{ ['']|map(attribute='__class__')|first.x }}",
    "attr filter in map": "{{ ['']|map('attr', '__class__')|list }}",
    "attribute of selectattr": "{{ ['']|selectattr('__class__')|list|first.x or raise_exception('empty') }}",
    "globals of a function": "{{ raise_exception.__globals__ }}",
    "globals by subscript": "{{ raise_exception['__globals__'].os }}",
    "globals of range": "{{ range.__self__ }}",
    "globals of a macro": "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}",
    "macro's internals": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "joiner": "{{ joiner.__init__.__globals__.os.popen('id').read() }}",
    "namespace": "{{ namespace.__init__.__globals__.os }}",
    "namespace by subscript": "{{ namespace['__init__']['__globals__'] }}",
    "lipsum": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "lipsum called": "{{ lipsum(n=5) }}",
    "dict subclasses": "{{ dict.__subclasses__() }}",
    "dict mro": "{{ dict.mro() }}",
    "format attribute": "{{ '{0.__class__}'.format('') }}{{ '{0.__class__.__mro__}'.format('').x }}",
    "format mro": "{{ '{0.__class__.__mro__[1]}'.format('').foo.bar }}",
    "format map": "{{ '{a.__class__}'.format_map({'a': 1}).foo.bar }}",
    "format by getitem": "{{ ''['for' ~ 'mat']('{0.__class__}').foo.bar }}",
    "self": "{{ self }}",
    "context of self": "{{ self._TemplateReference__context }}",
    "environment of self": "{{ self.__init__.__globals__ }}",
    "super": "{{ super() }}",
    "include": "{% include '/etc/passwd' %}",
    "include by variable": "{% set f = '/etc/passwd' %}{% include f %}",
    "include ignoring": "{% include 'x' ignore missing %}",
    "import": "{% import 'os' as os %}{{ os }}",
    "from import": "{% from 'os' import system %}{{ system }}",
    "extends": "{% extends 'base' %}",
    "block": "{% block b %}{% endblock %}{{ self.b() }}",
    "import function": "{{ __import__('os').system('id') }}",
    "builtins": "{{ __builtins__ }}{{ open('/etc/passwd').read() }}",
    "eval": "{{ eval('1') }}",
    "loop's internals": "{% for x in [1] %}{{ loop.__class__.__init__.__globals__ }}{% endfor %}",
    "loop's iterator": "{% for x in [1] %}{{ loop._iterator }}{% endfor %}",
    "caller's code": "{% macro m() %}{{ caller.__code__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "undefined's internals": "{{ missing.__class__ }}",
    "undefined's logger": "{{ (missing|default(missing))._fail_with_undefined_error.__globals__ }}",
    "generator frame": "{% set g = [1]|map('upper') %}{{ g.gi_frame.f_globals }}",
    "a generator printed": "{{ [1]|map('string') }}",
    "a function printed": "{{ range }}",
    "a bound method printed": "{{ ''.upper }}",
    "a macro printed": "{% macro m() %}{% endmacro %}{{ m }}",
    "a class printed": "{{ namespace }}",
    "namespace stores a dunder": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "namespace made with a dunder": "{{ namespace(**{'__class__': 1}) }}x",
    "messages changed": "{{ messages.append(1) }}",
    "message popped": "{{ messages[0].pop('content') }}",
    "message updated": "{{ messages[0].update({'content': 'x'}) }}",
    "list cleared": "{{ messages.clear() }}",
    "encode method": "{{ 'x'.encode('idna') }}",
    "translate method": "{{ 'x'.translate({}) }}",
    "int attribute": "{{ (1).real.numerator.foo.bar }}",
    "random": "{{ [1, 2]|random }}",
    "pprint": "{{ messages|pprint }}",
    "urlize": "{{ 'http://x'|urlize }}",
    "xmlattr": "{{ {'a': 1}|xmlattr }}",
    "do statement": "{% do messages.append(1) %}",
    "debug statement": "{% debug %}",
    "trans statement": "{% trans %}x{% endtrans %}",
    "strftime as a bomb": "{{ strftime_now('%999999999d') }}",
    "strftime of an object": "{{ strftime_now(messages) }}",
    "lone surrogate": r"{{ '\ud800' }}",
}

BOMBS = {
    "string times": "{{ 'a' * 2000000000 }}",
    "string times a variable": "{% set n = messages|length * 9999 %}{{ ('a' * n) * n * n }}",
    "times on the left": "{% set n = 9000 %}{{ n * ('a' * n) }}",
    "list times": "{% set n = 9999 %}{{ ([0] * n * n)|length }}",
    "list times twice": "{{ [[0] * 9999] * 9999 * 9999 }}",
    "power": "{{ 10 ** 100000000 }}",
    "power of a variable": "{% set n = 9999 %}{{ n ** n ** n }}",
    "power tower": "{{ 9 ** 60 ** 60 }}",
    "big integers": "{% set ns = namespace(n=9999) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n }}",
    "percent width": "{{ '%999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (999999999, 1) }}",
    "percent precision": "{{ '%.999999999f' % 1 }}",
    "percent of a variable": "{% set f = '%9999' ~ '99999d' %}{{ f % 1 }}",
    "format filter": "{{ '%999999999d'|format(1) }}",
    "format filter of a variable": "{% set f = '%9999' ~ '99999d' %}{{ f|format(1) }}",
    "format width": "{{ '{:999999999}'.format(1) }}",
    "format width of a variable": "{% set f = '{:99999' ~ '9999}' %}{{ f.format(1) }}",
    "format nested width": "{{ '{:{}}'.format(1, 999999999) }}",
    "format named nested width": "{{ '{a:{b}d}'.format(a=1, b=999999999) }}",
    "center": "{{ 'x'|center(999999999) }}",
    "center method": "{{ 'x'.center(999999999) }}",
    "ljust by a variable": "{% set n = 999999999 %}{{ 'x'.ljust(n) }}",
    "zfill": "{{ 'x'.zfill(999999999) }}",
    "expandtabs": "{{ '\t'.expandtabs(999999999) }}",
    "indent": "{{ 'x\ny'|indent(999999999) }}",
    "indent of many lines": "{% set x = '\n' * 9999 %}{{ x|indent(9999, true, true) }}",
    "indent with a long string": "{% set x = '\n' * 9999 %}{{ x|indent('a' * 9999) }}",
    "tojson indent": "{{ [[1]]|tojson(indent=999999999) }}",
    "batch": "{{ [1]|batch(999999999, 'x')|list }}",
    "slice": "{{ [1]|slice(999999999)|list }}",
    "round": "{{ 1|round(999999999, 'floor') }}",
    "join": "{% set s = 'a' * 9999 %}{{ range(99999)|join(s) }}",
    "join method": "{% set s = 'a' * 9999 %}{{ s.join(['x'] * 9999) }}",
    "replace": "{% set s = 'a' * 9999 %}{{ s|replace('a', s) }}",
    "replace nothing": "{% set s = 'a' * 9999 %}{{ s.replace('', s) }}",
    "concatenation doubled": "{% set ns = namespace(s='abc') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "addition doubled": "{% set ns = namespace(s='abc') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "list doubled": "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "list of itself printed": (
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}"
    ),
    "list of itself as JSON": (
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}"
    ),
    "lists compared": (
        "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}"
        "{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}"
    ),
    "set block doubled": (
        "{% set ns = namespace(s='abc') %}{% for i in range(60) %}{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}"
        "{% set ns.s = x %}{% endfor %}"
    ),
    "macro doubled": (
        "{% macro two(x) %}{{ x }}{{ x }}{% endmacro %}{% set ns = namespace(s='abc') %}"
        "{% for i in range(60) %}{% set ns.s = two(ns.s) %}{% endfor %}"
    ),
    "long range": "{% for i in range(999999999999) %}{% endfor %}",
    "range beyond 64 bits": "{% for i in range(0, 99999999999999999999999999) %}{% endfor %}",
    "long range of a variable": "{% set n = 999999999 %}{% for i in range(n) %}{% endfor %}",
    "nested ranges": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "nested ranges of variables": (
        "{% set n = 9999 %}{% for i in range(n) %}{% for j in range(n) %}{% for k in range(n) %}{% endfor %}{% endfor %}"
        "{% endfor %}"
    ),
    "nested loops over lists": (
        "{% set a = range(9999)|list %}{% for i in a %}{% for j in a %}{% for k in a %}{% endfor %}{% endfor %}{% endfor %}"
    ),
    "recursive macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macros calling each other": "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
    "doubly recursive macro": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "recursive loop": "{% for x in [[1]] recursive %}{{ loop([x, x]) }}{% endfor %}",
    "much output": "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
    "much output by little": "{% for i in range(99999) %}xxxxxxxxxx{% endfor %}",
    "sorting much": "{% set n = 99999 %}{% for i in range(n) %}{% set x = range(n)|sort|list %}{% endfor %}",
    "summing lists": "{% set x = [range(9999)|list] * 9999 %}{{ x|sum(start=[])|length }}",
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep lists": "{{ " + "[" * 500 + "]" * 500 + " }}",
    "deep attributes": "{{ messages" + ".a" * 5000 + " }}",
    "deep ifs": "{% if 1 %}" * 1000 + "{% endif %}" * 1000,
    "deep loops": "{% for x in [1] %}" * 30 + "{% endfor %}" * 30,
    "many parts": "{{ a }}" * 30_000,
    "too long": "x" * 300_000,
    "blanks in a tag": "{%" + " " * 250_000,
    "raw with blanks": "{% raw" + " " * 250_000,
    "an open comment": "{#" + "-" * 250_000,
    "an open string": "{{ '" + "\\" * 249_999,
    "underscored digits": "{{ " + "1_" * 100_000 + " }}",
    "many openings": "{{" * 120_000,
    "many open tags": "{%-" * 80_000,
    "a long chain": "{{ 1" + "+1" * 100_000 + " }}",
    "a long concatenation": "{{ 1" + "~1" * 100_000 + " }}",
    "a long list": "{{ [" + "1," * 100_000 + "] }}",
    "many elifs": "{% if 0 %}" + "{% elif 0 %}" * 20_000 + "{% endif %}",
    "a number of many digits": "{{ " + "9" * 100_000 + " }}",
    "a float of many digits": "{{ 1e" + "9" * 1000 + "|int }}",
    "lists of much memory": (
        "{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s, 'a' ~ 'b' * 9999 ~ i, range(9999)|list] %}"
        "{% endfor %}"
    ),
    "call with a million": "{{ dict(**{'a': 1}) | length }}{{ cycler(*range(99999)).foo.bar }}",
}


def memory_of(pid: int) -> int:
    """Bytes resident now, or 0 where the system does not tell."""
    status = Path(f"/proc/{pid}/statm")
    return int(status.read_text().split()[1]) * 4096 if status.exists() else 0


def render(source: str, seconds: float = 0.3) -> str:
    return Template(source, "hostile", seconds=seconds).render(MESSAGES)


def test_there_are_enough():
    assert len(ESCAPES) + len(BOMBS) >= 120


@pytest.mark.parametrize("name", ESCAPES)
def test_escapes(name):
    with pytest.raises(TemplateError) as caught:
        render(ESCAPES[name])
    assert "hostile" in str(caught.value)
    assert "0x7" not in str(caught.value)


READ_ONLY = {"include ignoring", "block", "from import", "import", "extends", "lone surrogate"}


@pytest.mark.parametrize("name", sorted(set(ESCAPES) - READ_ONLY))
def test_escapes_fail_when_run_too(name):
    """The second wall: with nothing refused by reading, the language itself refuses, or there is nothing there."""
    try:
        text = box.render(ESCAPES[name], {"messages": MESSAGES}, 10_000)
    except Exception as error:
        assert box.describe(error)
    else:
        assert text == ""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name):
    before, began = memory_of(os.getpid()), time.process_time()
    with pytest.raises(TemplateError) as caught:
        render(BOMBS[name])
    assert time.process_time() - began < 5
    assert memory_of(os.getpid()) - before < 64 * 2**20
    assert "hostile" in str(caught.value)


def processor_time_of_children() -> float:
    """Seconds that processes took which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nested loops over lists", r"line 1, column \d+: the template runs longer than 1 s"),
        ("lists compared", "was stopped"),
    ],
)
def test_the_second_is_enforced(name, message):
    """Of the processor's time, so that a busy machine fails no sound template."""
    WORKER.stop()
    render("x")
    before = processor_time_of_children()
    with pytest.raises(TemplateError, match=message):
        render(BOMBS[name], seconds=1.0)
    assert 0.5 < processor_time_of_children() - before < 2
    assert render("{{ messages[0].content }}") == "hi"


def test_a_second_is_the_rule():
    assert Template("x").seconds == 1.0


def peak_of(pid: int) -> int:
    """The most bytes that were ever resident, or 0 where the system does not tell or the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")) * 1024


@pytest.mark.parametrize("name", ["lists of much memory", "list of itself printed", "list of itself as JSON", "join"])
def test_memory_of_the_process(name):
    """64 MiB for Python, Jinja and the bomb together."""
    WORKER.stop()
    render("x")
    pid, peaks, done = WORKER.process.pid, [0], threading.Event()

    def watch():
        while not done.wait(0.001):
            peaks.append(peak_of(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(TemplateError):
        render(BOMBS[name], seconds=0.5)
    done.set()
    watcher.join()
    if not max(peaks):
        pytest.skip("this system does not tell the memory of a process")
    assert max(peaks) < 64 * 2**20


def test_the_process_writes_no_files():
    render("x")
    limits = Path(f"/proc/{WORKER.process.pid}/limits")
    if not limits.exists():
        pytest.skip("this system has no /proc")
    assert "Max file size             0" in limits.read_text()


@pytest.mark.parametrize("text", ["x" * 4_000_000, "字" * 1_000_000, "🙂" * 500_000])
def test_long_messages_have_the_memory_they_need(text):
    source = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content|trim ~ '\\n' }}{% endfor %}"
    assert Template(source).render([{"role": "user", "content": text}]) == f"user: {text}\n"


def test_the_largest_templates_have_the_memory_they_need():
    source = "{% if messages %}{{ messages[0].content ~ 'x' }}{% endif %}\n" * 600
    assert Template(source).render(MESSAGES) == "hix" * 600


def test_the_process_sees_no_environment(monkeypatch):
    monkeypatch.setenv("PADDOCK_SECRET", "do not pass on")
    WORKER.stop()
    render("x")
    environment = Path(f"/proc/{WORKER.process.pid}/environ")
    if not environment.exists():
        pytest.skip("this system has no /proc")
    assert b"SECRET" not in environment.read_bytes()


def test_a_worker_that_died_is_replaced():
    assert render("a") == "a"
    WORKER.process.kill()
    WORKER.process.wait()
    assert render("b") == "b"


def test_rendering_from_several_threads():
    from concurrent.futures import ThreadPoolExecutor

    template = Template("{{ messages[0].content }}")
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: template.render([{"role": "user", "content": str(n)}]), range(64)))
    assert texts == [str(n) for n in range(64)]


def test_no_process_is_left_behind():
    script = (
        "from paddock.tokenizer.template import Template\n"
        "from paddock.tokenizer.template_worker import WORKER\n"
        "Template('x').render([{'role': 'user', 'content': 'a'}])\n"
        "print(WORKER.process.pid)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not Path(f"/proc/{int(done.stdout)}").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_its_own():
    template = Template("{{ messages[0].content }}")
    template.render(MESSAGES)
    parent = WORKER.process.pid
    child = os.fork()
    if child == 0:
        code = 1
        try:
            text = template.render([{"role": "user", "content": "child"}])
            code = 0 if text == "child" and WORKER.process.pid != parent else 2
            WORKER.stop()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert template.render(MESSAGES) == "hi"
    assert WORKER.process.pid == parent


PAYLOADS = [
    *ESCAPES.values(),
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{# x #}",
    "{{ messages }}",
    "%999999999d",
    "</s>",
    "\x00\ufffe",
]


@pytest.mark.parametrize("bundled", [True, False])
def test_content_is_data_only(bundled):
    """Sixty payloads in messages, tools and options come out letter by letter."""
    source = (
        "{% for m in messages %}{{ m.content }}\n{% endfor %}{% for t in tools or [] %}{{ t.name }}{{ t|tojson }}{% endfor %}"
        "{{ style }}"
    )
    template = Template(source, bundled=bundled)
    for payload in PAYLOADS:
        payload = payload.replace(r"\ud800", "")
        text = template.render(
            [{"role": "user", "content": payload}], tools=[{"name": payload, payload: [payload]}], style=payload
        )
        assert text.startswith(payload + "\n" + payload + "{")
        assert text.endswith("}" + payload)


def test_hostile_templates_leave_messages_alone():
    messages = [{"role": "user", "content": "hi", "meta": {"a": [1]}}]
    for source in ("{{ messages[0].meta.a.append(2) }}", "{% set messages[0].content = 'x' %}"):
        with pytest.raises(TemplateError):
            Template(source).render(messages)
    assert messages == [{"role": "user", "content": "hi", "meta": {"a": [1]}}]
