"""`paddock template`: what it prints, as a person and as a program reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf_story
import pytest
from cli_models import TEMPLATE
from typer.testing import CliRunner

from paddock.cli.template import app
from paddock.errors import InputError, TemplateError, UsageError

run = CliRunner()


def call(*arguments, **more):
    result = run.invoke(app, list(arguments), **more)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_ls():
    rows = json.loads(call("ls", "--json").stdout)
    assert {"vicuna", "llama-2", "chatglm"} <= {row["name"] for row in rows}
    assert rows == sorted(rows, key=lambda row: row["name"])
    assert "vicuna" in call("ls").stdout


def test_show():
    known = json.loads(call("show", "llama-2", "--json").stdout)
    assert known["stop"] == ["</s>"]
    assert "[INST]" in known["source"]
    assert "facebookresearch/llama" in call("show", "llama-2").stdout


def test_render_is_exact():
    assert call("render", "koala", "-m", "user: Q1", "-m", "assistant:A1", "--message", "user: Q2").stdout == (
        "BEGINNING OF CONVERSATION: USER: Q1 GPT:A1</s>USER: Q2 GPT:"
    )
    assert call("render", "chatml", "-m", "user: Q", "--system", "S", "--no-prompt").stdout == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n"
    )
    assert json.loads(call("render", "koala", "-m", "user: Q", "--json").stdout)["text"].endswith("USER: Q GPT:")


@pytest.mark.parametrize("text", ["Hello", ": x", "a b: x", ""])
def test_a_message_without_a_role_is_refused(text):
    with pytest.raises(UsageError, match="names no role"):
        call("render", "koala", "-m", text)


def test_render_reads_messages(tmp_path):
    messages = [{"role": "user", "content": "Q1"}]
    (tmp_path / "m.json").write_text(json.dumps({"messages": messages}), encoding="utf-8")
    assert call("render", "koala", "--messages", str(tmp_path / "m.json")).stdout.endswith("USER: Q1 GPT:")
    assert call("render", "koala", "--messages", "-", input=json.dumps(messages)).stdout.endswith("USER: Q1 GPT:")
    for text in ("{", "5", '{"a": 1}', ""):
        with pytest.raises(InputError):
            call("render", "koala", "--messages", "-", input=text)
    with pytest.raises(InputError):
        call("render", "koala", "--messages", str(tmp_path / "none.json"))


def test_unknown_names_are_refused():
    with pytest.raises(TemplateError, match="did you mean 'vicuna'"):
        call("show", "vicunna")


def test_check_of_a_file(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{% for m in messages %}{{ m.content }}{% endfor %}", encoding="utf-8")
    assert call("check", str(path)).exit_code == 0
    path.write_text("{{ raise_exception('never') }}", encoding="utf-8")
    result = call("check", str(path), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["level"] == "fail"


def test_check_of_a_folder(shared_data, tmp_path):
    with pytest.raises(TemplateError, match="name one with --template"):
        shutil.copy(shared_data / "tokenizers" / "llama" / "tokenizer.model", tmp_path / "tokenizer.model")
        call("check", str(tmp_path))
    source = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(source, encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}), encoding="utf-8")
    result = call("check", str(tmp_path), "--json")
    levels = {row["about"]: row["level"] for row in json.loads(result.stdout)}
    assert levels["BOS"] == "ok"
    assert levels["stop"] == "ok"
    assert call("render", str(tmp_path), "-m", "user: Q").stdout == "<s>user: Q</s>\n"


HOSTILE = "\x1b]0;owned\x07{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize("verb", ["show", "render", "check"])
def test_escape_sequences_do_not_reach_a_terminal(paddock: Callable, tmp_path: Path, verb: str) -> None:
    path = tmp_path / "e.jinja"
    path.write_text(HOSTILE, encoding="utf-8")
    run = paddock("template", verb, path, terminal=True)
    assert run.code == 0 and "\x1b]" not in run.out and "\x07" not in run.out
    assert verb == "check" or "\\x1b]0;owned\\x07" in run.out
    assert verb != "render" or paddock("template", verb, path).out == "\x1b]0;owned\x07Hello!"


def test_colours_of_a_stranger_do_not_reach_a_terminal(paddock: Callable, tmp_path: Path) -> None:
    path = tmp_path / "e.jinja"
    path.write_text("{{ raise_exception('\x1b[31mred') }}", encoding="utf-8")
    run = paddock("template", "check", path, terminal=True)
    assert run.code == 1 and "\\x1b[31mred" in run.out and "\x1b[31mred" not in run.out


def test_models_by_name_and_gguf_files(paddock: Callable, tmp_path: Path, talker: Path) -> None:
    models = tmp_path / "home/models"
    models.mkdir(parents=True)
    shutil.copytree(talker, models / "my-talker")
    file = gguf_story.write(models / "story.gguf", template="{{ bos_token }}" + TEMPLATE)
    for which, name in (
        ("my-talker", "chat_template.jinja"),
        ("story", "story.gguf: tokenizer.chat_template"),
        (file, "story.gguf: tokenizer.chat_template"),
    ):
        assert paddock("template", "show", which, "--json").json["name"] == name
        assert "stop" in {row["about"] for row in paddock("template", "check", which, "--json").json}
    assert paddock("template", "render", "story").out == "<s>user: Hello!\nassistant:"
    run = paddock("template", "show", "stories260K")
    assert run.code == 3 and "has no chat template" in run.err
    assert paddock("template", "show", tmp_path / "none.gguf").code == 3


def test_a_folder_without_a_tokenizer(paddock: Callable, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    assert paddock("template", "render", tmp_path).out == "user: Hello!\nassistant:"
    run = paddock("template", "check", tmp_path)
    assert run.code == 0 and "need a tokenizer" in run.err
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    run = paddock("template", "check", tmp_path)
    assert run.code == 3 and "tokenizer.json" in run.err


def test_help_looks_like_that_of_every_verb(paddock: Callable) -> None:
    run = paddock("template", "render", "--help")
    assert run.code == 0 and run.out.startswith("usage: paddock template render") and "Examples:" in run.out
    assert "Print one JSON value." in run.out


def test_importing_the_command_imports_nothing_heavy():
    import subprocess
    import sys

    heavy = "('torch', 'jinja2', 'tokenizers', 'rich.table')"
    code = f"import sys, paddock.cli.template; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
