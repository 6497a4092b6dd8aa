"""Programs that fill sources and attend across to them, beside NumPy; what may not be run is refused."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

HEADS, HEAD_DIM, WIDTH, VOCABULARY = 4, 8, 32, 20
SHAPES = [(2, HEAD_DIM), (HEADS, HEAD_DIM)]  # key-value heads may be fewer than the queries'


class Made:
    """A program that fills sources with keys and values of two layers, and one that attends to them, of random
    matrices."""

    def __init__(self, kernels: ModuleType, random: np.random.Generator) -> None:
        self.kernels, self.table = kernels, random.standard_normal((VOCABULARY, WIDTH)).astype(np.float32)
        self.filler, self.reader = kernels.Program(None, SHAPES), kernels.Program(None, SHAPES)
        self.k, self.v = [], []
        x = self.embedded(self.filler)
        for layer, (heads, size) in enumerate(SHAPES):
            self.k.append(random.standard_normal((heads * size, WIDTH)).astype(np.float32))
            self.v.append(random.standard_normal((heads * size, WIDTH)).astype(np.float32))
            k, v = (self.filler.linear(x, self.packed(matrix), None) for matrix in (self.k[-1], self.v[-1]))
            self.filler.store(k, v, layer, crossed=True)
        self.filler.finish(x)
        x = self.embedded(self.reader)
        one, two = (self.reader.attend(x, layer, HEADS, 0.5, False, 0, None, crossed=True) for layer in (0, 1))
        self.reader.finish(self.reader.add(one, two))

    def embedded(self, program: Any) -> int:
        return int(program.embed_plain("float32", VOCABULARY, WIDTH, self.table.ctypes.data, False, self.table))

    def packed(self, matrix: np.ndarray) -> Any:
        return self.kernels.Weight.pack("f32", *matrix.shape, matrix.view(np.uint8).reshape(-1))

    def source(self, slots: int, shapes: list[tuple[int, int]] = SHAPES) -> Any:
        return self.kernels.Source("float32", slots, shapes)

    def run(self, program: Any, texts: list[list[int]], sources: list[Any], start: int = 0) -> np.ndarray:
        lengths = [len(text) for text in texts]
        ids = np.array([token for text in texts for token in text], np.int32)
        spans = np.zeros((len(texts), 4), np.int64)
        spans[:, 0], spans[:, 1], spans[:, 2] = np.cumsum([0, *lengths[:-1]]), lengths, start
        tables = np.zeros((len(texts), 1), np.int32)
        out = np.full((len(ids), WIDTH), np.nan, np.float32)
        program.run(ids, np.zeros(len(ids), np.int32), spans, tables, np.empty(0, np.int32), out, sources)
        return out

    def expected(self, text: list[int], source: list[int]) -> np.ndarray:
        """Both layers' attention over all of the source, (tokens, WIDTH), in float64."""
        x, memory = self.table[text].astype(np.float64), self.table[source].astype(np.float64)
        total = np.zeros((len(text), HEADS, HEAD_DIM))
        for layer, (heads, size) in enumerate(SHAPES):
            k, v = ((memory @ m[layer].T).reshape(-1, heads, size).repeat(HEADS // heads, 1) for m in (self.k, self.v))
            scores = 0.5 * np.einsum("qhd,khd->hqk", x.reshape(-1, HEADS, HEAD_DIM), k)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            total += np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), v)
        return total.reshape(len(text), WIDTH)


TEXTS = [[3, 1], [7], [2, 2, 9, 11, 0]]
SOURCES = [[5], list(range(19)), [3] * 16 + [8] * 30]


def test_every_text_reads_its_own_source(kernels: ModuleType, random: np.random.Generator) -> None:
    made = Made(kernels, random)
    sources = [made.source(len(source)) for source in SOURCES]
    made.run(made.filler, SOURCES, sources)
    assert [source.filled for source in sources] == [len(source) for source in SOURCES]
    found = made.run(made.reader, TEXTS, sources, start=40)  # wherever the text's own tokens stand
    wanted = np.concatenate([made.expected(text, source) for text, source in zip(TEXTS, SOURCES, strict=True)])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * float(np.abs(wanted).max()))


def test_nothing_depends_on_what_stands_beside(kernels: ModuleType, random: np.random.Generator) -> None:
    made = Made(kernels, random)
    sources = [made.source(len(source)) for source in SOURCES]
    made.run(made.filler, SOURCES, sources)
    found = made.run(made.reader, TEXTS, sources)
    first = 0
    for text, ids in zip(TEXTS, SOURCES, strict=True):
        own = made.source(100)
        made.run(made.filler, [ids], [own])
        assert np.array_equal(made.run(made.reader, [text], [own]), found[first : first + len(text)])
        first += len(text)


def test_a_source_that_is_filled_again_holds_the_new_text(kernels: ModuleType, random: np.random.Generator) -> None:
    made, source = Made(kernels, random), None
    source, other = made.source(19), made.source(3)
    made.run(made.filler, [SOURCES[1]], [source])
    made.run(made.filler, [[4, 5, 6]], [source])
    made.run(made.filler, [[4, 5, 6]], [other])
    found, wanted = (made.run(made.reader, [[1, 2]], [each]) for each in (source, other))
    assert np.array_equal(found, wanted)


def test_wrong_sources_are_refused(kernels: ModuleType, random: np.random.Generator) -> None:
    made = Made(kernels, random)
    filled = made.source(4)
    made.run(made.filler, [[1, 2, 3, 4]], [filled])
    for sources in ([], [filled, filled], [None], [made.source(4)], [made.source(4, SHAPES[:1])],
                    [made.source(4, SHAPES[::-1])], [made.source(4, [(2, 8), (4, 9)])]):  # fmt: skip
        with pytest.raises(ValueError, match="source"):
            made.run(made.reader, [[1, 2]], sources)
    for text, start in (([1] * 17, 0), ([1], 1), ([1], -1)):
        with pytest.raises(ValueError, match=r"source|slots"):
            made.run(made.filler, [text], [filled], start)
    with pytest.raises(ValueError, match="vocabulary"):
        made.run(made.filler, [[VOCABULARY]], [filled])
    assert made.run(made.reader, [[1, 2]], [filled]).shape == (2, WIDTH)


def test_a_program_without_sources_takes_none(kernels: ModuleType, random: np.random.Generator) -> None:
    made = Made(kernels, random)
    program = kernels.Program(None)
    program.finish(program.scale(made.embedded(program), 2.0))
    with pytest.raises(ValueError, match="source"):
        made.run(program, [[1]], [made.source(4)])


def test_what_no_source_has_is_not_recorded(kernels: ModuleType, random: np.random.Generator) -> None:
    made = Made(kernels, random)
    program = kernels.Program(None, SHAPES)
    x = made.embedded(program)
    for layer in (-1, 2):
        with pytest.raises(ValueError, match="no such layer"):
            program.attend(x, layer, HEADS, 1.0, False, 0, None, crossed=True)
        with pytest.raises(ValueError, match="no such layer"):
            program.store(x, x, layer, crossed=True)
    ones, near = np.ones(HEADS, np.float32), np.ones((HEADS, 3), np.float32)
    for causal, window, slopes, table in ((True, 0, None, None), (False, 2, None, None), (False, 0, ones, None),
                                          (False, 0, None, near)):  # fmt: skip
        with pytest.raises(ValueError, match="places"):
            program.attend(x, 1, HEADS, 1.0, causal, window, slopes, table, crossed=True)
    with pytest.raises(ValueError, match="width"):
        program.store(x, x, 0, crossed=True)
    with pytest.raises(ValueError, match="share"):
        program.attend(x, 1, 3, 1.0, False, 0, None, crossed=True)
    for shapes in ([(0, 8)], [(2**12, 2**12)], [(2, -1)]):
        with pytest.raises(ValueError, match="heads"):
            kernels.Program(None, shapes)
    for slots in (0, -1, 2**31):
        with pytest.raises(ValueError, match="slots"):
            made.source(slots)


@pytest.mark.parametrize("interleaved", [False, True])
def test_waves_are_sines_and_cosines(kernels: ModuleType, interleaved: bool) -> None:
    program = kernels.Program(None)
    rates = np.array([1.0, 0.3, 0.01], np.float32)
    waves = program.waves(program.angles(rates, 1.0, 5), interleaved)
    program.finish(program.scale(waves, 1.0))
    positions = np.array([0, 7, 300], np.int32)
    out = np.empty((3, 6), np.float32)
    spans = np.array([(0, 3, 0, 0)], np.int64)
    program.run(np.zeros(3, np.int32), positions, spans, np.zeros((1, 1), np.int32), np.empty(0, np.int32), out)
    angles = (positions[:, None] + 5).astype(np.float32) * rates
    pair = np.sin(angles), np.cos(angles)
    wanted = np.stack(pair, -1).reshape(3, 6) if interleaved else np.concatenate(pair, -1)
    np.testing.assert_allclose(out, wanted, atol=1e-6)


def test_waves_that_begin_nowhere_are_refused(kernels: ModuleType) -> None:
    program = kernels.Program(None)
    rates = np.ones(2, np.float32)
    for start in (-1, 2**31):
        with pytest.raises(ValueError, match="positions"):
            program.angles(rates, 1.0, start)
    for number in (-1, 0):
        with pytest.raises(ValueError, match="no such angles"):
            program.waves(number, False)
