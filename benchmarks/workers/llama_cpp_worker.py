"""llama.cpp through its low-level Python binding: its own batches and sequences, the settings of llama-bench."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llama_cpp as llama
import numpy as np
from protocol import Clock, serve

BATCH, MICRO = 2048, 512  # llama-bench's own


class LlamaCpp:
    def load(self, path: str, threads: int, **options: Any) -> dict[str, Any]:
        llama.llama_backend_init()
        self.threads = threads
        self.model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.context, self.room = None, (0, 0)
        info = llama.llama_print_system_info().decode()
        return {"version": f"llama-cpp-python {llama.__version__}", "built": " ".join(info.split())}

    def complete(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        self._room(len(prompts), max(map(len, prompts)) + new)
        clock = Clock()
        rows = [(id, at, sequence) for sequence, ids in enumerate(prompts) for at, id in enumerate(ids)]
        last = {(sequence, len(ids) - 1) for sequence, ids in enumerate(prompts)}
        tokens: list[int] = []
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            tokens += self._decode(part, [(sequence, at) in last for _, at, sequence in part])
        clock.first()
        written = [[token] for token in tokens]
        for step in range(new - 1):
            rows = [(ids[-1], len(prompts[i]) + step, i) for i, ids in enumerate(written)]
            for ids, token in zip(written, self._decode(rows, [True] * len(rows)), strict=True):
                ids.append(token)
        return clock.answer(written)

    def _room(self, sequences: int, length: int) -> None:
        """A context with room for so many sequences of such a length, empty. Not timed."""
        if self.room != (sequences, length):
            if self.context:
                llama.llama_free(self.context)
            options = llama.llama_context_default_params()
            options.n_seq_max = sequences
            options.n_ctx = sequences * -(-length // 256) * 256
            options.n_batch, options.n_ubatch = BATCH, MICRO
            options.n_threads = options.n_threads_batch = self.threads
            self.context = llama.llama_init_from_model(self.model, options)
            if not self.context:
                raise RuntimeError("llama.cpp makes no context")
            self.batch = llama.llama_batch_init(BATCH, 0, 1)
            self.room = (sequences, length)
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)

    def _decode(self, rows: list[tuple[int, int, int]], wanted: list[bool]) -> list[int]:
        """Reads (id, position, sequence) rows; gives the likeliest next token of each wanted one."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (id, at, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = id, at, 1, wanted[i]
            batch.seq_id[i][0] = sequence
        if llama.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        return [self._likeliest(i) for i, want in enumerate(wanted) if want]

    def _likeliest(self, i: int) -> int:
        logits = llama.llama_get_logits_ith(self.context, i)
        return int(np.ctypeslib.as_array(logits, (self.vocabulary,)).argmax())


@llama.llama_log_callback
def warnings_only(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    if level >= 3:
        print(text.decode(errors="replace"), file=sys.stderr, end="")


if __name__ == "__main__":
    llama.llama_log_set(warnings_only, ctypes.c_void_p(0))
    serve(LlamaCpp)
