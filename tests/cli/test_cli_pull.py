"""`paddock pull` and `paddock rm`, from a name to a model that answers, and back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from cli_streams import Run

import paddock as package
from hub_server import Fault, HubServer, Repo, folder_files, running
from paddock.checkpoint.hub.exchange import Hub, Patience
from paddock.checkpoint.hub.settings import Settings
from paddock.cli import main, pulling
from paddock.engine.locate import bundled, locate, names
from paddock.engine.named import give_name
from paddock.errors import UsageError

HUB = "EleutherAI/pythia-70m"  # in the catalogue as pythia-70m; here it is the bundled model
TOKEN = "hf_SecretSecretSecret"
STEP = "5" * 40
Paddock = Callable[..., Run]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, paddock: Paddock) -> Iterator[HubServer]:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        assert self.family != socket.AF_INET or address[0] == "127.0.0.1", address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pulling, "Hub", quick)
    with running() as server:
        files = folder_files(bundled())
        server.repos[HUB] = Repo(
            files | {"modeling.py": b"import os", "onnx/model.onnx": b"x", "flax_model.msgpack": b"x"}
        )
        server.repos[HUB].revisions["step1000"] = STEP
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "5")
        yield server


def quick(settings: Settings, told: Callable[[str], None]) -> Hub:
    """Without waits, and without certificates, which take long to read and which no address here needs."""
    return Hub(settings, Patience(sleep=lambda seconds: None), told, httpx.HTTPTransport(verify=False))


def blobs(tmp_path: Path, repo: str = HUB) -> list[Path]:
    return sorted((tmp_path / "huggingface" / "hub" / f"models--{repo.replace('/', '--')}" / "blobs").iterdir())


def test_from_a_name_to_a_model_that_answers_and_back(hub: HubServer, paddock: Paddock, tmp_path: Path) -> None:
    pulled = paddock("pull", "pythia-70m")
    assert pulled.code == 0 and "pythia-70m is here and sound (llama family): paddock chat pythia-70m" in pulled.out
    for told in (f"{HUB} at main (c0ffee0000) from {hub.url}", "licence", "Apache", "free)"):
        assert told in pulled.err, told
    assert [row["name"] for row in paddock("ls", "--json").json] == ["stories260K", "pythia-70m"]
    ours = paddock("generate", "Once", "-m", "pythia-70m", "-n", "5", "--temp", "0")
    assert ours.code == 0 and ours.out == paddock("generate", "Once", "-n", "5", "--temp", "0").out
    assert locate("pythia-70m").resolve() == locate(HUB) == locate(f"{HUB}@main")
    assert package.load(HUB).architecture == package.load("pythia-70m").architecture == package.load().architecture
    seen = len(hub.seen)
    assert paddock("pull", HUB).code == 0 and len(hub.seen) == seen + 1
    refused = paddock("rm", "pythia-70m")
    assert refused.code == 2 and "--yes" in refused.err and locate("pythia-70m")
    size = sum(path.stat().st_size for path in blobs(tmp_path))
    gone = paddock("rm", "pythia-70m", "--yes", "--json")
    assert gone.json == {"name": "pythia-70m", "freed": size} and list(names()) == ["stories260K"]
    assert not (tmp_path / "huggingface" / "hub" / "models--EleutherAI--pythia-70m").exists()
    assert list((tmp_path / "home" / "models").iterdir()) == []


def test_only_what_makes_a_model_is_fetched(hub: HubServer, paddock: Paddock, tmp_path: Path) -> None:
    files = hub.repos[HUB].files
    files |= {"pytorch_model.bin": b"pickle", "consolidated.safetensors": b"x", "original/params.json": b"{}"}
    files |= {"README.md": b"---\nlicense: mit\n---", ".gitattributes": b"x", "model.fp16.safetensors": b"x"}
    told = paddock("pull", HUB, "--dry-run", "--json").json
    assert {file["path"] for file in told["files"]} == {*folder_files(bundled()), "README.md"} - {"LICENSE"} | (
        {"LICENSE"} & files.keys()
    )
    assert told["dry_run"] and told["folder"].endswith("c0ffee" + "0" * 34) and not (tmp_path / "huggingface").exists()
    included = paddock("pull", HUB, "--dry-run", "--json", "--include", "*.safetensors", "--exclude", "cons*").json
    assert [file["path"] for file in included["files"]] == ["model.fp16.safetensors", "model.safetensors"]
    missing = paddock("pull", HUB, "--include", "*.safetensor")
    assert missing.code == 2 and "no file matches '*.safetensor'" in missing.err
    del files["model.safetensors"]
    pickled = paddock("pull", HUB, "--dry-run")
    assert "the weights are pickles" in pickled.err and "pytorch_model.bin" in pickled.out
    assert paddock("pull", HUB, "--dry-run", "--format", "gguf").code == 2


def test_a_revision_has_a_name_of_its_own_and_shares_its_bytes(
    hub: HubServer, paddock: Paddock, tmp_path: Path
) -> None:
    assert paddock("pull", "pythia-70m").code == 0
    sent = hub.sent("model.safetensors")
    assert "pythia-70m@step1000 is here" in paddock("pull", "pythia-70m", "--revision", "step1000").out
    assert hub.sent("model.safetensors") == sent  # the same bytes under another commit
    assert locate("pythia-70m@step1000").resolve() == locate(f"{HUB}@step1000") != locate(HUB)
    gone = paddock("rm", "pythia-70m@step1000", "--yes")
    assert gone.code == 0 and "0 B are free again" in gone.out and "1 more of its revisions stay" in gone.err
    assert package.load("pythia-70m").generate("Once", 2, temperature=0).text
    with pytest.raises(UsageError, match="no model is called"):
        locate("pythia-70m@step1000")


def test_gguf_files_are_chosen_by_name(hub: HubServer, paddock: Paddock, tmp_path: Path) -> None:
    small = tmp_path / "small.gguf"
    assert paddock("convert", bundled(), small).code == 0
    data = small.read_bytes()
    hub.repos["acme/tiny-GGUF"] = Repo({"tiny-Q4.gguf": data, "tiny-F16.gguf": data + bytes(64), "README.md": b"x"})
    several = paddock("pull", "acme/tiny-GGUF")
    assert several.code == 2 and "--include 'tiny-F16.gguf'" in several.err
    assert "tiny-Q4.gguf" in several.err and " MB" in several.err and not hub.sent(".gguf")
    one = paddock("pull", "acme/tiny-GGUF", "--include", "*Q4*")
    assert one.code == 0 and "tiny-Q4 is here and sound" in one.out
    assert paddock("generate", "Once", "-m", "tiny-Q4", "-n", "2").code == 0
    assert locate("acme/tiny-GGUF").name == "tiny-Q4.gguf"
    assert [row["name"] for row in paddock("ls", "--json").json] == ["stories260K", "tiny-Q4"]
    assert paddock("rm", "tiny-Q4", "--yes").code == 0 and len(names()) == 1


def test_a_file_of_the_users_keeps_its_name(paddock: Paddock, tmp_path: Path) -> None:
    mine, other = tmp_path / "home" / "models" / "tiny.gguf", tmp_path / "other.gguf"
    mine.parent.mkdir(parents=True)
    for path in (mine, other):
        path.write_bytes(path.name.encode())
    with pytest.raises(UsageError, match="is there, and is no link"):
        give_name("tiny", other)
    assert mine.read_bytes() == b"tiny.gguf" and give_name("new", other).read_bytes() == b"other.gguf"


def test_a_plain_folder(hub: HubServer, paddock: Paddock, tmp_path: Path) -> None:
    pulled = paddock("pull", HUB, "--to", tmp_path / "mine")
    assert pulled.code == 0 and str(tmp_path / "mine") in pulled.out
    assert folder_files(tmp_path / "mine").items() <= hub.repos[HUB].files.items() and list(names()) == ["stories260K"]
    assert paddock("pull", HUB, "--to", tmp_path / "mine" / "config.json").code == 2


def test_offline_asks_nobody(hub: HubServer, paddock: Paddock, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = paddock("pull", HUB, "--offline")
    assert absent.code == 2 and "is not here, and no hub is asked" in absent.err
    assert paddock("pull", HUB).code == 0
    seen = len(hub.seen)
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    here = paddock("pull", "pythia-70m")
    assert here.code == 0 and "is here" in here.out and len(hub.seen) == seen


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pythia-70n", "paddock pull pythia-70m"),
        ("EleutherAI/pythia-70n", "did you mean EleutherAI/pythia-70m?"),
        ("pythia", "has several sizes"),
        ("a/b/c", "the catalogue has no 'a/b/c'"),
        ("../x", "no name of a model on a hub"),
        ("", "the catalogue has no ''"),
        ("EleutherAI/pythia-70m@nope", "no such revision"),
        ("EleutherAI/pythia-70m@../x", "is no revision"),
    ],
)
def test_names_that_mean_nothing(hub: HubServer, paddock: Paddock, name: str, words: str) -> None:
    refused = paddock("pull", name)
    assert refused.code in (1, 2) and words in refused.err, refused.err


def test_a_gated_model_says_how_to_be_let_in(hub: HubServer, paddock: Paddock, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token, hub.repos[HUB].gated = TOKEN, True
    refused = paddock("pull", HUB)
    for told in (
        f"accept its terms at {hub.url}/{HUB}",
        f"{hub.url}/settings/tokens",
        "set HF_TOKEN",
        "to be accepted",
    ):
        assert told in refused.err, refused.err
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    assert paddock("pull", HUB).code == 0


@pytest.mark.parametrize("value", [TOKEN, f"{TOKEN}\u00e4", f"{TOKEN} x", f"{TOKEN}\r\nX: y"], ids=ascii)
def test_the_token_is_nowhere_to_be_read(
    hub: HubServer, paddock: Paddock, monkeypatch: pytest.MonkeyPatch, capfd: Any, tmp_path: Path, value: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", value)
    hub.token = TOKEN
    for faults in ([Fault("status", 400)], [Fault("status", 401)], [Fault("status", 500)] * 9, []):
        hub.faults["api"].clear()
        hub.faults["api"].extend(faults)
        main(["--debug", "pull", HUB, "--json"])
    told = capfd.readouterr()
    assert "Secret" not in told.out + told.err and ("Traceback" in told.err)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if b"Secret" in path.read_bytes()]


def test_ctrl_c_keeps_what_came(hub: HubServer, paddock: Paddock, monkeypatch: pytest.MonkeyPatch) -> None:
    came = pulling.Transfer.came

    def stop(self: pulling.Transfer, bytes: int) -> None:
        came(self, bytes)
        if self.new > 400_000:
            raise KeyboardInterrupt

    monkeypatch.setattr(pulling.Transfer, "came", stop)
    stopped = paddock("pull", "pythia-70m", "--revision", "main")
    assert stopped.code == 75 and "are kept\n  paddock pull pythia-70m --revision main" in stopped.err
    monkeypatch.setattr(pulling.Transfer, "came", came)
    again = paddock("pull", "pythia-70m")
    assert again.code == 0 and "of them are here" in again.err
    assert "Range" in hub.requests("model.safetensors")[-1].headers


def test_a_pull_that_was_killed_goes_on(hub: HubServer, paddock: Paddock, tmp_path: Path) -> None:
    hub.faults["model.safetensors"].append(Fault("drip", 500_000))
    process = subprocess.Popen([sys.executable, "-m", "paddock", "pull", HUB], env=os.environ, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and not any(path.stat().st_size >= 500_000 for path in partials(tmp_path)):
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        told = process.communicate()[1]
    assert partials(tmp_path), told
    kept = partials(tmp_path)[0].stat().st_size
    assert kept >= 500_000 and list(names()) == ["stories260K"]
    assert paddock("pull", HUB).code == 0
    assert hub.requests("model.safetensors")[-1].headers["Range"].startswith(f"bytes={kept}-")


def partials(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "huggingface" / "hub").glob("*/blobs/*.incomplete"))


def test_half_a_pull_can_be_deleted(hub: HubServer, paddock: Paddock, tmp_path: Path) -> None:
    hub.faults["model.safetensors"].extend([Fault("cut", 300_000), Fault("status", 404)])
    assert paddock("pull", HUB).code == 1 and partials(tmp_path)
    gone = paddock("rm", HUB, "--yes")
    assert gone.code == 0 and "the parts of" in gone.err and not partials(tmp_path)


def test_what_came_but_is_no_model_for_us(hub: HubServer, paddock: Paddock) -> None:
    hub.repos[HUB].files["config.json"] = b'{"model_type": "unheard-of"}'
    refused = paddock("pull", HUB)
    assert refused.code == 3 and "every file came as the hub has it, but" in refused.err and "unheard-of" in refused.err
    assert paddock("rm", HUB, "--yes").code == 0


def test_a_repository_that_lacks_a_shard_is_said_to_lack_it(hub: HubServer, paddock: Paddock) -> None:
    files = hub.repos[HUB].files
    files["model-00001-of-00002.safetensors"] = files.pop("model.safetensors")
    files["model.safetensors.index.json"] = b'{"weight_map": {"x": "model-00002-of-00002.safetensors"}}'
    refused = paddock("pull", HUB)
    assert refused.code == 3 and "lacks the shard model-00002-of-00002.safetensors" in refused.err


def test_an_adapter_is_no_model(hub: HubServer, paddock: Paddock) -> None:
    weights = hub.repos[HUB].files["model.safetensors"]
    hub.repos["acme/lora"] = Repo({"adapter_config.json": b"{}", "adapter_model.safetensors": weights})
    pulled = paddock("pull", "acme/lora")
    assert pulled.code == 0 and "2 files are in" in pulled.out and list(names()) == ["stories260K"]


def test_progress_is_one_live_line_on_a_terminal(
    hub: HubServer, paddock: Paddock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "LIVE", 0.0)
    told = paddock("pull", HUB, terminal=True)
    assert told.code == 0 and "\r\x1b[K" in told.err and " %, " in told.err and "/s, " in told.err
    assert paddock("rm", HUB, "--yes").code == 0
    monkeypatch.setattr(pulling, "PLAIN", 0.0)
    told = paddock("pull", HUB)
    lines = [line for line in told.err.splitlines() if line.startswith("pythia-70m ") and " %, " in line]
    assert told.code == 0 and "\x1b" not in told.err and lines[-1].startswith("pythia-70m 100 %, 1.1 MB of 1.1 MB, ")


def test_much_is_asked_about_where_somebody_can_answer(
    hub: HubServer, paddock: Paddock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "MUCH", 1000)
    refused = paddock("pull", HUB, stdin="n\n", terminal=True)
    assert refused.code == 2 and "fetch 1.1 MB? [y/N]" in refused.err and "nothing was fetched" in refused.err
    assert not hub.sent("model.safetensors") and paddock("pull", HUB).code == 0


def test_a_short_name_keeps_its_meaning(hub: HubServer, paddock: Paddock, tmp_path: Path) -> None:
    for organisation in ("one", "two"):
        hub.repos[f"{organisation}/same"] = Repo(folder_files(bundled()))
    assert "same is here" in paddock("pull", "one/same").out
    other = paddock("pull", "two/same")
    assert "two/same is here and sound" in other.out and "same means" in other.err
    assert locate("same").resolve() == locate("one/same")
    shutil.rmtree(locate("one/same"))  # by hand, or by another tool
    assert "what it meant is gone already" in paddock("rm", "same", "--yes").err
    assert "same is here" in paddock("pull", "two/same").out
    assert locate("same").resolve() == locate("two/same")


def test_rm_asks_on_a_terminal(hub: HubServer, paddock: Paddock) -> None:
    assert paddock("pull", HUB).code == 0
    kept = paddock("rm", HUB, stdin="n\n", terminal=True)
    assert kept.code == 2 and "nothing was deleted" in kept.err and HUB in names()
    assert paddock("rm", HUB, stdin="y\n", terminal=True).code == 0 and HUB not in names()


def test_rm_deletes_nothing_of_the_users(hub: HubServer, paddock: Paddock, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(bundled(), mine)
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    (models / "linked").symlink_to(mine)
    (models / "notes").mkdir()
    (models / "notes" / "diary").write_text("x")
    shutil.copytree(bundled(), models / "own")
    for name in (mine, "stories260K", "notes", "..", ".", "", "own/../../mine", "linked/config.json", "nothing"):
        refused = paddock("rm", name, "--yes")
        assert refused.code == 2, (name, refused)
    gone = paddock("rm", "linked", "--yes")
    assert gone.code == 0 and "stays" in gone.err and not (models / "linked").is_symlink()
    assert folder_files(mine) == folder_files(bundled()) and (models / "notes" / "diary").exists()
    assert paddock("rm", "own", "--yes").code == 0 and not (models / "own").exists()


def test_what_other_tools_left_half_way_is_no_model(paddock: Paddock, tmp_path: Path) -> None:
    root = tmp_path / "huggingface" / "hub" / "models--acme--other"
    snapshot = root / "snapshots" / STEP
    shutil.copytree(bundled(), snapshot)
    assert "acme/other" not in names()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(STEP)
    assert locate("acme/other") == locate("other") == snapshot
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    index = snapshot / "model.safetensors.index.json"
    index.write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    assert "acme/other" not in names()
    (snapshot / "model-00002-of-00002.safetensors").touch()
    assert "acme/other" in names()
    shutil.copytree(bundled(), tmp_path / "huggingface" / "hub" / "elsewhere")
    for broken in ("../../elsewhere", "x" * 40, ""):
        (root / "refs" / "main").write_text(broken)
        assert "acme/other" not in names()


def test_a_name_that_could_mean_several_is_refused(paddock: Paddock, tmp_path: Path) -> None:
    for organisation in ("one", "two"):
        root = tmp_path / "huggingface" / "hub" / f"models--{organisation}--same"
        shutil.copytree(bundled(), root / "snapshots" / STEP)
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text(STEP)
    with pytest.raises(UsageError, match="could mean one/same, two/same"):
        locate("same")
    assert torch.is_tensor(package.load("two/same").logits([1]))
    unknown = paddock("show", "three/same")
    assert unknown.code == 2 and "paddock pull three/same" in unknown.err


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"HF_ENDPOINT": "huggingface.co"}, "HF_ENDPOINT"),
        ({"HF_ENDPOINT": "http://["}, "HF_ENDPOINT"),
        ({"HF_ENDPOINT": "https://user:Secret@hub.example.org?x=Secret"}, "HF_ENDPOINT"),
        ({"HF_ENDPOINT": "http://hub.example.org", "HF_TOKEN": TOKEN}, "would travel to"),
        ({"HF_HUB_DOWNLOAD_TIMEOUT": "never"}, "HF_HUB_DOWNLOAD_TIMEOUT"),
        ({"HF_HUB_DOWNLOAD_TIMEOUT": "nan"}, "HF_HUB_DOWNLOAD_TIMEOUT"),
        ({"HF_HUB_DOWNLOAD_TIMEOUT": "2.5"}, "HF_HUB_DOWNLOAD_TIMEOUT"),  # the hub's library fails on it
        ({"HF_TOKEN": TOKEN * 300}, "no token"),
        ({"HF_TOKEN": f"{TOKEN} x"}, "no token"),
        ({"HF_TOKEN": f"{TOKEN}\u00e4"}, "no token"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_variables_that_cannot_be_meant(variables: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        Settings.of_environment(variables)
    assert "Secret" not in str(refusal.value)


def test_variables_that_the_hubs_library_does_not_take() -> None:
    ask = "from paddock.checkpoint.hub.library import library; library()"
    done = subprocess.run(
        [sys.executable, "-c", ask], env=os.environ | {"HF_HUB_ETAG_TIMEOUT": "x"}, capture_output=True
    )
    assert b"UsageError: the hub's library cannot read a variable" in done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "~/x"},
        {"XDG_CACHE_HOME": "/x"},
        {"HUGGINGFACE_HUB_CACHE": "$HOME/y", "HF_HOME": "/x"},
        {"HF_HUB_CACHE": "/z", "HUGGINGFACE_HUB_CACHE": "/y"},
        {"HF_ENDPOINT": "https://hub.example.org/", "TRANSFORMERS_OFFLINE": "yes"},
        {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"},
    ],
    ids=lambda variables: "-".join(variables) or "none",
)
def test_variables_mean_what_they_mean_to_the_hubs_library(variables: dict[str, str]) -> None:
    ask = "from huggingface_hub import constants as c; print(c.ENDPOINT, c.HF_HUB_CACHE, c.HF_HUB_OFFLINE)"
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run([sys.executable, "-c", ask], env=kept | variables, capture_output=True, text=True, check=True)
    ours = Settings.of_environment(variables)
    assert done.stdout.split() == [ours.endpoint, str(ours.cache), str(ours.offline)]
