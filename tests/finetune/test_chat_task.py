"""The chat task: what examples of every kind become, what is refused, dropped and cut, and what a run leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import paddock
from paddock.data.instruct.records import Conversation, Feedback, Message, Origin, Pair, Preference, Text
from paddock.data.preparing.supervised import ids_of
from paddock.data.samples import Sample
from paddock.errors import DataError, TemplateError, UsageError
from paddock.finetune.recipe import FineTuning
from paddock.finetune.stage import finetune, prepare
from paddock.finetune.tasks import ChatTask
from paddock.finetune.tasks.asked import Material
from paddock.model.families import describe
from paddock.tokenizer.chat import encode_chat
from paddock.tokenizer.template_registry import find_template, registered
from paddock.training import recipe_files
from paddock.training.parallel import Alone
from paddock.training.recipe_files import validated

END = "</s>"


@pytest.fixture(scope="module")
def bundled():
    return paddock.load(device="cpu")


@pytest.fixture
def given(bundled):
    """Material of the bundled model (512 pieces, 512 tokens of context) for some examples."""

    def made(*examples, template="vicuna", length=400, too_long="refuse", kept=(), **changed):
        material = Material(
            list(examples),
            list(kept),
            bundled.tokenizer,
            registered(template) if template else None,
            bundled.architecture,
            {},
            length,
            too_long,
            0,
            Path("."),
        )
        return replace(material, **changed)

    return made


def talk(*texts, **more):
    roles = ["user", "assistant"] * len(texts)
    messages = tuple(Message(role, text) for role, text in zip(roles, texts, strict=False))
    return Conversation(messages, origin=Origin("here:1"), **more)


def learned(asked, tokenizer):
    """The text of each stretch that is learned, in the order of the sequences."""
    texts = []
    for number in range(len(asked.train)):
        for sequence in asked.train.texts(number):
            stretch: list[int] = []
            for id, wanted in zip(ids_of(sequence).tolist(), (sequence >= 0).tolist(), strict=True):
                if wanted:
                    stretch.append(id)
                elif stretch:
                    texts.append(tokenizer.decode(stretch, skip_special=False).strip())
                    stretch = []
            if stretch:
                texts.append(tokenizer.decode(stretch, skip_special=False).strip())
    return sorted(texts)


def whole(asked, tokenizer):
    rows = [sequence for number in range(len(asked.train)) for sequence in asked.train.texts(number)]
    return [tokenizer.decode(ids_of(row).tolist(), skip_special=False) for row in rows]


# --- what is learned ----------------------------------------------------------------------------------------------


def test_answers_are_learned_and_counted(given, bundled):
    asked = ChatTask().ask(given(talk("Q", "A one", "R", "B two"), talk("你好", "再见。")))
    assert learned(asked, bundled.tokenizer) == sorted(["A one" + END, "B two" + END, "再见。" + END])
    batch = asked.prepare([_sample(asked.train, number) for number in range(len(asked.train))])
    assert asked.counts["examples"] == 2
    assert asked.counts["supervised"] == batch.supervised == asked.preview.statistics.supervised
    assert asked.validation is None


def _sample(table, number):
    return Sample(table.texts(number), number, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("learn", "expected"),
    [
        ("answers", ["A" + END, "C" + END]),
        ("last", ["C" + END]),
        (["assistant"], ["A" + END, "C" + END]),
        (["user"], ["Q", "R"]),
    ],
)
def test_who_is_learned(given, bundled, learn, expected):
    asked = ChatTask(learn=learn).ask(given(talk("Q", "A", "R", "C")))
    assert learned(asked, bundled.tokenizer) == expected


def test_all_tokens_are_learned_only_by_name(given, bundled):
    asked = ChatTask(learn="all").ask(given(talk("Q", "A"), template="chatglm2"))
    assert asked.preview.statistics.share_min == 1
    with pytest.raises(DataError, match="nothing before what is learned"):
        ChatTask().ask(given(Pair("", "x"), tokenizer=_without_bos(bundled.tokenizer)))


def _without_bos(tokenizer):
    class Bare(type(tokenizer)):
        before = ()

    bare = object.__new__(Bare)
    bare.__dict__.update(tokenizer.__dict__)
    return bare


def test_a_message_says_itself_whether_it_is_learned(given, bundled):
    messages = (
        Message("user", "Q"),
        Message("assistant", "A", learn=False),
        Message("user", "R"),
        Message("assistant", "B"),
    )
    asked = ChatTask().ask(given(Conversation(messages)))
    assert learned(asked, bundled.tokenizer) == ["B" + END]
    with pytest.raises(DataError, match="no message of it is to be learned"):
        ChatTask().ask(given(Conversation(messages[:2], origin=Origin("there:7"))))


def test_pairs_are_learned_without_a_template(given, bundled):
    asked = ChatTask().ask(given(Pair("Once upon", " a time"), template=None))
    assert learned(asked, bundled.tokenizer) == ["a time" + END]
    assert whole(asked, bundled.tokenizer) == ["<s> Once upon a time</s>"]
    with pytest.raises(TemplateError, match="has no chat template, and none is assumed"):
        ChatTask().ask(given(talk("Q", "A"), template=None))


def test_system_messages_are_kept_dropped_or_asked_with(given, bundled):
    told = Conversation((Message("system", "Be kind."), Message("user", "Q"), Message("assistant", "A")))
    (text,) = whole(ChatTask().ask(given(told)), bundled.tokenizer)
    assert "Be kind. USER: Q ASSISTANT: A" in text
    (text,) = whole(ChatTask(systems="drop").ask(given(told)), bundled.tokenizer)
    assert "Be kind." not in text
    (text,) = whole(ChatTask(systems="drop", system="Be brief.").ask(given(told)), bundled.tokenizer)
    assert "Be brief. USER: Q" in text
    (text,) = whole(ChatTask(systems="question").ask(given(told, template="koala")), bundled.tokenizer)
    assert "USER: Be kind.\n\nQ GPT:A" in text
    with pytest.raises(TemplateError, match="expected one of assistant, user"):
        ChatTask().ask(given(told, template="koala"))


def test_an_input_is_read_apart_or_joined_to_its_question(given, bundled):
    example = Conversation((Message("user", "Add.", more={"input": "1, 2"}), Message("assistant", "3")))
    asked = ChatTask().ask(given(example, template="alpaca"))
    assert "### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:3" in whole(asked, bundled.tokenizer)[0]
    assert not any("joined" in line for line in asked.told)
    asked = ChatTask().ask(given(example, template="vicuna"))
    assert "USER: Add.\n1, 2 ASSISTANT: 3" in whole(asked, bundled.tokenizer)[0]
    assert any("1 questions joined with their input" in line for line in asked.told)


def test_an_answer_without_a_command_states_so_and_then_answers(given, bundled):
    """MOSS with plugins: the model writes up to <eoc>, is given the results, and goes on; both are learned."""
    thinking = Message("assistant", "A", more={"inner_thoughts": "Hm"})
    example = Conversation((Message("user", "Q"), thinking, Message("user", "R"), Message("assistant", "B")))
    asked = ChatTask().ask(given(example, template="moss-plugins"))
    stated = ["Hm<eot>\n<|Commands|>: None<eoc>", "None<eot>\n<|Commands|>: None<eoc>"]
    assert learned(asked, bundled.tokenizer) == sorted([*stated, "A<eom>", "B<eom>"])
    rendered = registered("moss-plugins").render(
        [message.plain() for message in example.messages], add_generation_prompt=False
    )
    (text,) = [text for text in whole(asked, bundled.tokenizer) if "B<eom>" in text]
    assert text.removeprefix("<s> ") == rendered.removesuffix("\n")


# --- what cannot be learned ---------------------------------------------------------------------------------------

BAD = {
    "an empty answer": talk("Q", "  "),
    "nothing to learn": Conversation((Message("user", "Q"),), origin=Origin("here:1")),
    "the template does not take them": talk("Q", "A", "R", "B", tools=({"name": "f"},)),
    "preference": Preference((Message("user", "Q"),), (Message("assistant", "A"),), (Message("assistant", "B"),)),
    "text": Text("words", Origin("here:1")),
}


@pytest.mark.parametrize("reason", BAD)
def test_what_cannot_be_learned_is_refused_or_dropped_and_counted(given, reason):
    good = talk("Q", "A")
    with pytest.raises((DataError, TemplateError), match=r"task.unfit: drop leaves such examples out"):
        ChatTask().ask(given(good, BAD[reason]))
    asked = ChatTask(unfit="drop").ask(given(good, BAD[reason], good, BAD[reason]))
    assert asked.counts["examples"] == 2
    assert asked.counts[f"dropped: {reason}"] == 2
    assert f"training: 2 examples dropped: {reason}" in asked.told


def test_where_all_is_unfit_nothing_is_dropped_in_silence(given):
    with pytest.raises(
        DataError, match=r"here:1: message 2 \(assistant\) .* empty \(2 of 2 examples cannot be learned"
    ):
        ChatTask(unfit="drop").ask(given(talk("Q", ""), talk("Q", "")))
    roles = Conversation((Message("assistant", "A"), Message("assistant", "B")), origin=Origin("there:3"))
    with pytest.raises(TemplateError, match="there:3: chat template 'vicuna'"):
        ChatTask().ask(given(roles))


def test_a_template_that_cannot_be_trained_with_is_refused(given, bundled):
    with pytest.raises(TemplateError, match="writes no end behind message 2"):
        ChatTask().ask(given(talk("Q", "A"), template="stablebeluga"))
    asked = ChatTask(end="eos").ask(given(talk("Q", "A"), template="stablebeluga"))
    assert learned(asked, bundled.tokenizer) == ["A" + END]
    asked = ChatTask(end="missing").ask(given(talk("Q", "A"), template="stablebeluga"))
    assert learned(asked, bundled.tokenizer) == ["A"]


def test_options_of_a_template_stay_with_the_model(given, bundled):
    """R1 asks for reasoning, which its history leaves out; told not to, it asks as it is trained."""
    with pytest.raises(TemplateError, match=r"asks for an answer with '<think>\\n' at inference"):
        ChatTask().ask(given(talk("Q", "A"), template="deepseek-r1"))
    asked = ChatTask(options={"enable_thinking": False}, end="eos").ask(given(talk("Q", "A"), template="deepseek-r1"))
    prompt = encode_chat(bundled.tokenizer, asked.template, [{"role": "user", "content": "Q"}])
    assert ids_of(asked.train.texts(0)[0]).tolist()[: len(prompt)] == prompt
    with pytest.raises(UsageError, match="does not read the option 'enable_thinkin'"):
        ChatTask(options={"enable_thinkin": False}).ask(given(talk("Q", "A"), template="deepseek-r1"))


def test_answers_that_spell_what_ends_them_are_told_of(given):
    asked = ChatTask().ask(given(talk("Q", "a ### b"), template="vicuna-v0"))
    assert any("1 answers spell '###'" in line for line in asked.told)


def test_models_that_do_not_say_the_next_token_are_refused(given):
    sizes = {"vocab_size": 512, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = {"model_type": "bert", "num_attention_heads": 2, "architectures": ["BertForMaskedLM"], **sizes}
    with pytest.raises(UsageError, match="is an encoder"):
        ChatTask().ask(given(talk("Q", "A"), architecture=describe(config)))


def test_rows_of_a_glm_are_one_text_each(given, bundled):
    sizes = {"hidden_size": 32, "inner_hidden_size": 48, "num_layers": 1, "num_attention_heads": 4}
    ids = {"gmask_token_id": 600, "mask_token_id": 601, "bos_token_id": 602, "max_sequence_length": 512}
    glm = describe({"model_type": "chatglm", "vocab_size": 700, "position_encoding_2d": True, **sizes, **ids})
    with pytest.raises(UsageError, match=r"task\.packing: single"):
        ChatTask().ask(given(talk("Q", "A"), template="chatglm", architecture=glm))
    asked = ChatTask(packing="single").ask(given(talk("Q", "A"), template="chatglm", architecture=glm))
    assert learned(asked, bundled.tokenizer) == ["A<eop>"]


# --- length -------------------------------------------------------------------------------------------------------


def long(turns):
    return talk(*(text for n in range(turns) for text in (f"Question {n} of many", f"Answer {n} of many")))


def test_what_is_too_long_is_refused_with_its_length(given):
    with pytest.raises(
        DataError, match=r"1 of 2 examples have more than 151 tokens; the longest, here:1, has \d+"
    ) as error:
        ChatTask().ask(given(talk("Q", "A"), long(8), length=150))
    needed = int(error.value.fix.split("data.length: ")[1].split(";")[0])
    assert ChatTask().ask(given(talk("Q", "A"), long(8), length=needed)).counts["examples"] == 2
    with pytest.raises(DataError, match="have more than"):
        ChatTask().ask(given(talk("Q", "A"), long(8), length=needed - 1))


def test_the_fix_of_what_is_too_long_is_one_that_the_model_allows(given):
    room = given().architecture.context
    for words, said in ((8, "set data.length: "), (room, f"the model takes {room:,} tokens")):
        with pytest.raises(DataError) as refusal:
            ChatTask().ask(given(talk("Q", "word " * words * 2), length=20))
        assert refusal.value.fix.startswith(said)


def test_what_is_too_long_is_dropped_and_counted(given):
    asked = ChatTask().ask(given(talk("Q", "A"), long(8), length=150, too_long="drop"))
    assert (asked.counts["examples"], asked.counts["dropped: too long"]) == (1, 1)


@pytest.mark.parametrize("template", ["vicuna", "chatglm2"])
def test_cutting_loses_early_turns_and_no_answer(given, bundled, template):
    """Each answer is learned once, behind the latest turns that fit."""
    task = ChatTask(end="eos") if template == "chatglm2" else ChatTask()
    asked = task.ask(given(long(8), template=template, length=200, too_long="cut"))
    texts = learned(asked, bundled.tokenizer)
    assert [text.removesuffix(END) for text in texts] == [f"Answer {n} of many" for n in range(8)]
    rows = [len(sequence) for number in range(len(asked.train)) for sequence in asked.train.texts(number)]
    assert max(rows) <= 201
    assert any("early turns left out" in line for line in asked.told)


def test_answers_lose_their_end_only_when_told(given, bundled):
    example = talk("Q", "word " * 200)
    with pytest.raises(DataError, match="when only the last question and its answer are left"):
        ChatTask().ask(given(example, length=150, too_long="cut"))
    asked = ChatTask(cut_answers=True).ask(given(example, length=150, too_long="cut"))
    (text,) = learned(asked, bundled.tokenizer)
    assert text.startswith("word word")
    assert not text.endswith(END)
    assert any("1 answers cut: their end is not learned" in line for line in asked.told)
    with pytest.raises(DataError, match="have more than 151 tokens"):  # no room for any of the answer
        ChatTask(cut_answers=True).ask(given(talk("word " * 200, "A"), length=150, too_long="cut"))


# --- conditional tuning -------------------------------------------------------------------------------------------

LIKED = Preference(
    (Message("user", "Q"), Message("assistant", "A"), Message("user", "R")),
    (Message("assistant", "yes"),),
    (Message("assistant", "no"),),
)


@pytest.mark.parametrize("template", ["koala", "vicuna", "chatml"])
def test_preferences_become_two_records_with_opposite_markers(given, bundled, template):
    task = ChatTask(markers={"good": "(good)", "bad": "(bad)"}, end="eos")
    asked = task.ask(given(LIKED, template=template))
    good, bad = sorted(whole(asked, bundled.tokenizer), key=lambda text: "(bad)" in text)
    assert "(good) yes" in good and "(bad)" not in good and "no" not in good.partition("(good)")[2]
    assert "(bad) no" in bad and "(good)" not in bad
    texts = [text.removesuffix(END).removesuffix("<|im_end|>") for text in learned(asked, bundled.tokenizer)]
    assert texts == ["no", "yes"]  # the markers are told, not learned


def test_the_good_marker_is_asked_with_at_inference(given, bundled):
    asked = ChatTask(markers={"good": "(good)", "bad": "(bad)"}).ask(given(LIKED, talk("Q", "A"), template="koala"))
    turns = [message.plain() for message in LIKED.prompt]
    prompt = encode_chat(bundled.tokenizer, asked.template, turns)
    assert bundled.tokenizer.decode(prompt, skip_special=False).endswith("USER: R GPT:(good)")
    rows = [ids_of(row).tolist() for n in range(len(asked.train)) for row in asked.train.texts(n)]
    assert any(row[: len(prompt)] == prompt for row in rows)
    assert sum("(good)" in text for text in whole(asked, bundled.tokenizer)) == 2  # what nobody judged is asked for too


def test_feedback_has_the_marker_of_its_judgement(given, bundled):
    bad = Feedback((Message("user", "Q"), Message("assistant", "A")), good=False)
    asked = ChatTask(markers={}).ask(given(bad, template="koala"))
    assert whole(asked, bundled.tokenizer) == ["<s> BEGINNING OF CONVERSATION: USER: Q GPT:[bad] A</s>"]


def test_markers_must_be_words_that_nobody_says(given):
    with pytest.raises(DataError, match=r"a message \(assistant\) contains a marker"):
        ChatTask(markers={"good": "yes", "bad": "nope"}).ask(given(LIKED))
    with pytest.raises(UsageError, match="spells the control token '</s>'"):
        ChatTask(markers={"good": "a</s>", "bad": "b"}).ask(given(LIKED))
    for markers in ({"good": "a", "bad": "ab"}, {"good": " a"}, {"good": ""}, {"good": "a", "bad": "a"}):
        with pytest.raises(UsageError):
            validated(ChatTask, {"markers": markers}, "recipe")


# --- a run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path):
    rows = [{"instruction": f"Say {n}", "input": "", "output": f"It is {n}."} for n in range(12)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")

    def made(**changed):
        values = {
            "stage": "finetune",
            "template": "baize",
            "task": {"name": "chat"},
            "data": {"files": ["rows.json"], "length": 200, "validation": 0.2},
            "training": {"steps": 2, "batch": 2, "evaluate_every": 2},
            **changed,
        }
        return validated(FineTuning, values, "recipe")

    return made


def test_a_run_leaves_a_model_that_is_asked_as_it_was_trained(recipe, tmp_path, bundled):
    heard: list[str] = []
    final = finetune(recipe(), tmp_path, tmp_path / "out", Alone(torch.device("cpu")), tell=heard.append)
    template = find_template(final)
    assert template.stop[:2] == ("[|Human|]", "[|AI|]")
    tuned = paddock.load(final, device="cpu")
    prompt = tuned.chat_prompt([{"role": "user", "content": "Say 3"}])
    prepared = prepare(recipe(), tmp_path)
    rows = [row for n in range(len(prepared.asked.train)) for row in prepared.asked.train.texts(n)]
    assert any(ids_of(row).tolist()[: len(prompt.ids)] == list(prompt.ids) for row in rows)
    assert prompt.ends.strings == ("[|Human|]", "[|AI|]")


def test_end_tokens_of_a_format_are_published_with_the_model(recipe, tmp_path, bundled):
    """Other tools stop where the model was taught to: eos_token_id holds the format's ends too."""
    base = tmp_path / "base"
    bundled.save(base)
    tokens = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    for token in tokens["added_tokens"]:
        if token["content"] == "<unk>":
            token["content"] = "<|im_end|>"
    text = json.dumps(tokens).replace('"<unk>"', '"<|im_end|>"')
    (base / "tokenizer.json").write_text(text, encoding="utf-8")
    (base / "tokenizer_config.json").unlink(missing_ok=True)
    prepared = prepare(recipe(model=str(base), template="chatml"), tmp_path)
    ends = prepared.opened.base.generation["eos_token_id"]
    assert prepared.opened.tokenizer.id_of("<|im_end|>") in ends


def test_settings_that_cannot_be_meant_are_refused(recipe):
    for task in ({"learn": "some"}, {"learn": ["robot"]}, {"end": "never"}, {"options": {"a b": 1}}, {"lern": "last"}):
        with pytest.raises(UsageError):
            recipe(task={"name": "chat", **task})


@pytest.mark.parametrize("name", ["lora", "qlora", "full", "alpaca", "koala"])
def test_starter_recipes_need_only_a_model_and_examples(name):
    path = recipe_files.find(name)
    values = recipe_files.override(recipe_files.read(path), ["model=mine", "data.files=examples.json"])
    recipe = validated(FineTuning, values, name)
    assert recipe.card is not None
    assert (recipe.model, recipe.data.files, recipe.task.name) == ("mine", ["examples.json"], "chat")
