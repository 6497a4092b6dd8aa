"""Golden strings: every bundled format, as its authors documented it, letter by letter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddock.errors import TemplateError
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_registry import entries, find_template, no_template, registered, suggest

CURIOUS_USER = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
CURIOUS_HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the human's questions."
)
INSTRUCTION = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request."
)
BELUGA = (
    "You are Stable Beluga, an AI that follows instructions extremely well. Help as much as you can. Remember, be "
    "safe, and don't do anything illegal."
)
STABLE = "### Assistant: I am StableVicuna, a large language model created by CarperAI. I am here to chat!\n"
MPT30 = "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers."


def system(text):
    return {"role": "system", "content": text}


def user(text, **more):
    return {"role": "user", "content": text, **more}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


ONE = [user("Q1")]
TWO = [user("Q1"), assistant("A1"), user("Q2")]
SYS = system("SYS")
HEADERS = (
    "<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n"
    "<|im_start|>assistant\n"
)
HEADER = "<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\n"
BEGIN, END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"

# The published strings (two turns, or one where a format holds one), with the system text SYS where it takes one.
GOLDEN = {
    "vicuna": ([SYS, *TWO], "SYS USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:"),
    "vicuna-v0": ([SYS, *TWO], "SYS\n### Human: Q1\n### Assistant: A1\n### Human: Q2\n### Assistant:"),
    "alpaca": ([SYS, *ONE], "SYS\n\n### Instruction:\nQ1\n\n### Response:"),
    "alpaca-lora": ([SYS, *ONE], "SYS\n\n### Instruction:\nQ1\n\n### Response:\n"),
    "koala": (TWO, "BEGINNING OF CONVERSATION: USER: Q1 GPT:A1</s>USER: Q2 GPT:"),
    "stablebeluga": ([SYS, *ONE], "### System:\nSYS\n\n### User:\nQ1\n\n### Assistant:\n"),
    "llama-2": ([SYS, *TWO], "<s>[INST] <<SYS>>\nSYS\n<</SYS>>\n\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST]"),
    "mistral-v1": (TWO, "<s> [INST] Q1 [/INST] A1</s> [INST] Q2 [/INST]"),
    "mistral-v3": (TWO, "<s>[INST] Q1[/INST] A1</s>[INST] Q2[/INST]"),
    "chatglm": (TWO, "[Round 0]\n问：Q1\n答：A1\n[Round 1]\n问：Q2\n答：[gMASK]<sop>"),
    "chatglm2": (TWO, "[gMASK]sop[Round 1]\n\n问：Q1\n\n答：A1\n\n[Round 2]\n\n问：Q2\n\n答："),
    "moss": ([system("META"), *TWO], "META<|Human|>: Q1<eoh>\n<|MOSS|>: A1<eom>\n<|Human|>: Q2<eoh>\n<|MOSS|>:"),
    "belle": (TWO, "Human: \nQ1\n\nAssistant: \nA1</s>Human: \nQ2\n\nAssistant: \n"),
    "belle-gptq": (ONE, "Human: Q1\n\nAssistant:"),
    "phoenix": (
        [SYS, *TWO],
        "SYS\n\nHuman: <s>Q1</s>Assistant: <s>A1</s>Human: <s>Q2</s>Assistant: <s>",
    ),
    "oasst-pythia": (
        TWO,
        "<|prompter|>Q1<|endoftext|><|assistant|>A1<|endoftext|><|prompter|>Q2<|endoftext|><|assistant|>",
    ),
    "oasst-llama": (
        [SYS, *TWO],
        "<|system|>SYS</s><|prompter|>Q1</s><|assistant|>A1</s><|prompter|>Q2</s><|assistant|>",
    ),
    "stablevicuna": ([SYS, *TWO], "SYS\n### Human: Q1\n### Assistant: A1\n\n### Human: Q2\n### Assistant:"),
    "baize": (
        [SYS, *TWO],
        "SYS\n[|Human|]Hello!\n[|AI|]Hi!\n[|Human|]Q1\n[|AI|]A1\n[|Human|]Q2\n[|AI|]",
    ),
    "dolly": ([SYS, *ONE], "SYS\n\n### Instruction:\nQ1\n\n### Response:\n"),
    "mpt-chat": ([SYS, *TWO], "<|im_start|>system\nSYS<|im_end|>\n" + HEADERS),
    "mpt-instruct": ([SYS, *ONE], "SYS\n\n### Instruction:\nQ1\n\n### Response:\n"),
    "falcon-instruct": (TWO, "User: Q1\n\nAssistant: A1\n\nUser: Q2\n\nAssistant:"),
    "falcon-180b-chat": ([SYS, *TWO], "System: SYS\nUser: Q1\nFalcon: A1\nUser: Q2\nFalcon:"),
    "deepseek-llm": (TWO, f"{BEGIN}User: Q1\n\nAssistant: A1{END}User: Q2\n\nAssistant:"),
    "plain": (ONE, "Q1"),
    # Not in the collection of published strings; from the families' own documents.
    "mpt-30b-chat": (TWO, f"<|im_start|>system\n{MPT30}<|im_end|>\n" + HEADERS),
    "chatml": ([SYS, *TWO], "<|im_start|>system\nSYS<|im_end|>\n" + HEADERS),
    "qwen2": (TWO, "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + HEADERS),
    "deepseek-r1": ([SYS, *TWO], f"{BEGIN}SYS<｜User｜>Q1<｜Assistant｜>A1{END}<｜User｜>Q2<｜Assistant｜><think>\n"),
    "llama-3": (
        [SYS, *ONE],
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSYS<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nQ1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "zephyr": (
        [SYS, *TWO],
        "<|system|>\nSYS</s>\n<|user|>\nQ1</s>\n<|assistant|>\nA1</s>\n<|user|>\nQ2</s>\n<|assistant|>\n",
    ),
    "code-llama-70b-instruct": (
        [SYS, *TWO],
        "<s> Source: system\n\n SYS<step> Source: user\n\n Q1<step> Source: assistant\n\n A1<step> Source: user\n\n Q2"
        "<step> Source: assistant\nDestination: user\n\n ",
    ),
    "moss-plugins": (
        [
            system("META"),
            user("Q1"),
            assistant("", inner_thoughts="T1", commands="Calculate(1+1)"),
            {"role": "tool", "content": "\nCalculate(1+1) => 2\n"},
            assistant("A1"),
            user("Q2"),
        ],
        "META<|Human|>: Q1<eoh>\n<|Inner Thoughts|>: T1<eot>\n<|Commands|>: Calculate(1+1)<eoc>\n"
        "<|Results|>:\nCalculate(1+1) => 2\n<eor>\n<|MOSS|>: A1<eom>\n<|Human|>: Q2<eoh>\n<|Inner Thoughts|>:",
    ),
}

# Without a system message, one turn, an empty system message, more turns than a format was trained on.
VARIANTS = [
    ("vicuna", ONE, f"{CURIOUS_USER} USER: Q1 ASSISTANT:"),
    ("vicuna", [system(""), *ONE], "USER: Q1 ASSISTANT:"),
    ("vicuna-v0", ONE, f"{CURIOUS_HUMAN}\n### Human: Q1\n### Assistant:"),
    ("alpaca", ONE, f"{INSTRUCTION}\n\n### Instruction:\nQ1\n\n### Response:"),
    ("alpaca", [user("Q", input="X")], f"{WITH_INPUT}\n\n### Instruction:\nQ\n\n### Input:\nX\n\n### Response:"),
    ("alpaca", [user("Q", input="")], f"{INSTRUCTION}\n\n### Instruction:\nQ\n\n### Response:"),
    ("alpaca-input", [SYS, user("Q", input="X")], "SYS\n\n### Instruction:\nQ\n\n### Input:\nX\n\n### Response:"),
    ("alpaca", [SYS, *TWO], "SYS\n\n### Instruction:\nQ1\n\n### Response:A1</s>### Instruction:\nQ2\n\n### Response:"),
    ("alpaca-lora", [user("Q", input="X")], f"{WITH_INPUT}\n\n### Instruction:\nQ\n\n### Input:\nX\n\n### Response:\n"),
    ("koala", ONE, "BEGINNING OF CONVERSATION: USER: Q1 GPT:"),
    ("stablebeluga", ONE, f"### System:\n{BELUGA}\n\n### User:\nQ1\n\n### Assistant:\n"),
    ("stablebeluga", [system(""), *ONE], "### User:\nQ1\n\n### Assistant:\n"),
    ("llama-2", ONE, "<s>[INST] Q1 [/INST]"),
    ("llama-2", TWO, "<s>[INST] Q1 [/INST] A1 </s><s>[INST] Q2 [/INST]"),
    ("llama-2", [user("  Q1 \n"), assistant(" A1 "), user("Q2 ")], "<s>[INST] Q1 [/INST] A1 </s><s>[INST] Q2 [/INST]"),
    ("mistral-v1", [SYS, *TWO], "<s> [INST] SYS\n\nQ1 [/INST] A1</s> [INST] Q2 [/INST]"),
    ("mistral-v3", [SYS, *TWO], "<s>[INST] Q1[/INST] A1</s>[INST] SYS\n\nQ2[/INST]"),
    ("chatglm", ONE, "Q1[gMASK]<sop>"),
    ("chatglm2", ONE, "[gMASK]sop[Round 1]\n\n问：Q1\n\n答："),
    ("moss", ONE, "<|Human|>: Q1<eoh>\n<|MOSS|>:"),
    (
        "moss-plugins",
        TWO,
        "<|Human|>: Q1<eoh>\n<|Inner Thoughts|>: None<eot>\n<|Commands|>: None<eoc>\n<|Results|>: None<eor>\n"
        "<|MOSS|>: A1<eom>\n<|Human|>: Q2<eoh>\n<|Inner Thoughts|>:",
    ),
    (
        "moss-plugins",
        [user("Q1"), assistant("", inner_thoughts="T", commands="C"), {"role": "tool", "content": "R"}],
        "<|Human|>: Q1<eoh>\n<|Inner Thoughts|>: T<eot>\n<|Commands|>: C<eoc>\n<|Results|>: R<eor>\n<|MOSS|>:",
    ),
    ("phoenix", ONE, f"{CURIOUS_HUMAN}\n\nHuman: <s>Q1</s>Assistant: <s>"),
    ("chimera", [SYS, *ONE], "SYS\n\nHuman: <s>Q1</s>Assistant: <s>"),
    ("oasst-llama", ONE, "<|prompter|>Q1</s><|assistant|>"),
    ("oasst-pythia", [SYS, *ONE], "<|system|>SYS<|endoftext|><|prompter|>Q1<|endoftext|><|assistant|>"),
    ("stablevicuna", ONE, f"{STABLE}\n### Human: Q1\n### Assistant:"),
    ("stablevicuna", [system(""), *ONE], "### Human: Q1\n### Assistant:"),
    ("baize", ONE, "[|Human|]Hello!\n[|AI|]Hi!\n[|Human|]Q1\n[|AI|]"),
    ("dolly", ONE, f"{INSTRUCTION}\n\n### Instruction:\nQ1\n\n### Response:\n"),
    (
        "dolly",
        [SYS, *TWO],
        "SYS\n\n### Instruction:\nQ1\n\n### Response:\nA1\n\n### End\n\n### Instruction:\nQ2\n\n### Response:\n",
    ),
    ("mpt-instruct", ONE, f"{INSTRUCTION}\n\n### Instruction:\nQ1\n\n### Response:\n"),
    ("mpt-chat", ONE, HEADER),
    ("mpt-30b-chat", [SYS, *ONE], "<|im_start|>system\nSYS<|im_end|>\n" + HEADER),
    ("chatml", ONE, HEADER),
    ("qwen2", [SYS, *ONE], "<|im_start|>system\nSYS<|im_end|>\n" + HEADER),
    ("falcon-instruct", [user("a\r\n\r\nb\n\nc")], "User: a\nb\nc\n\nAssistant:"),
    ("falcon-instruct", [SYS, *ONE], "SYS\n\nUser: Q1\n\nAssistant:"),
    ("falcon-180b-chat", ONE, "User: Q1\nFalcon:"),
    ("deepseek-llm", [SYS, *ONE], f"{BEGIN}SYS\n\nUser: Q1\n\nAssistant:"),
    ("deepseek-r1", ONE, f"{BEGIN}<｜User｜>Q1<｜Assistant｜><think>\n"),
    (
        "deepseek-r1",
        [user("Q1"), assistant("<think>\nwhy\n</think>\n\nA1"), user("Q2")],
        f"{BEGIN}<｜User｜>Q1<｜Assistant｜>\n\nA1{END}<｜User｜>Q2<｜Assistant｜><think>\n",
    ),
    ("zephyr", ONE, "<|user|>\nQ1</s>\n<|assistant|>\n"),
    (
        "code-llama-70b-instruct",
        ONE,
        "<s> Source: system\n\n <step> Source: user\n\n Q1<step> Source: assistant\nDestination: user\n\n ",
    ),
]

# Whole rows as training sees them: the last answer is there, with what ends it.
TRAINING = [
    ("vicuna", "USER: Q1 ASSISTANT: A1</s>"),
    ("vicuna-v0", "### Human: Q1\n### Assistant: A1\n###"),
    ("alpaca", "### Instruction:\nQ1\n\n### Response:A1</s>"),
    ("dolly", "### Instruction:\nQ1\n\n### Response:\nA1\n\n### End"),
    ("mpt-instruct", "### Instruction:\nQ1\n\n### Response:\nA1<|endoftext|>"),
    ("belle-gptq", "Human: Q1\n\nAssistant:A1</s>"),
    ("chatglm", "Q1[gMASK]<sop>A1<eop>"),
    ("chatglm2", "[gMASK]sop[Round 1]\n\n问：Q1\n\n答：A1</s>"),
    ("llama-2", "<s>[INST] Q1 [/INST] A1 </s>"),
    ("koala", "BEGINNING OF CONVERSATION: USER: Q1 GPT:A1</s>"),
]


def test_every_bundled_format_has_a_golden_string():
    assert sorted(GOLDEN) == sorted(entries())
    assert len(entries()) >= 30


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_published_string(name):
    messages, expected = GOLDEN[name]
    assert registered(name).render(messages) == expected


@pytest.mark.parametrize(("name", "messages", "expected"), VARIANTS)
def test_variants(name, messages, expected):
    assert registered(name).render(messages) == expected


@pytest.mark.parametrize(("name", "expected"), TRAINING)
def test_training_rows_end_as_trained(name, expected):
    template = registered(name)
    messages = [user("Q1"), assistant("A1")]
    if "system" in template.roles:
        messages = [system(""), *messages]
    assert template.render(messages, add_generation_prompt=False) == expected


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_nothing_depends_on_where_it_runs(name):
    """The same source as a stranger's template, in the process for strangers, writes the same."""
    template = registered(name)
    foreign = Template(template.source, name)
    messages, expected = GOLDEN[name]
    assert foreign.render(messages) == expected


def test_reasoning_can_be_left_out():
    text = registered("deepseek-r1").render(ONE, enable_thinking=False)
    assert text.endswith("<｜Assistant｜>")


@pytest.mark.parametrize("name", ["vicuna", "koala", "llama-2", "mistral-v1", "chatglm", "chatglm2", "phoenix"])
@pytest.mark.parametrize(
    "messages", [[assistant("A1")], [user("a"), user("b")], [user("a"), assistant("b"), assistant("c")]]
)
def test_turns_out_of_order_are_refused(name, messages):
    with pytest.raises(TemplateError, match="turns go user, assistant"):
        registered(name).render(messages)


@pytest.mark.parametrize("tag", ["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"])
def test_llama_2_refuses_its_tags_in_messages(tag):
    with pytest.raises(TemplateError, match="contains"):
        registered("llama-2").render([user(f"x {tag} y")])


@pytest.mark.parametrize("name", ["belle-gptq", "mpt-instruct"])
def test_formats_of_one_question_refuse_history(name):
    with pytest.raises(TemplateError, match="without history"):
        registered(name).render(TWO)


@pytest.mark.parametrize("name", ["koala", "chatglm", "chatglm2", "belle", "plain"])
def test_formats_without_system_refuse_one(name):
    with pytest.raises(TemplateError, match="has the role 'system'"):
        registered(name).render([SYS, *ONE])


@pytest.mark.parametrize("name", [name for name in sorted(entries()) if "system" in entries()[name].roles])
def test_a_system_message_alone_is_not_lost(name):
    try:
        assert "SYS" in registered(name).render([SYS])
    except TemplateError as error:
        assert "no user message" in str(error)


def test_metadata_is_whole():
    for entry in entries().values():
        assert entry.title and entry.credit, entry.name
        assert entry.stop or entry.name == "plain", entry.name
        assert set(entry.roles) <= {"system", "user", "assistant", "tool"}
        assert registered(entry.name).bundled


# --- finding ------------------------------------------------------------------------------------------------------

CHATML = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"


def write_config(folder: Path, **values):
    (folder / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")


def test_nothing_is_guessed(tmp_path):
    (tmp_path / "vicuna-7b").mkdir()
    write_config(tmp_path / "vicuna-7b", model_max_length=2048)
    assert find_template(tmp_path / "vicuna-7b") is None
    assert find_template({}) is None
    assert find_template() is None


def test_order_of_sources(tmp_path):
    write_config(tmp_path, chat_template="config", eos_token={"content": "<end>"})
    assert find_template(tmp_path).source == "config"
    assert find_template(tmp_path).stop == ("<end>",)
    (tmp_path / "chat_template.jinja").write_text("file", encoding="utf-8")
    assert find_template(tmp_path).source == "file"
    assert find_template(tmp_path).stop == ("<end>",)
    assert find_template(tmp_path, template="vicuna").name == "vicuna"
    (tmp_path / "mine.jinja").write_text("mine", encoding="utf-8")
    assert find_template(tmp_path, template=tmp_path / "mine.jinja").source == "mine"


def test_named_templates():
    config = {"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}
    assert find_template(config).source == "d"
    assert find_template(config, variant="tool_use").source == "t"
    with pytest.raises(TemplateError, match="no chat template called 'rag'"):
        find_template(config, variant="rag")


def test_template_of_a_processor(tmp_path):
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": CHATML}), encoding="utf-8")
    assert find_template(tmp_path).render(ONE) == "user:Q1;"


@pytest.mark.parametrize("value", [5, {"a": "b"}, [{"name": "default"}], ["x"], [{"name": 1, "template": "x"}], True])
def test_a_chat_template_of_another_type_is_refused(value):
    with pytest.raises(TemplateError, match="is not text"):
        find_template({"chat_template": value})


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_broken_configurations_are_refused(tmp_path, content):
    (tmp_path / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(TemplateError):
        find_template(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe{{", b"{{ x", b"x" * (2**20 + 1)])
def test_broken_template_files_are_refused(tmp_path, content):
    (tmp_path / "chat_template.jinja").write_bytes(content)
    with pytest.raises(TemplateError):
        find_template(tmp_path)


def test_a_missing_name_is_refused_with_the_nearest():
    with pytest.raises(TemplateError, match="did you mean 'vicuna'"):
        find_template(template="vicunna")
    with pytest.raises(TemplateError, match="is missing"):
        find_template(template="nowhere/at-all.jinja")
    with pytest.raises(TemplateError):
        find_template(template="a\0b.jinja")


@pytest.mark.parametrize(
    ("model", "first"),
    [
        ("lmsys/vicuna-7b-v1.5", "vicuna"),
        ("vicuna-13b-delta-v0", "vicuna-v0"),
        ("chavinlo/alpaca-native", "alpaca"),
        ("tloen/alpaca-lora-7b", "alpaca-lora"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2"),
        ("codellama/CodeLlama-70b-Instruct-hf", "code-llama-70b-instruct"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-v3"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistral-v1"),
        ("THUDM/chatglm2-6b", "chatglm2"),
        ("THUDM/chatglm-6b", "chatglm"),
        ("stabilityai/StableBeluga-7B", "stablebeluga"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseek-r1"),
        ("mosaicml/mpt-30b-chat", "mpt-30b-chat"),
        ("tiiuae/falcon-40b-instruct", "falcon-instruct"),
        ("fnlp/moss-moon-003-sft-plugin", "moss-plugins"),
    ],
)
def test_suggestions_by_name(model, first):
    assert suggest(model)[0] == first
    assert first in str(no_template(model))


def test_no_suggestion_where_nothing_is_known():
    assert suggest("stories260K") == []
    assert "may be meant" not in str(no_template("stories260K"))


@pytest.mark.parametrize("name", ["vicuna-v0", "llama-2", "baize"])
def test_a_bundled_format_is_known_by_its_text(tmp_path, name):
    """A model tuned in a bundled format stops and is spelt as it was tuned, from its own folder."""
    ours = registered(name)
    (tmp_path / "chat_template.jinja").write_text(ours.source, encoding="utf-8")
    found = find_template(tmp_path)
    assert found == ours
    (tmp_path / "chat_template.jinja").write_text("{%- set x = 1 -%}\n" + ours.source + "!", encoding="utf-8")
    found = find_template(tmp_path)
    assert (found.stop, found.own_blank, found.control) == (ours.stop, ours.own_blank, ours.control)
    assert not found.bundled
    (tmp_path / "chat_template.jinja").write_text(ours.source.replace("user", "User"), encoding="utf-8")
    assert find_template(tmp_path).stop == ()
