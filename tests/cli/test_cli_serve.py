"""`paddock serve`: flags, variables, refusals before anything is loaded, and the server that comes of them."""

from __future__ import annotations

import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from typer.main import get_group

from paddock.cli import serve as options
from paddock.cli import serving
from paddock.engine.locate import bundled
from paddock.serve.flags import FLAGS
from paddock.serve.listening import address_of, listen
from paddock.serve.settings import Named, Settings

sys.path.append(str(Path(__file__).parent.parent / "serve"))
from operating import Process, ask, write_adapter

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this test may come as far as loading a model."""

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("paddock.serve.run.run", loaded)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_help_is_there_at_once_without_torch_or_fastapi() -> None:
    code = (
        "import sys; from paddock.cli import main; main(['serve', '--help']); "
        "print([name for name in ('torch', 'fastapi', 'uvicorn', 'numpy') if name in sys.modules])"
    )
    seconds = []
    for _ in range(5):  # of a processor, as the clock of a busy machine tells little
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert run.stdout.splitlines()[-1] == "[]", run.stdout + run.stderr
    assert min(seconds) < 0.3, seconds


def test_every_flag_is_a_variable_and_in_the_guide() -> None:
    command = get_group(options.app).commands["serve"]
    hidden = {"help", "max_model_len", "max_num_seqs"}
    assert {param.name for param in command.params} - hidden == {flag.name for flag in FLAGS}
    guide = DOCS.read_text(encoding="utf-8")
    for flag in FLAGS:
        assert f"`{flag.option}" in guide or f"/{flag.option}" in guide, flag.option
        assert f"`{flag.variable}`" in guide, flag.variable
    known = {flag.variable for flag in FLAGS} | {"PADDOCK_HOME", "PADDOCK_KERNELS"}
    assert set(re.findall(r"PADDOCK_[A-Z_]+", guide)) <= known


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--host", "0.0.0.0"], 2, "there is no key"),
        (["--host", "0.0.0.0"], 2, "--api-key"),
        (["--host", "192.0.2.1", "--insecure"], 2, "no address of this machine"),
        (["--host", "no such host", "--api-key", "12345678"], 2, "no address of this machine"),
        (["--port", "70000"], 2, "0 to 65535"),
        (["--port", "http"], 2, "error: --port http; expected a whole number"),
        (["--drain-seconds=soon"], 2, "error: --drain-seconds soon; expected a number"),
        (["--parallel", "0"], 2, "--parallel 0"),
        (["-c", "10", "--max-model-len", "10"], 2, "are the same"),
        (["--alias", "a", "--alias", "b"], 2, "2 names for 1 model"),
        (["--alias", "../a"], 2, "cannot be the name"),
        (["stories260K", "stories260K"], 2, "two models are called"),
        (["no-such-model"], 2, "no model is called"),
        (["./no/such/model.gguf"], 3, "missing"),
        (["--lora-modules", "polite"], 2, "NAME=PATH"),
        (["--lora-modules", "polite=/no/such/folder"], 3, "no such folder"),
        (["--models-dir", "/no/such/folder"], 2, "no folder"),
        (["--ssl-certfile", "/no/such/file"], 3, "missing"),
        (["--ssl-keyfile", "x"], 2, "without --ssl-certfile"),
        (["--metrics-prefix", "a b"], 2, "--metrics-prefix"),
        (["--ctx-szie", "4"], 2, "did you mean '--ctx-size'?"),
    ],
)
def test_refusals(paddock: Callable, never: None, arguments: list[str], code: int, said: str) -> None:
    run = paddock("serve", *arguments)
    assert run.code == code and said in run.err and len(run.err.splitlines()) <= 2, run.err
    assert run.out == ""


def test_a_port_that_is_taken(paddock: Callable, never: None, taken: int) -> None:
    run = paddock("serve", "--port", str(taken))
    assert run.code == 2
    assert run.err == (
        f"error: port {taken} of 127.0.0.1 is taken by another program\n"
        f"  fix: give --port {taken + 1}, or stop that program\n"
    )


def test_variables(paddock: Callable, never: None, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setenv("PADDOCK_PORT", "none")
    assert "PADDOCK_PORT=none" in paddock("serve").err
    monkeypatch.setenv("PADDOCK_PORT", str(taken))
    monkeypatch.setenv("PADDOCK_DRAIN_SECOND", "1")
    run = paddock("serve")
    assert f"port {taken}" in run.err and "did you mean PADDOCK_DRAIN_SECONDS?" in run.err.splitlines()[0]
    assert "--port 70000" in paddock("serve", "--port", "70000").err, "the flag counts"


def test_a_certificate_that_is_none(paddock: Callable, never: None, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing of the kind")
    run = paddock("serve", "--ssl-certfile", tmp_path / "cert.pem")
    assert run.code == 3 and "cannot be used for TLS" in run.err


def test_settings_from_flags(tmp_path: Path) -> None:
    polite, rude = write_adapter(tmp_path / "polite"), write_adapter(tmp_path / "rude,odd")
    found = serving.settings_of(
        {
            "model": ["stories260K", str(bundled())],
            "served_model_name": ["one", "org/two"],
            "lora_modules": [f"p={polite}", f"r={rude},base=org/two"],
            "models_dir": [str(tmp_path)],
            "chat_template": "chatml",
            "api_key": ["k" * 8],
            "drain_seconds": 5.0,
        }
    )
    assert found == Settings(
        models=(Named("one", "stories260K"), Named("org/two", str(bundled()))),
        adapters=(Named("p", str(polite)), Named("r", str(rude), "org/two")),
        models_dirs=(tmp_path,),
        template="chatml",
        api_keys=("k" * 8,),
        drain_seconds=5.0,
    )
    assert serving.settings_of({}) == Settings()
    variable = {"lora_modules": [f"p={polite}", "base=x", f"q={polite}"]}
    assert [one.base for one in serving.settings_of(variable).adapters] == ["x", None]


@pytest.mark.parametrize(
    ("path", "name"), [("models/a.gguf", "a"), ("models/llama-3.2", "llama-3.2"), ("x/y.bin", "y"), ("models/b/", "b")]
)
def test_a_model_s_own_name(path: str, name: str) -> None:
    assert serving.settings_of({"model": [path]}).models == (Named(name, path),)


@pytest.mark.parametrize(
    ("host", "start"),
    [("127.0.0.1", "http://127.0.0.1:"), ("localhost", "http://localhost:"), ("0.0.0.0", "http://127.0.0.1:")],
)
def test_the_address_to_type(host: str, start: str) -> None:
    with listen(host, 0) as listening:
        assert address_of(listening, host, False) == f"{start}{listening.getsockname()[1]}"
        assert address_of(listening, host, True).startswith("https://")


def test_a_server_of_everything(tmp_path: Path) -> None:
    """Two models, an adapter, variables and flags, and what it says of them."""
    adapter = write_adapter(tmp_path / "polite")
    flags = (
        "--alias",
        "one",
        "--alias",
        "org/two",
        "--lora",
        f"polite={adapter},base=org/two",
        "--port",
        "0",
        "-np",
        "3",
    )
    variables = {"PADDOCK_API_KEY": "first-key second-key", "PADDOCK_CHAT_TEMPLATE": "alpaca", "PADDOCK_PARALLEL": "9"}
    with Process("stories260K", "stories260K", *flags, **variables) as server:
        with httpx.Client(base_url=server.url, headers={"Authorization": "Bearer second-key"}, timeout=60) as client:
            listed = client.get("/v1/models").json()["data"]
            assert [(model["id"], model["parent"]) for model in listed] == [
                ("one", None), ("org/two", None), ("polite", "org/two"),
            ]  # fmt: skip
            texts = {}
            for model in ("one", "org/two", "polite"):
                answer = client.post("/v1/chat/completions", json=ask(20, model=model)).json()
                assert answer["model"] == model
                texts[model] = answer["choices"][0]["message"]["content"]
            assert texts["one"] == texts["org/two"] != texts["polite"]
            assert client.get("/v1/models", headers={"Authorization": "Bearer nobody-s"}).status_code == 401
        server.signal()
        assert server.end() == 0
    said = server.said
    assert "3 requests of a model, 12 more may wait" in said and "keys: needed" in said and f"{server.url}/v1" in said
    for name in ("one", "org/two", "polite"):
        assert re.search(rf"^  {name} +(llama|adapter on org/two) .*512", said, re.MULTILINE), said
    assert said.count(" POST /v1/chat/completions 200 ") == 3
    for secret in ("first-key", "second-key", "nobody-s", "Once upon a time", texts["one"].strip()):
        assert secret not in said
    assert "Traceback" not in said and "Warning" not in said


def test_without_a_model_the_bundled_one_continues_texts() -> None:
    with Process("--port", "0") as server:
        assert "no chat template" in server.said and "keys: none" in server.said
        body = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)
        assert answer.status_code == 200 and answer.json()["choices"][0]["text"]
        chat = httpx.post(f"{server.url}/v1/chat/completions", json=ask(8), timeout=60)
        assert chat.status_code == 400 and "chat template" in chat.json()["error"]["message"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="a certificate is made with openssl")
def test_over_tls(tmp_path: Path) -> None:
    made = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost")
    files = ("-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem")
    subprocess.run(["openssl", *made, *files], check=True, capture_output=True)
    flags = ("--ssl-certfile", tmp_path / "cert.pem", "--ssl-keyfile", tmp_path / "key.pem")
    with Process("--port", "0", *flags) as server:
        assert server.url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        trusted.check_hostname = False
        assert httpx.get(f"{server.url}/ready", verify=trusted, timeout=60).json() == {"status": "ok"}
        with pytest.raises(httpx.TransportError):
            httpx.get(server.url.replace("https", "http") + "/ready", timeout=60)


def test_a_model_without_a_tokenizer_is_told_of(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(bundled() / name, tmp_path)
    with Process(str(tmp_path), "--port", "0") as server:
        assert "no tokenizer: takes token ids only" in server.said
        asked = {"prompt": [1, 403], "max_tokens": 3}
        assert httpx.post(f"{server.url}/v1/completions", json=asked, timeout=60).status_code == 200
