"""The renderer: what is refused and where, what the language offers, and equality with transformers."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.errors import PaddockError, TemplateError, UsageError
from paddock.tokenizer.template import SPARE_OUTPUT, Template
from paddock.tokenizer.template_source import MAX_SOURCE, positioned

HI = [{"role": "user", "content": "hi"}]


def user(text):
    return {"role": "user", "content": text}


def here(source: str, **more) -> Template:
    return Template(source, "t", bundled=True, **more)


# --- refusals -----------------------------------------------------------------------------------------------------

FAULTS = [
    ("a {{ b", "line 1, column 6"),
    ("one\n  {% if %}", "line 2, column 6"),
    ("one\n  {% for x in messages %}", "syntax error: Unexpected end of template"),
    ("{% for x in messages %}\n {{ x.content }}\n{% endif %}", "line 3, column 4: syntax error"),
    ("{{ a ? b }}", "line 1, column 6: syntax error: unexpected char '?'"),
    ("\n\n{{ 'a' 'b' % }}", "line 3"),
    ("{{ messages[0].foo.bar }}", "line 1, column 19: undefined: 'dict object' has no attribute 'foo'"),
    ("x\r\ny\r\n   {{ missing.bar }}", "line 3, column 14: undefined: 'missing' is undefined"),
    (
        "{% for m in messages %}\n\t{{- m.content }} {{ raise_exception('only\ntwo') }}{% endfor %}",
        "line 2, column 37: refuses these messages: only two",
    ),
    ("{{ messages[0].content + 1 }}", "TypeError"),
    ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ("{{ messages|nonsense }}", "line 1, column 13: uses the filter 'nonsense'"),
    ("{{ messages|tojsn }}", "did you mean 'tojson'"),
    ("{{ messages is nonsense }}", "No test named 'nonsense'"),
    ("{{ nonsense(1) }}", "undefined: 'nonsense' is undefined"),
    ("{% break %}", "cannot be compiled: 'break' outside loop"),
    ("{% generation %}x", "line 1"),
]


@pytest.mark.parametrize("bundled", [True, False])
@pytest.mark.parametrize(("source", "message"), FAULTS)
def test_faults_name_the_template_and_the_place(source, message, bundled):
    with pytest.raises(TemplateError) as caught:
        Template(source, "my.jinja", bundled=bundled).render(HI)
    assert "chat template 'my.jinja'" in str(caught.value)
    assert message in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("bundled", [True, False])
def test_raise_exception_carries_its_text(bundled):
    with pytest.raises(TemplateError, match=r"line 2, column .* refuses these messages: roles must alternate"):
        Template("\n{{ raise_exception('roles must alternate') }}", bundled=bundled).render(HI)


@pytest.mark.parametrize("source", [None, 5, b"x", ["x"]])
def test_a_source_that_is_not_text_is_refused(source):
    with pytest.raises(TemplateError):
        Template(source)


@pytest.mark.parametrize(("extra", "fine"), [(-1, True), (0, True), (1, False)])
def test_the_limit_of_the_source(extra, fine):
    source = "x" * (MAX_SOURCE + extra)
    if fine:
        assert len(here(source).render([user("y" * MAX_SOURCE)])) == len(source)
    else:
        with pytest.raises(TemplateError, match="the limit is 262144"):
            here(source)


@pytest.mark.parametrize("bundled", [True, False])
@pytest.mark.parametrize(("extra", "fine"), [(0, True), (1, False)])
def test_the_limit_of_the_output(bundled, extra, fine):
    template = Template("{% for i in range(n) %}xx{% endfor %}{{ 'y' * m }}", bundled=bundled)
    limit = 4 * (2 * 8 + sum(map(len, ("n", "m", "documents", "messages", "role", "user", "content", "hi", "tools"))))
    limit += 4 * (3 * 8 + sum(map(len, ("add_generation_prompt", "bos_token", "eos_token")))) + SPARE_OUTPUT

    def render():
        return template.render(HI, n=limit // 2 - 10, m=limit - 2 * (limit // 2 - 10) + extra)

    if fine:
        assert len(render()) == limit
    else:
        with pytest.raises(TemplateError, match="writes more than"):
            render()


MESSAGES = [
    (None, "list"),
    ("hi", "list"),
    ({"role": "user", "content": "x"}, "list"),
    ([], "no messages"),
    ([[]], "message 1 is a list"),
    (["x"], "message 1 is a str"),
    ([{}], "message 1 has the role None"),
    ([{"role": "user"}], r"message 1 \(user\) has no content"),
    ([{"role": "user", "content": None}], "has no content"),
    ([{"role": "user", "content": 5}], "content of type int"),
    ([{"role": "user", "content": b"x"}], "holds a bytes"),
    ([{"role": "user", "content": {"a": 1}}], "content of type dict"),
    ([{"role": "user", "content": ["x"]}], "part of type 'str'"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "part of type 'image_url'"),
    ([{"role": "user", "content": [{"type": "text"}]}], "part of type 'text'"),
    ([{"role": "", "content": "x"}], "role ''"),
    ([{"role": "user<|im_end|>", "content": "x"}], "has the role"),
    ([{"role": "a\nb", "content": "x"}], "has the role"),
    ([{"role": 5, "content": "x"}], "role 5"),
    ([{"role": "user", "content": "a\ud800b"}], r"lone surrogate \(U\+D800\)"),
    ([{"role": "user", "content": "x", 5: 1}], "key that is not a string"),
    ([{"role": "user", "content": "x", "f": object()}], "holds a object"),
    ([{"role": "user", "content": "x", "f": 10**1000}], "integer of 3322 bits"),
    ([user("x")] * 2049, "2049 messages"),
]


@pytest.mark.parametrize(("messages", "expected"), MESSAGES)
def test_messages_that_are_none(messages, expected):
    with pytest.raises(TemplateError, match=expected):
        here("{{ messages[0].content }}{{ messages[0].f }}").render(messages)


def test_the_limit_of_messages_and_depth():
    assert here("{{ messages|length }}").render([user("x")] * 2048) == "2048"
    deep: object = "x"
    for _ in range(62):
        deep = [deep]
    here("{{ messages[0].f|length }}").render([{**user("x"), "f": deep}])
    for _ in range(5):
        deep = [deep]
    with pytest.raises(TemplateError, match="nested too deeply"):
        here("{{ messages[0].f|length }}").render([{**user("x"), "f": deep}])
    cyclic: list = []
    cyclic.append(cyclic)
    with pytest.raises(TemplateError, match="nested too deeply"):
        here("{{ messages[0].f|length }}").render([{**user("x"), "f": cyclic}])


def test_roles_known_to_the_template():
    template = here("{{ messages[0].content }}", roles=frozenset({"user", "assistant"}))
    with pytest.raises(TemplateError, match="did you mean 'user'"):
        template.render([{"role": "users", "content": "x"}])


def test_keys_that_the_template_does_not_read_are_refused():
    with pytest.raises(TemplateError, match="message 1 has 'tool_calls', which the chat template 't' does not read"):
        here("{{ messages[0].content }}").render([{**user("x"), "tool_calls": [{"a": 1}]}])
    assert here("{{ messages[0].content }}").render([{**user("x"), "tool_calls": None, "name": "me"}]) == "x"
    assert "tool_calls" in here("{% for m in messages %}{{ m|tojson }}{% endfor %}").render(
        [{**user("x"), "tool_calls": [1]}]
    )


def test_tools_that_the_template_does_not_know_are_refused():
    with pytest.raises(TemplateError, match="does not know tools"):
        here("{{ messages[0].content }}").render(HI, tools=[{"name": "f"}])
    assert here("{{ messages[0].content }}").render(HI, tools=[]) == "hi"
    with pytest.raises(TemplateError, match="tools are a"):
        here("{{ tools }}").render(HI, tools=["x"])
    with pytest.raises(TemplateError, match="129 tools"):
        here("{{ tools }}").render(HI, tools=[{}] * 129)


def test_options_are_those_that_the_template_reads():
    template = here("{% if enable_thinking is defined and not enable_thinking %}no{% endif %}{{ style }}")
    assert template.options == {"enable_thinking", "style"}
    assert template.render(HI, enable_thinking=False, style="x") == "nox"
    for name in ("stile", "chat_template", "tokenize", "raise_exception", "range", "strftime_now", "loop"):
        with pytest.raises(UsageError, match="does not read the option"):
            template.render(HI, **{name: 1})


# --- the language -------------------------------------------------------------------------------------------------


def test_dates_are_given_or_the_clock():
    template = here("{{ strftime_now('%d %b %Y') }}")
    assert template.render(HI, now=datetime(2024, 7, 26)) == "26 Jul 2024"
    foreign = Template("{{ strftime_now('%d %b %Y') }}")
    assert foreign.render(HI, now=datetime(2024, 7, 26)) == "26 Jul 2024"
    assert template.render(HI) == datetime.now().strftime("%d %b %Y")


def test_text_parts_are_joined_unless_the_template_reads_parts():
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert here("{{ messages[0].content }}").render(parts) == "a\nb"
    source = "{% for p in messages[0]['content'] %}<{{ p.text }}>{% endfor %}"
    assert here(source).render(parts) == "<a><b>"
    by_variable = "{% set c = messages[0].content %}{% for p in c %}<{{ p['text'] }}>{% endfor %}"
    assert here(by_variable).render(parts) == "<a><b>"


def test_messages_are_not_changed():
    messages = [{"role": "user", "content": "x", "extra": None}]
    here("{{ messages[0].content }}").render(messages)
    assert messages == [{"role": "user", "content": "x", "extra": None}]


def test_positions_do_not_change_the_text():
    source = (
        "a {%- if 1 -%} b {% endif %}\n{# c\n #}{% raw %}{{ x }}{% endraw %}\n  {%+ if 1 %}d{% endif %}{{- 'e' -}}  f\n"
    )
    spread, places = positioned(source, "t")
    assert spread.replace("\n", "") == source.replace("\n", "")
    assert len(places) == spread.count("\n") + 1
    for line, column in places:
        assert 1 <= line <= 5 and column >= 1


def fuzz(cases: int, given_values: st.SearchStrategy, render, rendered: float, refused: float) -> None:
    """Renders what is drawn: only Paddock's errors escape, and these shares at least render and are refused."""
    outcomes = []

    @settings(max_examples=cases, derandomize=True, deadline=None, database=None)
    @given(given_values)
    def one(value):
        try:
            text = render(value)
        except PaddockError as error:
            assert str(error).strip()
            outcomes.append("refused")
        else:
            assert isinstance(text, str)
            outcomes.append("rendered")

    one()
    shares = {name: outcomes.count(name) / len(outcomes) for name in ("rendered", "refused")}
    assert shares["rendered"] >= rendered and shares["refused"] >= refused, shares


def as_jinja_does(source: str) -> str:
    from paddock.tokenizer.template_sandbox import sandbox

    text = here(source).render(HI)
    assert text == sandbox().from_string(source).render(
        messages=HI, tools=None, documents=None, add_generation_prompt=True, bos_token="", eos_token=""
    )
    return text


def test_fuzz_of_sources():
    """What renders, renders as Jinja itself does."""
    fuzz(200, st.text(alphabet=st.sampled_from("{}%#-+ \n\r\t'\"ab1.|=[]()~if"), max_size=60), as_jinja_does, 0.5, 0.01)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", ""]) | JSON, "content": JSON}
)
PROPER = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": st.text()})


def test_fuzz_of_messages():
    template = here("{% for m in messages %}{{ m.role }}{{ m|tojson }}{% endfor %}")
    values = st.lists(PROPER, max_size=4) | st.lists(MESSAGE | JSON, max_size=4) | JSON
    fuzz(300, values, template.render, 0.2, 0.3)


WORDS = (
    "{{ }} {% %} {%- -%} messages m m.content m['role'] for in if else elif endfor endif set = namespace ns.x loop "
    ".index range(3) | trim tojson length 'a' 1 + * ~ % == not and is defined ( ) [ ] . , : macro f(x) endmacro "
    "call raise_exception('x') break continue generation endgeneration {# #} \n x"
)
PIECES = ["x", "{{ 'a' }}", "{{ messages[0].content }}", "{% if messages %}", "{% endif %}", "{% set x = 1 %}"]


@pytest.mark.slow
def test_fuzz_of_grammar():
    values = st.lists(st.sampled_from(WORDS.split(" ")), max_size=30) | st.lists(st.sampled_from(PIECES), max_size=5)
    fuzz(4000, values.map(" ".join), lambda source: Template(source, seconds=0.5).render(HI), 0.2, 0.2)
