"""nanoGPT's model and its loop's settings for a CPU, from a checkout: characters of Tiny Shakespeare.

Block 64, batch 12, 4 layers, 4 heads, width 128, no dropout, 2000 steps; learning rate 1e-3 with 100 steps of warm-up,
down to 1e-4 by cosine; AdamW with betas 0.9 and 0.99 and decay 0.1, gradients clipped at 1; float32, not compiled. All
as its `config/train_shakespeare_char.py` and readme have it.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import torch
from protocol import serve
from shakespeare import BLOCK, Text

BATCH, STEPS, WARM, RATE, FLOOR = 12, 2000, 100, 1e-3, 1e-4


class NanoGPT:
    def load(self, path: str, threads: int, checkout: str, **options: Any) -> dict[str, Any]:
        torch.set_num_threads(threads)
        torch.manual_seed(1337)
        sys.path.insert(0, checkout)
        from model import GPT, GPTConfig

        self.text = Text(path)
        known = {"block_size": BLOCK, "n_layer": 4, "n_head": 4, "n_embd": 128, "dropout": 0.0, "bias": False}
        self.model = GPT(GPTConfig(vocab_size=self.text.vocabulary, **known))
        self.optimizer = self.model.configure_optimizers(0.1, RATE, (0.9, 0.99), "cpu")
        return {"version": f"nanoGPT, torch {torch.__version__}"}

    def reach(self, steps: int = STEPS, **options: Any) -> dict[str, Any]:
        """Trains to the end of its setting. Gives seconds of training and the loss of the whole validation split."""
        begun, spent = time.perf_counter(), time.process_time()
        for step in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(step)
            _, loss = self.model(*self.text.draw(BATCH))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        took = {"took": time.perf_counter() - begun, "used": time.process_time() - spent, "steps": steps}
        self.model.eval()
        with torch.no_grad():
            losses = [float(self.model(ids, targets)[1]) * len(ids) for ids, targets in self.text.held_out()]
        return {**took, "loss": sum(losses) / self.text.rows_held_out}

    def rate(self, step: int) -> float:
        if step < WARM:
            return RATE * step / WARM
        return FLOOR + (RATE - FLOOR) * (1 + math.cos(math.pi * (step - WARM) / (STEPS - WARM))) / 2


if __name__ == "__main__":
    serve(NanoGPT)  # type: ignore[arg-type]
