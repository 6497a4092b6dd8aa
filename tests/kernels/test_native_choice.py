"""Which kernels are chosen: by the machine, by PADDOCK_KERNELS, and where the module is not there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from paddock import kernels as operations
from paddock.errors import UsageError
from paddock.kernels import native


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    native._chosen.cache_clear()
    native.library()


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package had been installed where there is no compiler."""
    monkeypatch.setitem(sys.modules, "paddock.kernels._native", None)
    monkeypatch.delenv(native.KERNELS, raising=False)
    native._chosen.cache_clear()


def test_the_best_variant_is_chosen(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(native.KERNELS, raising=False)
    assert native.library() is module
    assert module.current() == module.variants()[-1]
    assert module.variants()[0] == "portable" and set(module.variants()) <= set(module.built())
    assert native.available() == ["reference", *module.variants()]
    assert re.fullmatch(rf"native {module.current()}, \d+ threads?", operations.chosen())


def test_each_variant_can_be_forced(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in module.variants():
        monkeypatch.setenv(native.KERNELS, name)
        assert native.library() is module and module.current() == name
        assert operations.chosen().startswith(f"native {name}, ")


def test_the_reference_can_be_forced(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.KERNELS, "reference")
    assert native.library() is None
    assert operations.chosen() == "reference (PyTorch): PADDOCK_KERNELS=reference"


def test_an_unknown_variant_is_refused(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.KERNELS, "portabel")
    with pytest.raises(UsageError, match="this build has none of that name") as refusal:
        native.library()
    assert refusal.value.expected == ", ".join(native.available()) and "portable" in str(refusal.value.fix)


def test_a_variant_of_another_processor_is_refused(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "built", lambda: ["portable", "neon"])
    monkeypatch.setenv(native.KERNELS, "neon")
    with pytest.raises(UsageError, match="this processor cannot run those"):
        native.library()


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", "513", "99999999999999999999", "²"])
def test_threads_that_cannot_be_meant_are_refused(monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv(native.THREADS, threads)
    with pytest.raises(UsageError, match="PADDOCK_THREADS"):
        native.library()


@pytest.mark.usefixtures("absent")
def test_without_the_module_the_reference_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.library() is None
    assert native.available() == ["reference"] and native.built() == []
    assert operations.chosen() == "reference (PyTorch): no native kernels in this build"
    monkeypatch.setenv(native.KERNELS, "reference")
    assert native.library() is None
    monkeypatch.setenv(native.KERNELS, "avx2")
    with pytest.raises(UsageError, match="PADDOCK_KERNELS=avx2: no native kernels in this build") as refusal:
        native.library()
    assert refusal.value.fix == native.FIX


@pytest.mark.usefixtures("absent")
def test_the_doctor_says_what_is_missing() -> None:
    from paddock.cli import diagnosing

    (finding,) = diagnosing._kernels()
    assert (finding.level, finding.fix) == ("warn", native.FIX)
    assert "no native kernels in this build" in finding.text


def test_the_doctor_names_the_variants(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from paddock.cli import diagnosing

    (finding,) = diagnosing._kernels()
    assert finding.level == "ok" and module.current() in finding.text and "PADDOCK_KERNELS may say" in finding.text
    monkeypatch.setenv(native.KERNELS, "avx1024")
    (finding,) = diagnosing._kernels()
    assert finding.level == "fail" and "portable" in finding.text


def test_the_doctor_says_why_a_variant_is_not_used(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from paddock.cli import diagnosing

    monkeypatch.setattr(native, "built", lambda: [*module.built(), "amx9", "neon9"])
    monkeypatch.setattr(native, "refused", lambda: {"amx9": "its products are wrong"})
    found, refused = diagnosing._kernels()
    assert "cannot run" in found.text and "neon9" in found.text and "amx9" not in found.text
    assert refused.level == "warn" and refused.text == "amx9 is not used: its products are wrong"
    monkeypatch.setenv(native.KERNELS, "amx9")
    with pytest.raises(UsageError, match="PADDOCK_KERNELS=amx9: its products are wrong"):
        native.library()


def test_an_emulated_variant_is_never_chosen_by_itself(module: ModuleType) -> None:
    assert set(module.refused()) <= set(module.built()) - set(module.variants())
    assert not module.variants()[-1].endswith("emulated")
    if "avx512" in module.variants() and "amx-emulated" in module.built():
        assert "amx-emulated" in module.variants()


def test_importing_paddock_loads_no_kernels() -> None:
    code = "import sys, paddock; print([n for n in ('torch', 'paddock.kernels._native') if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_a_story_is_told_without_the_module(tmp_path: Path) -> None:
    script = tmp_path / "story.py"
    script.write_text(
        "import sys\nsys.modules['paddock.kernels._native'] = None\n"
        "import paddock\nprint(paddock.load().generate('', 8, temperature=0).text)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != native.KERNELS}
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == 0 and run.stdout.startswith("Once upon a time"), run.stderr
