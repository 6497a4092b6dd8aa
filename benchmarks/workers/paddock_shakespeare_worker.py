"""Paddock's own loop on the task of nanoGPT's CPU setting, by a recipe of its own."""

from __future__ import annotations

import time
from typing import Any

import torch
from protocol import serve
from shakespeare import BLOCK, Text

import paddock
from paddock import kernels
from paddock.checkpoint.weights import sketch
from paddock.data.batch import Batch
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.training.loop import Trainer
from paddock.training.losses import token_loss
from paddock.training.parallel import Alone
from paddock.training.recipe import Training

# nanoGPT's width, depth and block, as a LLaMA: rotary positions and gated units learn faster, Muon and a higher rate
# more so; that is what a recipe may choose. Text, split, block and how the loss is measured are the same.
CONFIG = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": BLOCK,
    "tie_word_embeddings": True,
}
BATCH, STEPS = 12, 700
RECIPE = {
    "batch": BATCH,
    "optimizer": {"name": "muon", "learning_rate": 1e-2, "weight_decay": 0.1},
    "schedule": {"shape": "linear", "warmup": 20, "floor": 0.02},
}


class Drawn:
    """Rows from random places of the text, as nanoGPT draws them."""

    def __init__(self, text: Text) -> None:
        self.text = text

    def at(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        torch.manual_seed(step)
        return Batch(*self.text.draw(BATCH))


class Shakespeare:
    def load(self, path: str, threads: int, **options: Any) -> dict[str, Any]:
        torch.set_num_threads(threads)
        self.text = Text(path)
        self.model = initialise(blank(sketch(describe({**CONFIG, "vocab_size": self.text.vocabulary}))), 0)
        return {"version": f"paddock {paddock.__version__}, {kernels.chosen()}"}

    def reach(self, steps: int = STEPS, **changed: Any) -> dict[str, Any]:
        """Trains by the recipe. Gives seconds of training and the loss of the whole validation split."""
        recipe = Training.model_validate({**RECIPE, **changed, "steps": steps})
        trainer = Trainer(self.model, Drawn(self.text), token_loss, recipe, Alone(torch.device("cpu")))
        begun, spent = time.perf_counter(), time.process_time()
        trainer.run()
        took = {"took": time.perf_counter() - begun, "used": time.process_time() - spent, "steps": steps}
        total = 0.0
        with torch.no_grad():
            for ids, targets in self.text.held_out():
                total += float(trainer.sums(Batch(ids, targets), train=False).total)
        return {**took, "loss": total / (self.text.rows_held_out * BLOCK)}


if __name__ == "__main__":
    serve(Shakespeare)  # type: ignore[arg-type]
