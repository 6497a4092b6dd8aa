"""`paddock template`: what it prints, as a person and as a program reads it."""

from __future__ import annotations

import json
import shutil

import pytest
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


def test_importing_the_command_imports_nothing_heavy():
    import subprocess
    import sys

    heavy = "('torch', 'jinja2', 'tokenizers', 'rich.table')"
    code = f"import sys, paddock.cli.template; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
