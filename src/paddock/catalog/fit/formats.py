"""How many bytes a matrix takes: in a file, and in the native kernels' tiles.

The tiles are those of `kernels/cpp/layout.h` and `pack_dense.cpp`, worked out here in whole numbers so that a matrix
nobody has can be weighed; a test compares both for every kind.
"""

from __future__ import annotations

from paddock.checkpoint.block_types import TYPES

PLAIN = {"f32": 4, "f16": 2, "bf16": 2}
DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
BLOCKS = {kind.name.lower(): (kind.weights, kind.nbytes) for kind in TYPES.values()}
LANES, GROUP, SPAN = 16, 32, 256  # rows of a tile; inputs that share a scale; inputs of a super-block
# Of each kind: lines of 64 bytes for the codes of a group, bytes of the group's scales, bytes of a span's.
CODES = {
    "q8_0": (8, 32, 0), "q4_0": (4, 32, 0), "q4_1": (4, 64, 0), "q5_0": (5, 32, 0), "q5_1": (5, 64, 0),
    "iq4_nl": (4, 32, 0), "q2_k": (2, 32, 64), "q3_k": (3, 32, 32), "q4_k": (4, 32, 64), "q5_k": (5, 32, 64),
    "q6_k": (6, 32, 32), "int4": (4, 48, 0), "int8": (8, 48, 0),
}  # fmt: skip
NF4_GROUP, NF4_GROUP_BYTES = 64, 576
FILE_GROUP = 128  # inputs that share a scale in published INT4 and INT8 files, where nothing says otherwise


def packed_bytes(kind: str, rows: int, columns: int) -> int:
    """What the native kernels hold for a matrix of `kind`."""
    tiles = -(-rows // LANES)
    if kind in PLAIN:
        even = columns if kind == "f32" else columns + columns % 2
        return tiles * LANES * even * PLAIN[kind]
    if kind == "nf4":
        return tiles * -(-columns // NF4_GROUP) * NF4_GROUP_BYTES
    lines, group, span = CODES[kind]
    groups = -(-columns // GROUP)
    whole, rest = divmod(groups, SPAN // GROUP)
    size = groups * (64 * lines + group) + (whole + bool(rest)) * span
    return tiles * (-(-size // 64) * 64)


def code_bytes(kind: str, rows: int, columns: int) -> int:
    """The part of `packed_bytes` that is codes; the rest are scales, minima and padding."""
    if kind in PLAIN:
        return packed_bytes(kind, rows, columns)
    lines = 4 if kind == "nf4" else CODES[kind][0]
    return rows * columns * lines // 8


def fits_kernels(kind: str, columns: int) -> bool:
    """Whether rows of so many columns are whole blocks of the kind."""
    if kind in PLAIN:
        return True
    block = BLOCKS[kind][0] if kind in BLOCKS else NF4_GROUP if kind == "nf4" else GROUP
    return columns % block == 0 and (kind in CODES or kind == "nf4")


def file_bytes(kind: str, rows: int, columns: int) -> int:
    """What a matrix takes where it is stored: ggml's blocks, or codes with a scale for each FILE_GROUP inputs."""
    if kind in PLAIN:
        return rows * columns * PLAIN[kind]
    if kind in BLOCKS:
        weights, nbytes = BLOCKS[kind]
        return rows * -(-columns // weights) * nbytes
    bits = 8 if kind == "int8" else 4
    groups = -(-columns // FILE_GROUP)
    return rows * (-(-columns * bits // 8) + groups * (2 + bits // 8))
