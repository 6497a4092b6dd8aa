"""The kinds of quantised weights, by the names that `paddock quantize --to` takes."""

from __future__ import annotations

from dataclasses import dataclass

from paddock.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class GGUFKind:
    """`base`: the ggml type of most matrices. `file_type`: llama.cpp's number for such a file (`general.file_type`)."""

    name: str
    base: str
    file_type: int


GGUF_KINDS = {
    kind.name: kind
    for kind in (
        GGUFKind("q8_0", "Q8_0", 7),
        GGUFKind("q6_k", "Q6_K", 18),
        GGUFKind("q5_k", "Q5_K", 17),
        GGUFKind("q5_1", "Q5_1", 9),
        GGUFKind("q5_0", "Q5_0", 8),
        GGUFKind("q4_k", "Q4_K", 15),
        GGUFKind("q4_1", "Q4_1", 3),
        GGUFKind("q4_0", "Q4_0", 2),
        GGUFKind("f16", "F16", 1),
        GGUFKind("bf16", "BF16", 32),
        GGUFKind("f32", "F32", 0),
    )
}
FOLDER_KINDS = ("int8", "int4", "nf4")
KINDS = (*GGUF_KINDS, *FOLDER_KINDS)
OTHER_NAMES = {
    "q4_k_m": "q4_k",
    "q5_k_m": "q5_k",
    "fp16": "f16",
    "float16": "f16",
    "bfloat16": "bf16",
    "fp32": "f32",
    "float32": "f32",
}


def kind_named(name: str) -> str:
    """The kind that a user means. Raises UsageError for a name that is none."""
    found = name.strip().lower().replace("-", "_")
    found = OTHER_NAMES.get(found, found)
    if found not in KINDS:
        raise UsageError(f"there is no kind {name[:40]!r}", expected=", ".join(KINDS), fix=did_you_mean(found, KINDS))
    return found
