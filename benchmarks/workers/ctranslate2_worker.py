"""CTranslate2: weights in int8, converted once from the Hugging Face folder and kept beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ctranslate2
from protocol import Clock, serve


class CTranslate2:
    def load(self, path: str, threads: int, weights: str = "int8", **options: Any) -> dict[str, Any]:
        made = Path(f"{path}-ctranslate2-{weights}")
        if not made.exists():
            ctranslate2.converters.TransformersConverter(path).convert(str(made), quantization=weights)
        self.generator = ctranslate2.Generator(
            str(made), device="cpu", compute_type=weights, inter_threads=1, intra_threads=threads
        )
        self.pieces = json.loads((made / "vocabulary.json").read_text())
        return {"version": f"ctranslate2 {ctranslate2.__version__}", "built": self.generator.compute_type}

    def complete(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        texts = [[self.pieces[id] for id in ids] for ids in prompts]
        seen: set[int] = set()
        clock = Clock()

        def told(result: Any) -> bool:
            seen.add(result.batch_id)
            if len(seen) == len(prompts) and clock.split is None:
                clock.first()
            return False

        results = self.generator.generate_batch(
            texts,
            max_batch_size=len(prompts),
            beam_size=1,
            sampling_topk=1,
            min_length=new,
            max_length=new,
            include_prompt_in_result=False,
            callback=told,
        )
        return clock.answer([list(result.sequences_ids[0]) for result in results])


if __name__ == "__main__":
    serve(CTranslate2)
