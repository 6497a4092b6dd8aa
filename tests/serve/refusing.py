"""Bodies that are wrong in one field: each is refused with 400 and OpenAI's object, and names the field."""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient

WORDS: list[Any] = ["1e9", "", "x", [], {}, True]  # what is no number
NUMBERS: list[Any] = [1, 1.5, True, {}]  # what is no text

# Every field that both bodies have, with what it may not be.
COMMON: dict[str, list[Any]] = {
    "model": [5, "", "x" * 257, ["a"]],
    "max_tokens": [*WORDS, -1, 1.0, 1.5, 2**31 + 1, 513],
    "temperature": [*WORDS, -0.1, 100.1, 1e-5, 1e400],
    "top_p": [*WORDS, 0, -0.1, 1.01],
    "n": [*WORDS, 0, -1, 9, 1.5],
    "stop": [*NUMBERS, "", [""], ["a"] * 17, "x" * 1025, ["x" * 1025], [1], ["a", None]],
    "seed": [*WORDS, -1, 2**64, 0.5],
    "stream": ["true", 1, 0, [], {}],
    "stream_options": [True, [], "x", {"include_usage": "yes"}],
    "presence_penalty": [*WORDS, -2.1, 2.1],
    "frequency_penalty": [*WORDS, -2.1, 2.1],
    "logit_bias": [
        [], "x", True, {"x": 1}, {"-1": 1}, {"1.5": 1}, {"5": "1"}, {"5": True}, {"5": 101}, {"5": -100.5}, {"512": 1},
        {str(id): 1 for id in range(1025)}, {"5": 1, "05": 1}, {"": 1}, {"99999999999": 1},
    ],
    "top_k": [*WORDS, -2, 1.5, 2**31 + 1],
    "min_p": [*WORDS, -0.1, 1.1],
    "typical_p": [*WORDS, 0, 1.1],
    "repetition_penalty": [*WORDS, 0, 0.009, 100.5],
    "min_tokens": [*WORDS, -1, 513],
    "ignore_eos": ["true", 1, []],
    "priority": [*WORDS, -101, 101],
    "truncation": ["yes", True, 1, []],
    "glass_box": ["true", 1, []],
    "guided_regex": [*NUMBERS, "", "["],
    "guided_choice": ["a", [], [1], {}],
    "guided_json": [1, True, [], "x", {"type": "nothing"}],
    "guided_grammar": [1, "", "start: ("],
    "structured_outputs": [1, [], {"json": {}, "regex": "a"}, {"unknown": 1}],
}  # fmt: skip

# Text as it must not come: half a pair, and JSON that is none.
RAW = [b'{"%s": "\\ud800"}', b'{"%s": NaN}', b'{"%s": Infinity}', b'{"%s": ', b'{"%s": "\xff"}']


def check_refused(client: TestClient, path: str, body: dict[str, Any], field: str) -> None:
    """It is refused, and the message or `param` says where."""
    content = json.dumps(body).encode()  # what the test client's own encoder would refuse
    response = client.post(path, content=content.replace(b"Infinity", b"1e400"), headers=JSON)
    seen = f"{field}={str(body.get(field))[:60]}: {response.status_code} {response.text[:300]}"
    assert response.status_code == 400 or (field == "model" and response.status_code == 404), seen
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["message"], seen
    assert error["type"] in ("invalid_request_error", "not_found_error"), seen
    named = (error["param"] or "").split(".")[0] == field or field in error["message"]
    assert named or field in LOOSE or "1e400" in seen or "inf" in seen, seen


JSON = {"content-type": "application/json"}
# Fields whose refusal comes from what they mean together with others, in words of its own.
LOOSE = {"max_tokens", "min_tokens", "logit_bias", "guided_regex", "guided_grammar", "guided_json", "guided_choice"}
