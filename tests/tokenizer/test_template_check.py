"""The health check finds each fault it is for, and nothing wrong with what is sound."""

from __future__ import annotations

import json
import shutil

import pytest

from paddock.tokenizer import load
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_check import check
from paddock.tokenizer.template_registry import entries, registered


@pytest.fixture(scope="module")
def tokenizer(shared_data, tmp_path_factory):
    """LLaMA's vocabulary with the ChatML tokens: adds BOS, ends in </s>."""
    folder = tmp_path_factory.mktemp("check")
    shutil.copy(shared_data / "tokenizers" / "llama" / "tokenizer.model", folder / "tokenizer.model")
    decoder = {
        "32000": {"content": "<|im_start|>", "special": True},
        "32001": {"content": "<|im_end|>", "special": True},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}), encoding="utf-8")
    return load(folder)


def found(template, tokenizer=None, about=None):
    return [(f.level, f.about) for f in check(template, tokenizer) if about is None or f.about == about]


LOOP = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SOUND = "{{ bos_token }}" + LOOP


def test_a_sound_template_has_no_complaints(tokenizer):
    findings = check(Template(SOUND, stop=("</s>",)), tokenizer)
    assert {finding.level for finding in findings} == {"ok"}
    assert {
        "render",
        "history",
        "prefix",
        "system",
        "tools",
        "generation prompt",
        "blanks",
        "BOS",
        "stop",
        "tokens",
    } <= {finding.about for finding in findings}


FAULTS = [
    ("render", "fail", "{{ raise_exception('no') }}"),
    ("history", "warn", "{% if messages|length > 1 %}{{ raise_exception('no') }}{% endif %}" + LOOP),
    ("history", "fail", "{{ messages[-1].content }}</s>"),
    ("prefix", "warn", "{{ messages|length }}" + LOOP),
    ("system", "warn", "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + LOOP),
    ("system", "fail", "{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"),
    ("tools", "fail", "{% if tools %}x{% endif %}" + LOOP),
    ("tools", "fail", "{% if tools %}{{ tools[0].foo.bar }}{% endif %}" + LOOP),
    ("generation prompt", "warn", LOOP.replace("assistant: {% endif", "answer:{% endif")),
    ("blanks", "warn", LOOP.replace("{{ m.role }}: ", "{{ m.role }}:  ")),
    ("date", "warn", "{{ strftime_now('%d %b') }}" + LOOP),
    ("BOS", "fail", "{{ bos_token }}" + SOUND),
    ("BOS", "warn", LOOP.replace("{{ m.content }}", "<s>{{ m.content }}")),
    ("stop", "fail", LOOP.replace("</s>", "<|im_end|>")),
    ("stop", "warn", LOOP.replace("</s>", " END")),
    ("tokens", "warn", LOOP.replace("{{ m.role }}: ", "<|{{ m.role }}|>")),
]


@pytest.mark.parametrize(("about", "level", "source"), FAULTS)
def test_each_fault_is_found(tokenizer, about, level, source):
    template = Template(source, "faulty", stop=("</s>",))
    findings = [finding for finding in check(template, tokenizer) if finding.about == about]
    assert [finding.level for finding in findings] == [level]
    assert findings[0].text
    assert findings[0].fix


def test_a_bundled_template_must_not_miss_a_token(tokenizer):
    source = LOOP.replace("{{ m.role }}: ", "<|{{ m.role }}|>")
    assert found(Template(source, stop=("</s>",), bundled=True), tokenizer, "tokens") == [("fail", "tokens")]


def test_an_end_token_that_is_no_token(shared_data):
    """GPT-NeoX spells </s> in three tokens: answers in this format would never end."""
    neox = load(shared_data / "tokenizers" / "gpt-neox" / "20B_tokenizer.json")
    assert ("fail", "tokens") in found(Template(LOOP, stop=("</s>",)), neox)
    assert ("fail", "tokens") in found(registered("vicuna"), neox)


def test_hostile_templates_only_give_findings(tokenizer):
    for source in (
        "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
        "{{ ''.x.y }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ):
        assert found(Template(source, seconds=0.3), tokenizer) == [("fail", "render")]


@pytest.mark.parametrize("name", sorted(entries()))
def test_bundled_templates_are_sound_without_a_tokenizer(name):
    assert not [finding for finding in check(registered(name)) if finding.level == "fail"]


@pytest.mark.parametrize(
    "name",
    [
        "vicuna",
        "vicuna-v0",
        "alpaca",
        "koala",
        "llama-2",
        "mistral-v1",
        "chatml",
        "zephyr",
        "stablebeluga",
        "baize",
        "phoenix",
    ],
)
def test_bundled_templates_go_with_their_tokenizer(tokenizer, name):
    findings = check(registered(name), tokenizer)
    assert not [finding for finding in findings if finding.level == "fail"]
    assert ("ok", "injection") in [(finding.level, finding.about) for finding in findings]


@pytest.mark.parametrize("name", ["llama-3", "deepseek-r1", "moss", "chatglm", "mistral-v3"])
def test_a_bundled_template_with_a_foreign_tokenizer_fails(tokenizer, name):
    assert ("fail", "tokens") in found(registered(name), tokenizer)


def test_formats_that_rewrite_earlier_turns_are_named():
    assert ("warn", "prefix") in found(registered("chatglm"))
    assert ("ok", "prefix") in found(registered("vicuna"))
