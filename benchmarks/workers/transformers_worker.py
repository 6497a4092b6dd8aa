"""transformers as its users run it: bfloat16, SDPA attention, its own cache; greedy by hand, so that nothing ends."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from protocol import Clock, serve


class Transformers:
    def load(self, path: str, threads: int, **options: Any) -> dict[str, Any]:
        torch.set_num_threads(threads)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()
        return {"version": f"transformers {transformers.__version__}, torch {torch.__version__}"}

    @torch.inference_mode()
    def complete(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        clock = Clock()
        result = self.model(input_ids=torch.tensor(prompts), use_cache=True, logits_to_keep=1)
        tokens = [result.logits[:, -1].argmax(-1)]
        clock.first()
        for _ in range(new - 1):
            result = self.model(
                input_ids=tokens[-1][:, None],
                past_key_values=result.past_key_values,
                use_cache=True,
                logits_to_keep=1,
            )
            tokens.append(result.logits[:, -1].argmax(-1))
        return clock.answer(torch.stack(tokens, 1).tolist())


if __name__ == "__main__":
    serve(Transformers)
