"""Prints what llama.cpp computes, as JSON. A program of its own, since llama.cpp ends the process when it is unhappy.

    python llama_cpp_run.py FILE logits|states '[ids]' ['[ids of the source, for an encoder-decoder]']

`logits` gives the logits after every token; `states` the last hidden states of an encoder.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys

import llama_cpp as llama

F32 = 0


def run(path: str, what: str, ids: list[int], source: list[int]) -> list[list[float]]:
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp does not load {path}")
    options = llama.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch, options.n_threads, options.n_threads_batch = 128, 128, 128, 1, 1
    options.type_k = options.type_v = F32
    options.flash_attn_type = 0
    if what == "states":
        options.embeddings, options.pooling_type = True, llama.LLAMA_POOLING_TYPE_NONE
    context = llama.llama_init_from_model(model, options)
    if source:
        assert llama.llama_encode(context, batch(source)) == 0
    step = llama.llama_encode if what == "states" else llama.llama_decode
    assert step(context, batch(ids)) == 0
    if what == "states":
        get, width = llama.llama_get_embeddings_ith, llama.llama_model_n_embd(model)
    else:
        get, width = llama.llama_get_logits_ith, llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    return [[get(context, at)[i] for i in range(width)] for at in range(len(ids))]


def batch(ids: list[int]) -> llama.llama_batch:
    filled = llama.llama_batch_init(len(ids), 0, 1)
    filled.n_tokens = len(ids)
    for at, token in enumerate(ids):
        filled.token[at], filled.pos[at], filled.n_seq_id[at], filled.logits[at] = token, at, 1, True
        filled.seq_id[at][0] = 0
    return filled


@llama.llama_log_callback
def silent(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    if level >= 3:
        print(text.decode(errors="replace"), file=sys.stderr, end="")


if __name__ == "__main__":
    llama.llama_log_set(silent, ctypes.c_void_p(0))
    with contextlib.redirect_stdout(sys.stderr):
        result = run(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads([*sys.argv, "[]"][4]))
    print(json.dumps(result), flush=True)
    os._exit(0)
