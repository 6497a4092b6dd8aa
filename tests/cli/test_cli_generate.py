"""`paddock generate` and `paddock demo`, on the real bundled model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."


def test_the_demo_tells_the_story_and_says_how_to_go_on(paddock: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/somewhere/{name}")
    run = paddock("demo")
    assert run.code == 0
    assert run.out.startswith(STORY) and run.out.endswith('You are a good friend."\n')
    assert "tokens per second" in run.err and "paddock chat" in run.err and ".gguf" in run.err


def test_the_reference_text(paddock: Callable, shared_data: Path) -> None:
    reference = json.loads((shared_data / "weights/llama2c/reference_greedy.json").read_text())
    run = paddock("generate", "", "-n", reference["steps"], "--temperature", 0)
    assert run.out.startswith(reference["expected_text"])


def test_results_and_notes_go_their_own_ways(paddock: Callable) -> None:
    run = paddock("generate", "Once upon", "-n", 5, "--verbose")
    assert run.code == 0 and run.out == " a time, there was\n"
    assert [line.split()[0] for line in run.err.splitlines()] == ["load", "prompt", "decode"]
    assert "tokens/s" in run.err
    assert paddock("generate", "Once upon", "-n", 5).err == ""


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_a_prompt_from_a_pipe_loses_one_line_break(paddock: Callable, arguments: tuple[str, ...]) -> None:
    run = paddock("generate", *arguments, "-n", 5, stdin="Once upon\n")
    assert run.out == " a time, there was\n"
    two = paddock("generate", *arguments, "-n", 5, "--json", stdin="Once upon\n\n").json
    assert (
        two["usage"]["prompt_tokens"]
        == paddock("generate", "Once upon\n", "-n", 5, "--json").json["usage"]["prompt_tokens"]
    )


def test_echo_and_stop(paddock: Callable) -> None:
    run = paddock("generate", "Once upon", "-n", 40, "--stop", "little", "--echo")
    assert run.out == "Once upon a time, there was a \n"
    assert paddock("generate", "Once upon", "-n", 4, "--echo", "--explain").out.endswith("\nOnce upon a time, there\n")


def test_json_is_one_object_with_everything(paddock: Callable) -> None:
    run = paddock("generate", "Once upon", "-n", 5, "--temp", 0.7, "--seed", 3, "--logprobs", 2, "--explain", "--json")
    assert run.code == 0 and run.out.count("\n") == 1 and run.err == ""
    found = run.json
    assert found["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert found["finish_reason"] == "length" and found["seed"] == 3 and len(found["ids"]) == 5
    assert found["settings"]["temperature"] == {"value": 0.7, "from": "request"}
    assert found["settings"]["top_k"] == {"value": 0, "from": "default"}
    assert [len(token["top"]) for token in found["logprobs"]] == [2] * 5
    assert all(token["logprob"] <= 0 for token in found["logprobs"])
    step = found["steps"][0]
    assert [stage["name"] for stage in step["stages"]] == ["raw", "temperature"]
    assert step["interval"][0] <= step["draw"] < step["interval"][1] and step["chosen"]["token"] == found["ids"][0]
    again = paddock("generate", "Once upon", "-n", 5, "--temp", 0.7, "--seed", 3, "--json").json
    assert again["text"] == found["text"] and again["logprobs"] is None and again["steps"] is None


def test_settings_reach_the_sampler(paddock: Callable) -> None:
    """Each option under its name and its aliases, with a value that shows."""
    options = {
        "temperature": ("--temp", 0.5),
        "top_k": ("--top-k", 7),
        "top_p": ("--top-p", 0.5),
        "min_p": ("--min-p", 0.1),
        "typical_p": ("--typical-p", 0.9),
        "repetition_penalty": ("--repeat-penalty", 1.5),
        "presence_penalty": ("--presence-penalty", 0.5),
        "frequency_penalty": ("--frequency-penalty", 0.25),
        "seed": ("--seed", 11),
    }
    flat = [word for option in options.values() for word in option]
    found = paddock(
        "generate", "Once", "-n", 2, "--logit-bias", "261=-3.5", "--logit-bias", "5=1", *flat, "--json"
    ).json
    assert {name: found["settings"][name]["value"] for name in options} == {n: v for n, (_, v) in options.items()}
    assert found["settings"]["logit_bias"]["value"] == {"261": -3.5, "5": 1.0}


def test_show_settings_tells_where_each_comes_from(paddock: Callable) -> None:
    run = paddock("generate", "Once", "-n", 2, "--top-k", 3, "--show-settings")
    lines = {line.split()[0]: line.split()[1:] for line in run.err.splitlines()}
    assert lines["top_k"] == ["3", "request"] and lines["seed"][1] == "default"
    assert run.out == paddock("generate", "Once", "-n", 2, "--top-k", 3, "--seed", 1).out or run.out.endswith("\n")


def test_explain_shows_every_stage_of_every_step(paddock: Callable) -> None:
    run = paddock("generate", "Once", "-n", 2, "--temp", 0.8, "--top-k", 4, "--seed", 1, "--explain")
    lines = run.out.splitlines()
    assert lines[0] == "step 1 of 2"
    assert lines[1].split() == ["raw", "temperature", "top_k"]
    assert lines[2].split() == ["token", "id", "512", "left", "512", "left", "4", "left"]
    chosen = next(line for line in lines if line.startswith(">"))
    assert "' upon'" in chosen and " 407 " in chosen and chosen.count("%") == 3
    assert sum("–" in line for line in lines[3:13]) == 6, "ten candidates are shown, four survive"
    assert any(line.startswith("drew 0.") and "' upon' holds" in line for line in lines)
    assert "greedy: the likeliest, ' upon'" in paddock("generate", "Once", "-n", 1, "--temp", 0, "--explain").out


def test_logprobs_as_a_table(paddock: Callable) -> None:
    lines = paddock("generate", "Once", "-n", 2, "--logprobs", 1).out.splitlines()
    assert lines[1].split() == ["id", "token", "logprob", "likeliest"]
    assert lines[2].split()[:3] == ["407", "'", "upon'"]


def test_ids_specials_and_bare_prompts(paddock: Callable) -> None:
    def tokens(*arguments: object) -> int:
        return paddock("generate", *arguments, "-n", 2, "--json").json["usage"]["prompt_tokens"]

    assert tokens("1 403, 407", "--ids") == 3
    assert tokens("Once upon") == 3 and tokens("Once upon", "--no-bos") == 2
    assert tokens("<s>Once upon", "--special") == 3 < tokens("<s>Once upon")


def test_an_encoder_decoder_reads_the_prompt_as_its_source(paddock: Callable, t5: Path) -> None:
    found = paddock("generate", "Once upon", "-m", t5, "-n", 4, "--json").json
    assert found["usage"]["prompt_tokens"] >= 2
    searched = paddock("generate", "Once upon", "-m", t5, "-n", 4, "--beams", 3, "--json").json
    assert searched["score"] is not None and searched["settings"]["num_beams"]["value"] == 3
    assert paddock("generate", "Once upon", "-m", t5, "-n", 4, "--beams", 3).out == searched["text"] + "\n"


def test_an_encoder_is_refused_with_the_verb_for_it(paddock: Callable, bert: Path) -> None:
    run = paddock("generate", "the cat", "-m", bert)
    assert run.code == 3 and run.out == "" and "paddock fill" in run.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["x", "--top-p", "7"], 2, "top_p is 7.0; expected a number above 0 to 1"),
        (["x", "-n", "0"], 2, "max_new_tokens"),
        (["x", "-n", "512"], 2, "at most 512 tokens"),
        (["word " * 600], 2, "does not fit"),
        (["x", "--seed", "-1"], 2, "seed"),
        (["x", "--logit-bias", "3"], 2, "ID=VALUE"),
        (["x", "--logit-bias", "9999=1"], 2, "9999"),
        (["x", "--logprobs", "99"], 2, "logprobs"),
        (["x", "--ids"], 2, "whole numbers"),
        (["1 9999", "--ids"], 2, "9999"),
        (["x", "--dtype", "int3"], 2, "int3"),
        (["x", "--device", "tpu"], 2, "tpu"),
        (["x", "--stop", ""], 2, "stop"),
        (["x", "-m", "stories260"], 2, "stories260K"),
        (["x", "-m", "./missing.gguf"], 3, "missing.gguf is missing"),
        ([], 2, "standard input is empty"),
        (["", "--no-bos"], 2, "empty"),
    ],
)
def test_refusals(paddock: Callable, arguments: list[str], code: int, said: str) -> None:
    run = paddock("generate", *arguments)
    assert (run.code, run.out) == (code, "") and said in run.err
    assert len(run.err.splitlines()) <= 2


def test_prompts_that_are_hard_to_print_or_to_read(paddock: Callable) -> None:
    assert paddock("generate", "-", "-n", 2, stdin=b"a\0b\0").code == 0
    run = paddock("generate", "-", "-n", 2, stdin=b"ab\xff")
    assert run.code == 3 and "byte 2 is 0xff" in run.err
    plain = paddock("generate", "</s>", "-n", 2, "--json").json["usage"]["prompt_tokens"]
    assert plain > 2, "the spelling of a control token is text"
    assert paddock("generate", "", "-n", 2).out == "Once upon\n"


def test_no_prompt_at_a_terminal_is_refused_instead_of_waiting(paddock: Callable) -> None:
    run = paddock("generate", terminal=True)
    assert run.code == 2 and "there is no prompt" in run.err


def test_a_terminal_gets_no_control_characters_from_a_model(paddock: Callable) -> None:
    escape = 27 + 3  # the byte token of ESC
    arguments = ("generate", "a", "-n", 1, "--temp", 0, "--logit-bias", f"{escape}=100")
    assert paddock(*arguments).out == "\x1b\n"
    assert paddock(*arguments, terminal=True).out == "\\x1b\n"


def test_hostile_models_are_refused_in_a_line_or_two(paddock: Callable, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 16)
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/config.json").write_text("[" * 100_000)
    for name in ("bad.gguf", "empty.gguf", "noise.bin", "folder"):
        for verb in (("generate", "x", "-m"), ("show",), ("chat",), ("tokens", "x", "-m"), ("embed", "x", "-m")):
            run = paddock(*verb, tmp_path / name)
            assert run.code == 3 and run.out == "", (verb, name, run)
            assert run.err.startswith("error: ") and len(run.err.splitlines()) <= 2, (verb, name, run)


@pytest.mark.parametrize("option", ["--special", "--no-bos"])
def test_ids_are_taken_as_they_are(paddock: Callable, option: str) -> None:
    run = paddock("generate", "5 6", "--ids", option)
    assert run.code == 2 and "takes the ids as they are" in run.err


@pytest.mark.parametrize("words", ["1_0", "\u0665", "-1", "5.0"])
def test_ids_are_plain_digits(paddock: Callable, words: str) -> None:
    run = paddock("generate", "--ids", "--", words)
    assert run.code == 2 and "whole numbers" in run.err


@pytest.mark.parametrize("option", ["-v", "--explain"])
def test_a_drawn_seed_is_said(paddock: Callable, option: str) -> None:
    run = paddock("generate", "Once", "--temp", 0.9, "-n", 4, option)
    seed = run.err.split("--seed ")[1].split()[0]
    again = paddock("generate", "Once", "--temp", 0.9, "-n", 4, option, "--seed", seed)
    assert again.out == run.out
