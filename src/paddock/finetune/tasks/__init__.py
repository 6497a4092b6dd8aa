"""Tasks of fine-tuning, by name: what examples are asked for, and what is measured.

Each is a `Section` with `shape(base, examples, seed) -> Base`, which gives a model what the task needs of it (a head
over classes, drawn from the seed), and `ask(material) -> Asked`.
"""

from typing import Annotated

from pydantic import Field

from paddock.finetune.tasks.asked import Asked, Material
from paddock.finetune.tasks.chat import ChatTask
from paddock.finetune.tasks.classify import Classify, Regress
from paddock.finetune.tasks.embed import Embed
from paddock.finetune.tasks.extract import Extract
from paddock.finetune.tasks.pairs import PairsTask, SummariseTask, TranslateTask
from paddock.finetune.tasks.text import TextTask

Task = Annotated[
    ChatTask | TextTask | PairsTask | TranslateTask | SummariseTask | Classify | Regress | Embed | Extract,
    Field(discriminator="name"),
]

__all__ = ["Asked", "ChatTask", "Material", "Task", "TextTask"]
