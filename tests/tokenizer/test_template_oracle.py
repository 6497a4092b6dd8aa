"""Rendered text equal to transformers, over templates in the styles that published models use."""

# ruff: noqa: E501  a template of one line stays on it

from __future__ import annotations

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from paddock.tokenizer.template import Template
from paddock.tokenizer.template_registry import entries, registered


def m(role, content, **more):
    return {"role": role, "content": content, **more}


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather <now> & 'later' in 北京.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": {"city": "Paris", "n": 1.5}},
}

# Written for this test, each with the devices of one published style.
SOURCES = {
    "plain loop": "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}",
    "lines without dashes": """{% for message in messages %}
{% if message.role == 'user' %}
{{ '<|user|>\n' + message.content + eos_token }}
{% elif message.role == 'assistant' %}
{{ '<|assistant|>\n'  + message.content + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
""",
    "lines with dashes": """{%- if messages[0]['role'] == 'system' -%}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' -}}
{%- else -%}
    {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages if message.role != 'system' -%}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content|trim ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
""",
    "alternation with raise": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message ="
        " messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
        "{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('alternate') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content ="
        " '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content ="
        " message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "headers and dates": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = "26 Jul 2024" %}
    {%- else %}
        {%- set date_string = "none" %}
    {%- endif %}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "tools as JSON lines": """{%- if tools %}
    {{- '<tools>' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' and message.tool_calls is defined and message.tool_calls %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}{% set tool_call = tool_call.function %}{% endif %}
            {{- '<tool_call>{"name": "' ~ tool_call.name ~ '", "arguments": ' ~ tool_call.arguments | tojson ~ '}</tool_call>' }}
        {%- endfor %}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- else %}
        {{- message.role + ': ' + message.content + '\\n' }}
    {%- endif %}
{%- endfor %}
""",
    "tools indented": "{% if tools %}{{ tools | tojson(indent=4) }}{% endif %}{{ messages[-1].content }}",
    "JSON of messages": "{% for x in messages %}{{ x | tojson(indent=2, sort_keys=true) }}\n{% endfor %}",
    "JSON as ASCII": "{{ messages | tojson(ensure_ascii=True) }}{{ messages|tojson(separators=(',', ':')) }}",
    "namespace": """{%- set ns = namespace(found=false, n=0, text='') %}
{%- for message in messages %}
    {%- if message.role == 'system' and not ns.found %}{% set ns.found = true %}{% set ns.text = message.content %}{% endif %}
    {%- set ns.n = ns.n + 1 %}
{%- endfor %}
{{- ns.text }}|{{ ns.n }}|{{ ns.found }}
""",
    "macros": """{%- macro turn(role, text, end='<e>') -%}
    {{ role|upper }}: {{ text }}{{ end }}
{%- endmacro -%}
{%- for x in messages %}{{ turn(x.role, x.content) }}{{ turn(x.role, x.content, end='') }}{% endfor -%}
""",
    "recursive macro": (
        "{% macro show(x) %}{% if x is mapping %}{% for k, v in x|dictsort %}{{ k }}={{ show(v) }};{% endfor %}"
        "{% elif x is string %}{{ x }}{% elif x is iterable %}{% for y in x %}{{ show(y) }},{% endfor %}"
        "{% else %}{{ x }}{% endif %}{% endmacro %}{{ show(messages) }}{{ show(tools or []) }}"
    ),
    "call block": "{% macro box(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% for x in messages %}{% call box(x.role) %}{{ x.content }}{% endcall %}{% endfor %}",
    "filters": (
        "{{ messages|map(attribute='role')|join(',') }}|{{ messages|selectattr('role', 'equalto', 'user')|list|length }}|"
        "{{ messages|rejectattr('role', 'eq', 'system')|map(attribute='content')|list|last|upper }}|"
        "{{ (messages|first).content|title|replace('a', 'b')|truncate(9) }}|{{ messages[0].content|length }}|"
        "{{ missing|default('none') }}|{{ [3,1,2]|sort|reverse|list }}|{{ {'b':1,'a':2}|dictsort }}|{{ '3'|int + 1 }}|"
        "{{ 2.5|round|int }}|{{ [1,2]|sum }}|{{ 'a b'|capitalize }}|{{ [1,1,2]|unique|list }}|{{ 'x\ny'|indent(2) }}|"
        "{{ {'k': 1}|items|list }}|{{ 'a'|center(5) }}|{{ [1,2,3]|batch(2)|list }}|{{ '%s-%s'|format(1, 'b') }}|{{ 'a<b'|e }}"
    ),
    "string methods": (
        "{{ messages[0].content.upper().strip().split(' ')[0] }}{{ 'a,b'.split(',') }}{{ 'abc'.startswith('a') }}"
        "{{ '{} {x}'.format(1, x=2) }}{{ 'aXb'.replace('X', '-').title() }}{{ ' x'.lstrip() }}{{ 'x '.rstrip() }}"
        "{{ 'a-b'.partition('-') }}{{ ','.join(['a','b']) }}{{ 'abc'.find('c') }}{{ 'a\nb'.splitlines() }}{{ 'a'.isalpha() }}"
    ),
    "tests and operators": (
        "{{ 1 if messages is iterable else 0 }}{{ messages[0].content is string }}{{ tools is none }}{{ x is defined }}"
        "{{ 3 // 2 }}{{ 3 % 2 }}{{ 2 ** 3 }}{{ 7 / 2 }}{{ 1 < 2 <= 2 }}{{ 'a' in 'abc' }}{{ 'a' not in ['b'] }}{{ not true }}"
        "{{ 'a' ~ 1 ~ none }}{{ [1] + [2] }}{{ 'ab' * 3 }}{{ -1 }}{{ (1, 2) }}{{ 5 is divisibleby 5 }}{{ none is none }}"
    ),
    "loop controls": (
        "{% for x in messages %}{% if x.role == 'system' %}{% continue %}{% endif %}{{ loop.index }}{{ x.content }}"
        "{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}"
    ),
    "loop variables": (
        "{% for x in messages %}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}"
        "{{ loop.cycle('a', 'b') }}{{ loop.previtem.role if not loop.first }}{{ loop.nextitem.role if not loop.last }}"
        "{{ loop.changed(x.role) }}{% else %}none{% endfor %}"
    ),
    "slices and reversal": "{{ messages[::-1][0].content }}{{ messages[-1:]|length }}{% for x in messages[::-1] %}{{ x.role }}{% endfor %}{{ messages[0]['content'][:2] }}",
    "generation tag": "{% for x in messages %}{{ x.role }}{% generation %}\n{{ x.content }}\n{% endgeneration %}\n{% endfor %}",
    "set block": "{% set s %}{% for x in messages %}{{ x.content }}\n{% endfor %}{% endset %}{{ s|trim }}|{{ s|length }}",
    "raw and comments": "{# a\ncomment #}{% raw %}{{ not this }}{% endraw %}\n{%- raw -%} x {%- endraw -%}\n  {{ messages[0].content }}",
    "blanks of all kinds": "  {% if true %}  \n  a  {{- ' b ' -}}  \n\n  {%- endif %}  \n\n{%+ if true %} c{% endif +%}\n d\n\n",
    "undefined is empty": "[{{ nothing }}]{% if nothing %}x{% endif %}{% for y in nothing %}{% endfor %}{{ nothing|default('d') }}{{ nothing ~ 'z' }}",
    "conditional expression": "{{ 'yes' if messages|length > 1 }}{{ 'a' if false }}{{ messages[0].nothing }}{{ messages[0].get('nothing', 'n') }}",
    "dictionaries": "{% for k, v in messages[0].items() %}{{ k }}:{{ v }};{% endfor %}{{ dict(a=1, b=[2]) }}{{ dict(a=1).keys()|list }}{{ {'a': {'b': 1}}.a.b }}",
    "joiner and cycler": "{% set j = joiner(', ') %}{% set c = cycler('o', 'e') %}{% for x in messages %}{{ j() }}{{ c.next() }}{{ x.role }}{% endfor %}",
    "escapes in strings": "{{ '\\n\\t\\'\\\\\\u00e9\\x41' }}{{ \"a\\\"b\" }}{{ '｜▁' }}",
    "carriage returns": "{% if true %}\r\na\r\n{% endif %}\rb\n",
    "filter block": "{% filter upper %}{{ messages[0].content }}{% endfilter %}{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}",
    "groups": "{% for role, group in messages|groupby('role') %}{{ role }}:{{ group|map(attribute='content')|join('/') }};{% endfor %}",
    "parts": "{% for x in messages %}{% if x.content is string %}{{ x.content }}{% else %}{% for p in x.content %}<{{ p.text }}>{% endfor %}{% endif %}{% endfor %}",
    "reasoning": (
        "{% for x in messages %}{% if x.role == 'assistant' %}{% set c = x.content %}{% if '</think>' in c %}"
        "{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}A:{{ c }}{% else %}{{ x.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<think>\n{% endif %}"
    ),
    "markup": "{{ messages[0].content|escape ~ '<b>' }}{{ '<b>'|safe }}{{ ('<i>'|e) + '<u>' }}{{ 'a'|e|upper }}",
}

CONVERSATIONS = {
    "one": [m("user", "Hello there")],
    "two turns": [m("user", "Q1"), m("assistant", "A1"), m("user", "Q2")],
    "answered": [m("user", "Q1"), m("assistant", "A1 ")],
    "system": [m("system", "Be brief."), m("user", "Q1"), m("assistant", "A1"), m("user", "Q2")],
    "blanks": [m("user", "  lead and trail \n"), m("assistant", "\n\nA\n"), m("user", "\t")],
    "unicode": [
        m("user", "你好，世界 🙂 e\u0301 \u00a0 \u2028 ﷽"),
        m("assistant", "naïve </s> <|im_end|>"),
        m("user", "{{ 7*7 }}"),
    ],
    "empty": [m("user", ""), m("assistant", ""), m("user", "")],
    "reasoned": [m("user", "Q"), m("assistant", "<think>\nwhy\n</think>\n\nA"), m("user", "<b>&'\"")],
    "long": [m(("user", "assistant")[i % 2], f"text {i}\n" * i) for i in range(15)],
}


def theirs(source, messages, **settings):
    texts, _ = render_jinja_template([messages], chat_template=source, **settings)
    return texts[0]


SETTINGS = {"add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}


def compare(source, messages, **settings):
    """Both render the same, or both refuse."""
    settings = {**SETTINGS, **settings}
    try:
        expected = theirs(source, messages, **settings)
    except Exception as error:
        expected = error
    for bundled in (True, False):
        template = Template(source, bundled=bundled)
        if isinstance(expected, Exception):
            with pytest.raises(Exception, match="chat template"):
                template.render(messages, **settings)
        else:
            assert template.render(messages, **settings) == expected


def test_there_are_enough():
    assert len(SOURCES) >= 30
    assert len(SOURCES) * len(CONVERSATIONS) >= 250


@pytest.mark.parametrize("source", SOURCES)
def test_styles(source):
    for messages in CONVERSATIONS.values():
        compare(SOURCES[source], messages)
        compare(SOURCES[source], messages, add_generation_prompt=False)


@pytest.mark.parametrize("source", ["tools as JSON lines", "tools indented", "JSON of messages", "recursive macro"])
def test_tools_and_calls(source):
    messages = [
        m("user", "Weather?"),
        m("assistant", "", tool_calls=[CALL, {"name": "f", "arguments": {}}]),
        m("tool", "12 °C"),
        m("tool", "more"),
        m("assistant", "It is 12."),
        m("user", "Thanks"),
    ]
    if "tools" in SOURCES[source]:
        compare(SOURCES[source], messages if "JSON" in source else messages[:1], tools=[TOOL, TOOL])
    if "tool_calls" in SOURCES[source] or source == "JSON of messages":
        compare(SOURCES[source], messages)


def test_parts():
    messages = [m("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), m("assistant", "x")]
    compare(SOURCES["parts"], messages)


@pytest.mark.parametrize("name", sorted(entries()))
def test_bundled_templates_are_ordinary_ones(name):
    """transformers renders our bundled sources to the same text, so they can be saved as chat_template.jinja."""
    template = registered(name)
    conversations = [c for c in CONVERSATIONS.values() if "system" in template.roles or c[0]["role"] != "system"]
    for messages in conversations:
        settings = {"add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}
        try:
            expected = theirs(template.source, messages, **settings)
        except Exception:
            expected = None
        if expected is not None:
            assert template.render(messages, **settings) == expected
