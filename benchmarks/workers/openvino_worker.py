"""OpenVINO: the model traced once from PyTorch, made stateful, its weights compressed by NNCF; default run settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from protocol import Clock, serve


class OpenVINO:
    def load(self, path: str, threads: int, weights: str = "int8", **options: Any) -> dict[str, Any]:
        made = Path(f"{path}-openvino-{weights}") / "model.xml"
        if not made.exists():
            from openvino_model import convert

            convert(Path(path), made, weights)
        core = openvino.Core()
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = core.compile_model(str(made), "CPU", settings)
        self.request = compiled.create_infer_request()
        told = ("INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION", "DYNAMIC_QUANTIZATION_GROUP_SIZE")
        built = ", ".join(f"{name} {compiled.get_property(name)}" for name in told)
        return {"version": f"openvino {openvino.__version__.split('-')[0]}", "built": built}

    def complete(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        self.request.reset_state()
        ids, rows = np.array(prompts, np.int64), np.arange(len(prompts), dtype=np.int32)
        clock = Clock()
        tokens = [self._next(ids, 0, rows)]
        clock.first()
        for step in range(new - 1):
            tokens.append(self._next(tokens[-1], ids.shape[1] + step, rows))
        return clock.answer(np.concatenate(tokens, 1).tolist())

    def _next(self, ids: np.ndarray, start: int, rows: np.ndarray) -> np.ndarray:
        positions = np.broadcast_to(np.arange(start, start + ids.shape[1]), ids.shape)
        given = {"input_ids": ids, "position_ids": np.ascontiguousarray(positions), "beam_idx": rows}
        logits = self.request.infer(given, share_inputs=True, share_outputs=True)[0]
        return logits[:, -1].argmax(-1)[:, None]


if __name__ == "__main__":
    serve(OpenVINO)
