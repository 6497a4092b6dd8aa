"""Answers of the process that renders templates go to whom they are for, whatever interrupted the one before."""

from __future__ import annotations

import _thread
import threading
from typing import Any

import pytest

from paddock.tokenizer.template_worker import Killed, Worker


def request(text: str, source: str = "{{ text }}") -> dict[str, Any]:
    return {"source": source, "variables": {"text": text}, "limit": 1000, "seconds": 1.0, "now": None}


@pytest.fixture
def worker() -> Any:
    made = Worker()
    yield made
    made.stop()


def test_an_interrupted_answer_is_nobodys(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker.ask(request("first")) == {"text": "first"}

    def interrupted(*_: Any) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.ask(request("a secret"))
    for text in ("second", "third"):
        assert worker.ask(request(text)) == {"text": text}


def test_ctrl_c_while_a_template_runs(worker: Worker) -> None:
    worker.ask(request("warm"))
    loops = "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}{{ text }}"
    timer = threading.Timer(0.2, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        worker.ask(request("a secret", loops))
    timer.join()
    assert worker.ask(request("second")) == {"text": "second"}


def test_an_answer_of_another_number_is_refused(worker: Worker) -> None:
    worker.ask(request("first"))
    process = worker.process
    assert process is not None and process.stdin is not None
    worker.sent += 1
    with pytest.raises(Killed):
        worker.ask(request("second"))
    assert process.returncode is not None
    assert worker.ask(request("third")) == {"text": "third"}
