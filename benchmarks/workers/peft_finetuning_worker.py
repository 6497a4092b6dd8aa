"""peft's LoRA on transformers' LLaMA in a plain loop: base in bfloat16, adapters in float32 (peft's own choice).

Under autocast, as `TrainingArguments(bf16=True)` runs it, or without.
"""

from __future__ import annotations

from typing import Any

import peft
import torch
import transformers
from finetuning_loop import ALPHA, RANK, ROLES, first_low
from protocol import serve
from training_loop import Plain, Worker

NAMES = dict(zip(ROLES, ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), strict=True))


def make(path: str, precision: str, autocast: bool = True, recompute: bool = False, **rest: Any) -> tuple[Plain, str]:
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    base = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, config)
    if recompute:
        base.gradient_checkpointing_enable({"use_reentrant": False})
        base.enable_input_require_grads()
    with torch.no_grad():
        for number, layer in enumerate(base.model.layers):
            for role, name in NAMES.items():
                part = layer.mlp if role in ("gate", "up", "down") else layer.self_attn
                low = getattr(part, name).lora_A["default"].weight
                low.copy_(first_low(number, role, low.shape[1]))

    def loss(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return model(input_ids=ids, labels=targets, shift_labels=targets, use_cache=False).loss

    version = f"peft {peft.__version__}, transformers {transformers.__version__}"
    return Plain(model, loss, precision if autocast else "float32"), version


if __name__ == "__main__":
    serve(lambda: Worker(make))  # type: ignore[arg-type, return-value]
