"""Which tokens are learned: for every bundled format and kind of vocabulary, the answers and their ends, no more."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from test_template_chat import assistant, system, user, with_added

from paddock.errors import TemplateError, UsageError
from paddock.tokenizer import load
from paddock.tokenizer.chat import control_texts, encode_chat
from paddock.tokenizer.supervision import Supervisor, pair
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_check import LOOKS_LIKE_CONTROL
from paddock.tokenizer.template_registry import entries, registered

ENDS = {  # what a model has to write behind an answer so that generation ends there
    "alpaca": "</s>",
    "alpaca-lora": "</s>",
    "baize": "\n[|Human|]",
    "belle": "</s>",
    "belle-gptq": "</s>",
    "chatglm": "<eop>",
    "chatglm2": "</s>",
    "chatml": "<|im_end|>",
    "deepseek-llm": "<｜end▁of▁sentence｜>",
    "dolly": "\n\n### End",
    "falcon-180b-chat": "\nUser:",
    "falcon-instruct": "\n\nUser",
    "koala": "</s>",
    "llama-2": " </s>",
    "llama-3": "<|eot_id|>",
    "mistral-v1": "</s>",
    "mistral-v3": "</s>",
    "moss": "<eom>",
    "mpt-30b-chat": "<|im_end|>",
    "mpt-chat": "<|im_end|>",
    "mpt-instruct": "<|endoftext|>",
    "oasst-llama": "</s>",
    "oasst-pythia": "<|endoftext|>",
    "phoenix": "</s>",
    "qwen2": "<|im_end|>",
    "stablevicuna": "\n\n###",
    "vicuna": "</s>",
    "vicuna-v0": "\n###",
    "zephyr": "</s>",
}
REFUSED = {  # why an answer to a first question cannot be learned as it stands
    "code-llama-70b-instruct": r"asks for an answer with 'Destination: user\\n\\n ' at inference, and writes message",
    "deepseek-r1": r"asks for an answer with '<think>\\n' at inference, and writes message 2 \(assistant\) after",
    "moss-plugins": r"does not write message 2 as it is behind its prompt, but ' None<eot>",
    "plain": r"writes no end behind message 2 \(assistant\)",
    "stablebeluga": r"writes no end behind message 2 \(assistant\), but '\\n\\n': a model would not learn to stop",
}
ALONE = ("belle-gptq", "mpt-instruct", "plain")  # formats of one question
APART = ("chatglm", "chatglm2")  # a turn changes when another follows
TALKS = {
    "English": ["Hello, who?", "It is me.", "And what now?", "(Nothing) - 12.5 of it!", "Sure?", "Yes, all\nof it"],
    "Chinese": ["你好，你是谁？", "我是一个助手。", "然后呢？", "好的，谢谢。\n再见！", "真的吗？", "“是的”，完全正确"],
}
KINDS = ["llama", "llama, not legacy", "neox", "glm"]
# A token lies across a prompt's end in these, so later prompts have other ids there: with the brackets that the second
# English answer begins with, and always where newlines at the end of a text are cut otherwise than before a word.
BRACKETS, NEWLINES = ("koala", "alpaca", "baize"), (("belle", "neox"), ("llama-3", "neox"))


@pytest.fixture(scope="module")
def tokenizers(shared_data, tmp_path_factory):
    """Real vocabularies, each with the control tokens of every bundled format."""
    written = {tag for name in entries() for tag in _tags(registered(name))}
    folder = shared_data / "tokenizers"
    llama, glm = folder / "llama" / "tokenizer.model", folder / "glm" / "cog-pretrain.model"
    neox = json.loads((folder / "gpt-neox" / "20B_tokenizer.json").read_text(encoding="utf-8"))
    known = {token["content"] for token in neox["added_tokens"]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    for place, text in enumerate(sorted(written - known)):
        neox["added_tokens"].append({"id": 50277 + place, "content": text, **flags})
    there = tmp_path_factory.mktemp("neox")
    (there / "tokenizer.json").write_text(json.dumps(neox), encoding="utf-8")
    more = sorted(written - {"<s>", "</s>"})
    return {
        "llama": with_added(tmp_path_factory.mktemp("llama"), llama, more, 32000),
        "llama, not legacy": with_added(tmp_path_factory.mktemp("new"), llama, more, 32000, legacy=False),
        "neox": load(there),
        "glm": with_added(tmp_path_factory.mktemp("glm"), glm, more, 50000),
    }


def _tags(template):
    found = LOOKS_LIKE_CONTROL.finditer(template.source + "".join(template.stop)) if template.control else ()
    return {match.group() for match in found} - set(template.plain_tags)


def talk(language, template):
    """Messages of up to three questions and answers, and the numbers of the answers."""
    texts = TALKS[language][: 2 if template in ALONE else 6]
    messages = [user(text) if place % 2 == 0 else assistant(text) for place, text in enumerate(texts)]
    return messages, list(range(1, len(texts), 2))


def in_order(found):
    """The ids before each learned stretch, and those of the stretch, the first answer first."""
    stretches = [
        (sequence.ids[:start], sequence.ids[start:stop]) for sequence in found for start, stop in sequence.asked
    ]
    return sorted(stretches, key=lambda each: len(each[0]))


def learned(tokenizer, sequence):
    """The text of each stretch that is learned. A tokenizer's first blank, and its blank for `▁`, are no matter."""
    return [tokenizer.decode(sequence.ids[start:stop], skip_special=False) for start, stop in sequence.asked]


def same(text, kind):
    """Less what vocabularies change of every text: SentencePiece's own mark, and all that GLM's takes for one blank."""
    text = text.replace("▁", " ").replace("\n\n", "\n").lstrip()
    return " ".join(unicodedata.normalize("NFKC", text).split()).replace(" <", "<") if kind == "glm" else text


# --- every bundled format -----------------------------------------------------------------------------------------


def test_no_format_is_forgotten():
    assert set(ENDS) | set(REFUSED) == set(entries())


@pytest.mark.parametrize("language", TALKS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ENDS)
def test_what_is_learned_is_the_answers_and_their_ends(tokenizers, name, kind, language):
    tokenizer, template = tokenizers[kind], registered(name)
    messages, answers = talk(language, name)
    found = Supervisor(tokenizer, template).sequences(messages, answers)
    texts = [tokenizer.decode(ids, skip_special=False) for _, ids in in_order(found)]
    assert [same(text, kind) for text in texts] == [same(messages[n]["content"] + ENDS[name], kind) for n in answers]
    crossed = name in BRACKETS and language == "English"
    assert len(found) == (len(answers) if name in APART or (name, kind) in NEWLINES else 2 if crossed else 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ENDS)
def test_what_stands_before_an_answer_is_its_prompt_at_inference(tokenizers, name, kind):
    """To the id: what chat and the server encode for the messages before it."""
    tokenizer, template = tokenizers[kind], registered(name)
    messages, answers = talk("English", name)
    found = Supervisor(tokenizer, template).sequences(messages, answers)
    assert [list(prompt) for prompt, _ in in_order(found)] == [
        encode_chat(tokenizer, template, messages[:number]) for number in answers
    ]


@pytest.mark.parametrize("name", REFUSED)
def test_formats_that_cannot_be_learned_from_say_why(tokenizers, name):
    with pytest.raises(TemplateError, match=REFUSED[name]):
        Supervisor(tokenizers["llama"], registered(name)).sequences([user("Q"), assistant("A")], [1])


@pytest.mark.parametrize("name", ["plain", "stablebeluga"])
def test_an_end_can_be_put_where_the_template_writes_none(tokenizers, name):
    tokenizer, messages = tokenizers["llama"], talk("English", name)[0]
    answers = list(range(1, len(messages), 2))
    (first, *_) = Supervisor(tokenizer, registered(name), "eos").sequences(messages, answers)
    assert [text.strip() for text in learned(tokenizer, first)] == ["It is me.</s>"]
    *_, last = Supervisor(tokenizer, registered(name), "missing").sequences(messages, answers)
    assert [text.strip() for text in learned(tokenizer, last)] == [messages[n]["content"] for n in answers]


def test_an_end_that_history_does_not_have_makes_sequences_of_their_own(tokenizers):
    """The second prompt shows the first answer as inference does: without the end that was put behind it."""
    tokenizer, template = tokenizers["llama"], registered("stablebeluga")
    messages = [user("Q"), assistant("A"), user("R"), assistant("B")]
    found = Supervisor(tokenizer, template, "eos").sequences(messages, [1, 3])
    assert len(found) == 2
    assert [list(each.ids[: each.asked[0][0]]) for each in found] == [
        encode_chat(tokenizer, template, messages[:1]),
        encode_chat(tokenizer, template, messages[:3]),
    ]


def test_a_vocabulary_without_an_end_cannot_be_given_one(trained, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(trained(vocab_size=320, eos_id=-1, byte_fallback=True))
    with pytest.raises(UsageError, match="has no token that ends a text"):
        Supervisor(load(tmp_path), registered("plain"), "eos")


# --- borders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cue", ["### Response:", "### Response:\n", "### Response: ", "GPT:(", "Answer", "\n\n"])
@pytest.mark.parametrize("answer", ["It is", "\nIt is", "s: 1", ")", "。是", "  two blanks"])
def test_a_token_across_the_border_is_cut_there(tokenizers, kind, cue, answer):
    """Alpaca's three endings, and worse: the prompt's ids stay, and the answer's spell the answer."""
    tokenizer = tokenizers[kind]
    source = "{% for m in messages %}{{ m.content }}{{ CUE if m.role == 'user' else '</s>' }}{% endfor %}"
    template = Template(source.replace("CUE", json.dumps(cue)), "cue", stop=("</s>",))
    (found,) = Supervisor(tokenizer, template).sequences([user("Q"), assistant(answer)], [1])
    prompt = encode_chat(tokenizer, template, [user("Q")])
    assert list(found.ids[: len(prompt)]) == prompt
    assert found.asked == ((len(prompt), len(found.ids)),)
    assert learned(tokenizer, found)[0].lstrip() == answer.lstrip() + "</s>"
    if kind != "glm":  # whose vocabulary makes one blank of several
        whole = tokenizer.decode(found.ids, skip_special=False)
        assert whole.endswith("Q" + cue + answer + "</s>")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["vicuna", "chatml", "alpaca", "llama-2", "koala", "oasst-pythia", "zephyr", "chatglm"]
)
def test_ends_spelt_in_an_answer_stay_text(tokenizers, kind, name):
    tokenizer, template = tokenizers[kind], registered(name)
    end = ENDS[name].strip()
    messages = [user(f"say {end}"), assistant(f"It is {end} and <s> so"), user(end), assistant(f"x{end}")]
    found = Supervisor(tokenizer, template).sequences(messages, [1, 3])
    for sequence in found:
        for (start, stop), text in zip(sequence.asked, learned(tokenizer, sequence), strict=True):
            assert control_texts(tokenizer)[end] not in sequence.ids[start : stop - 1]
            assert sequence.ids[stop - 1] == control_texts(tokenizer)[end]
            assert same(text, kind) in [same(messages[n]["content"] + ENDS[name], kind) for n in (1, 3)]


def test_markers_in_an_answer_stay_text_and_are_told_of(tokenizers):
    supervisor = Supervisor(tokenizers["llama"], registered("vicuna-v0"))
    answer = "a ### Human: b"
    (found,) = supervisor.sequences([user("Q"), assistant(answer)], [1])
    assert [text.strip() for text in learned(tokenizers["llama"], found)] == [answer + "\n###"]
    assert supervisor.stop_inside(answer) == "###"
    assert supervisor.stop_inside("calm") is None


def test_long_conversations_are_encoded_once(tokenizers, monkeypatch):
    """Work grows with the text: each stretch between control tokens is encoded once, however often it is read."""
    tokenizer, sizes = tokenizers["llama"], {}
    encode = type(tokenizer).encode
    for turns in (20, 40):
        seen = []
        monkeypatch.setattr(
            type(tokenizer), "encode", lambda s, text, *a, _n=seen, **k: _n.append(text) or encode(s, text, *a, **k)
        )
        messages = [m for n in range(turns) for m in (user(f"Question {n}"), assistant(f"The answer is {n}."))]
        (found,) = Supervisor(tokenizer, registered("vicuna")).sequences(messages, list(range(1, 2 * turns, 2)))
        assert len(found.asked) == turns
        sizes[turns] = sum(map(len, seen))
    assert sizes[40] < 2.5 * sizes[20]


# --- who is learned -----------------------------------------------------------------------------------------------


def test_only_what_is_asked_for_is_learned(tokenizers):
    tokenizer = tokenizers["neox"]
    messages = [system("S"), user("Q"), assistant("A"), user("R"), assistant("B")]
    supervisor = Supervisor(tokenizer, registered("chatml"))
    (last,) = supervisor.sequences(messages, [4])
    assert learned(tokenizer, last) == ["B<|im_end|>"]
    (first,) = supervisor.sequences(messages, [2])
    assert learned(tokenizer, first) == ["A<|im_end|>"]
    assert tokenizer.decode(first.ids, skip_special=False).endswith("A<|im_end|>")  # nothing that nobody asks about
    assert supervisor.sequences(messages, []) == []


@pytest.mark.parametrize("kind", ["llama", "neox"])
def test_other_roles_are_learned_by_their_text_and_end(tokenizers, kind):
    tokenizer = tokenizers[kind]
    messages = [system("Rules here"), user("Quite so"), assistant("A"), user("Quite so")]
    (found,) = Supervisor(tokenizer, registered("chatml")).sequences(messages, [1, 2, 3])
    texts = ["Quite so<|im_end|>", "A<|im_end|>", "Quite so<|im_end|>"]
    assert [text.strip() for text in learned(tokenizer, found)] == texts
    (found,) = Supervisor(tokenizer, registered("vicuna")).sequences(messages[:3], [0, 1])
    assert [text.strip() for text in learned(tokenizer, found)] == ["Rules here", "Quite so"]


CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments|tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_calls_are_learned_as_the_template_dresses_them(tokenizers):
    tokenizer = tokenizers["neox"]
    call = {"type": "function", "function": {"name": "look", "arguments": {"x": "<|im_end|>"}}}
    messages = [user("Q"), {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "7"}]
    messages.append(assistant("Seven"))
    template = Template(CALLS, "calls", stop=("<|im_end|>",))
    (found,) = Supervisor(tokenizer, template).sequences(messages, [1, 3])
    first, second = learned(tokenizer, found)
    assert first == '<tool_call>\n{"name": "look", "arguments": {"x": "<|im_end|>"}}\n</tool_call><|im_end|>'
    assert second == "Seven<|im_end|>"
    end = control_texts(tokenizer)["<|im_end|>"]
    assert [found.ids[start:stop].count(end) for start, stop in found.asked] == [1, 1]


def test_commands_and_answers_to_their_results_are_learned(tokenizers):
    """MOSS's plugins: thoughts and commands are written up to <eoc>; the results are not the model's."""
    tokenizer = tokenizers["neox"]
    messages = [
        user("Q"),
        {"role": "assistant", "content": "", "inner_thoughts": "look it up", "commands": 'Search("x")'},
        {"role": "tool", "content": "Search => y"},
        assistant("It is y"),
    ]
    found = Supervisor(tokenizer, registered("moss-plugins")).sequences(messages, [1, 3])
    texts = [text for sequence in found for text in learned(tokenizer, sequence)]
    assert [text.strip() for text in texts] == [
        'look it up<eot>\n<|Commands|>: Search("x")<eoc>',
        "It is y<eom>",
    ]


# --- what templates do to answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{{ m.content|upper }}", "does not write message 2 as it is"),
        ("{{ m.content.split('</think>')[-1] }}", "does not write message 2 as it is"),
        ("", "does not write message 2 as it is"),
        ("Well: {{ m.content }}", "does not write message 2 as it is behind its prompt, but 'Well: a</think>b"),
    ],
)
def test_answers_that_a_template_changes_are_refused(tokenizers, written, message):
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}:{% else %}WRITTEN</s>{% endif %}{% endfor %}"
    )
    template = Template(source.replace("WRITTEN", written), "changed", stop=("</s>",))
    with pytest.raises(TemplateError, match=re.escape(message)):
        Supervisor(tokenizers["llama"], template).sequences([user("Q"), assistant("a</think>b")], [1])


def test_messages_that_a_template_does_not_take_are_refused(tokenizers):
    supervisor = Supervisor(tokenizers["llama"], registered("vicuna"))
    for messages in (
        [assistant("A")],
        [user("Q"), user("R"), assistant("A")],
        [user("Q"), assistant("A"), assistant("B")],
    ):
        with pytest.raises(TemplateError):
            supervisor.sequences(messages, [len(messages) - 1])


# --- pairs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("source", "target"), [("Paris is in", " France"), ("un", "known"), ("你好", "世界"), ("", "x")]
)
def test_a_pair_is_a_text_and_how_it_goes_on(tokenizers, kind, source, target):
    tokenizer = tokenizers[kind]
    found = pair(tokenizer, source, target)
    ((start, stop),) = found.asked
    prompt = tokenizer.encode(source)
    assert list(found.ids[:start]) == prompt[: len(prompt) - len(tokenizer.after)]
    assert found.ids[stop - 1] == tokenizer.eos_ids[0]
    assert stop == len(found.ids)
    assert tokenizer.decode(found.ids[start : stop - 1]).strip() == target.strip()
    assert tokenizer.decode(found.ids).strip() == source + target  # no blank where the two were encoded apart
    endless = pair(tokenizer, source, target, "missing")
    assert endless.ids == found.ids[:-1]
