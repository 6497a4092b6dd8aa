"""Two kinds of examples in one run, each of which trains parameters of its own: LLaMA-Adapter V2's joint training
(arXiv 2304.15010), where captions move the early prompts and instructions all the rest."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from paddock.data.batch import Batch
from paddock.data.mixing import Joined
from paddock.data.order import Order
from paddock.finetune.tasks import Asked
from paddock.training.disjoint import Disjoint
from paddock.training.methods import Tuned


def joined(asked: Asked, joint: Asked, tuned: Tuned, seed: int, shuffle: bool) -> Asked:
    """`asked`, whose table also has the rows of `joint`: those train `tuned.joint`, and its own all else that learns.

    seed, shuffle: of the stream that reads the table, by which a row's place tells its kind.
    """
    assert tuned.learns is not None, "what learns is named"
    table, first = Joined([asked.train, joint.train]), len(asked.train)
    order = Order(len(table), seed, shuffle)

    def kinds(batch: Batch) -> Tensor:
        assert batch.samples is not None, "a stream's batches know their places"
        return torch.tensor([int(order[place] >= first) for place in batch.samples.tolist()])

    groups = {"data.files": tuned.learns - tuned.joint, "data.joint": tuned.joint}
    told = (
        f"{first:,} rows of data.files train {len(tuned.learns) - len(tuned.joint)} tensors, and {len(joint.train):,} "
        f"rows of data.joint {len(tuned.joint)} others (method.early)"
    )
    return replace(
        asked,
        train=table,
        loss=Disjoint(asked.loss, groups, kinds),
        told=[*asked.told, *joint.told, told],
        counts={**asked.counts, **{f"joint {name}": count for name, count in joint.counts.items()}},
    )
