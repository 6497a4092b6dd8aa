"""Methods of fine-tuning, by name: what a recipe may say of each, and how it is put on a model by role.

Each is a `Section` with `attach(base, seed) -> Tuned`. At step 0 every one of them gives the base's own logits,
but for those that put virtual tokens before the text.
"""

from typing import Annotated

from pydantic import Field

from paddock.training.methods.bitfit import BitFit
from paddock.training.methods.full import Full
from paddock.training.methods.ia3 import IA3
from paddock.training.methods.llama_adapter import AdapterV1, AdapterV2
from paddock.training.methods.low_rank import LoRA, QLoRA
from paddock.training.methods.prefix import PrefixTuning, PromptTuning
from paddock.training.methods.tuned import Base, Tuned

Method = Annotated[
    Full | LoRA | QLoRA | AdapterV1 | AdapterV2 | IA3 | PrefixTuning | PromptTuning | BitFit,
    Field(discriminator="name"),
]

__all__ = ["Base", "Full", "LoRA", "Method", "QLoRA", "Tuned"]
