"""A row's model at rest, its oracle, and what the oracle makes of the row's texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from family_harness import GREEDY, computed, rebuilt, texts
from family_rows import OracleRow, Row
from safetensors.torch import save_file
from torch import Tensor

from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.weights import build
from paddock.model.families import family
from paddock.model.spec import Prefix
from paddock.model.transformer import Transformer


class Subject:
    """What the tests of one row share. `saved_within`: how far a saved copy may be from the model."""

    saved_within = 1e-5

    def __init__(self, row: Row | OracleRow, folder: Path) -> None:
        self.row: Any = row
        self.folder, self.name = folder, row.name
        self.figures: dict[str, str] = {}
        torch.manual_seed(sum(map(ord, row.name)))
        self.make()
        self.checkpoint = open_checkpoint(folder)
        self.model = self.opened(folder)
        self.architecture = self.model.architecture
        self.inputs = texts(self.architecture, row.tokens)

    def make(self) -> None:
        """Writes the model's folder."""
        raise AssertionError

    def opened(self, folder: Path, dtype: str = "float32") -> Transformer:
        """Paddock's model of what lies in `folder`."""
        return open_checkpoint(folder).model(dtype)

    def expected(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """The oracle's outputs for the row's texts."""
        raise AssertionError

    def reopened(self, folder: Path) -> list[Tensor]:
        """The outputs of a copy that Paddock saved, opened by the oracle where it can."""
        raise AssertionError

    def greedy(self, prompt: Tensor) -> list[int]:
        """The oracle's GREEDY next tokens after one prompt (1, tokens)."""
        raise AssertionError

    @property
    def prompt(self) -> Tensor:
        """One short text to go on from."""
        if isinstance(self.architecture.mask, Prefix):
            return self.inputs.ids[:1, :9]
        return self.inputs.ids[:1, :7]

    @property
    def start(self) -> int | None:
        """An encoder-decoder's first token."""
        return self.checkpoint.config.get("decoder_start_token_id") if self.inputs.target is not None else None

    def changed(self) -> Transformer:
        """The same weights in a model that differs in one field."""
        if self.row.change is not None:
            return rebuilt(self.model, self.row.change(self.architecture))
        rules = self.row.relayout(family(self.checkpoint.config).RULES)
        return build(self.architecture, self.checkpoint.tensors, rules)


class TransformersSubject(Subject):
    """A row's model: made at random and saved by transformers, opened by Paddock."""

    def make(self) -> None:
        row, folder = self.row, self.folder
        reference = row.model(row.config(**row.keys))
        randomise(reference, row)
        reference.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        self.own_config = None if row.readable else reference.config
        (folder / "config.json").write_text(json.dumps(row.published(config)))

    def reference(self, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
        """transformers' model of what lies in `folder`, which must hold all of its weights and nothing else."""
        model, report = self.row.model.from_pretrained(
            folder,
            config=self.own_config,
            dtype=dtype,
            attn_implementation=self.row.attention,
            output_loading_info=True,
        )
        assert not any(report.values()), report
        return model.eval()

    @torch.inference_mode()
    def expected(self, dtype: torch.dtype = torch.float32, folder: Path | None = None) -> list[Tensor]:
        reference, inputs = self.reference(folder or self.folder, dtype), self.inputs
        if inputs.padding is None:
            return [reference(inputs.ids).logits]
        keys = {"input_ids": inputs.ids, "attention_mask": inputs.padding.long()}
        if inputs.target is not None:
            return [reference(**keys, decoder_input_ids=inputs.target).logits]
        found = reference(**keys, token_type_ids=inputs.segments)
        match found:
            case hf.models.bert.modeling_bert.BertForPreTrainingOutput():
                return [found.prediction_logits[inputs.padding], found.seq_relationship_logits]
            case hf.modeling_outputs.SequenceClassifierOutput():
                return [found.logits]
            case hf.modeling_outputs.MaskedLMOutput():
                return [found.logits[inputs.padding]]
        return [found.last_hidden_state[inputs.padding], found.pooler_output]

    @torch.inference_mode()
    def greedy(self, prompt: Tensor) -> list[int]:
        reference = self.reference(self.folder)
        start = getattr(reference.config, "decoder_start_token_id", None)
        reference.config.eos_token_id = None  # 64 tokens whatever they are
        reference.generation_config = hf.GenerationConfig(pad_token_id=0, decoder_start_token_id=start)
        ids = reference.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=GREEDY,
            do_sample=False,
            use_cache=not self.row.whole_only,
        )
        return ids[0, -GREEDY:].tolist()

    def reopened(self, folder: Path) -> list[Tensor]:
        return self.expected(folder=folder)


@torch.no_grad()
def randomise(model: torch.nn.Module, row: Row) -> None:
    """Weights under which every part matters: norms and biases far from one and zero.

    Routers are made sure of their choice, which bfloat16 could turn; T5's queries carry the 1/sqrt(head_dim) that its
    scores lack.
    """
    special = {"mlp.gate.weight": 10.0, "Attention.q.weight": 0.3}
    for name, parameter in model.named_parameters():
        if "embed_positions" in name:  # Marian's sines and cosines
            continue
        if parameter.dim() > 1:
            factor = next((f for ending, f in special.items() if name.endswith(ending)), 1.0)
            torch.nn.init.normal_(parameter, std=factor * row.spread)
        else:
            norm = "norm" in name or "ln_" in name
            torch.nn.init.normal_(parameter, mean=1.0 if norm else 0.0, std=0.3).mul_(row.vectors)
    for name, buffer in model.named_buffers():
        if name == "final_logits_bias":
            buffer.normal_(std=row.vectors)


class OracleSubject(Subject):
    """A row's model under its published names, and an independent float64 implementation of it."""

    saved_within = 0.0

    def make(self) -> None:
        self.weights = {name: self._random(name, shape) for name, shape in self.row.shapes(self.row.config).items()}
        if "lm_head.weight" in self.weights and self.row.config.get("tie_word_embeddings", True):
            self.weights["lm_head.weight"] = self.weights["transformer.word_embeddings.weight"].clone()
        save_file(self.weights, self.folder / "model.safetensors")
        (self.folder / "config.json").write_text(json.dumps(self.row.config))

    def _random(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if len(shape) > 1:
            return torch.randn(shape) * self.row.spread
        norm = "norm" in name or "ln_" in name
        return torch.randn(shape) * 0.3 + (1.0 if norm and name.endswith("weight") else 0.0)

    def _logits(self, ids: Tensor, target: Tensor | None, dtype: torch.dtype = torch.float32) -> Tensor:
        weights = {name: tensor.to(dtype).double() for name, tensor in self.weights.items()}
        texts = (ids,) if target is None else (ids, target)
        return self.row.oracle(self.row.config, weights, *texts)

    def expected(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        i = self.inputs
        found = []
        for row, ids in enumerate(i.ids):
            text = ids if i.padding is None else ids[i.padding[row]]
            found.append(self._logits(text, None if i.target is None else i.target[row], dtype))
        return [torch.stack(found)]

    @property
    def start(self) -> int | None:
        return self.row.start if self.inputs.target is not None else None

    def reopened(self, folder: Path) -> list[Tensor]:
        return computed(self.opened(folder), self.inputs)

    def greedy(self, prompt: Tensor) -> list[int]:
        written = prompt[0] if self.inputs.target is None else torch.tensor([self.start])
        for _ in range(GREEDY):
            if self.inputs.target is None:
                logits = self._logits(written, None)
            else:
                logits = self._logits(prompt[0], written)
            written = torch.cat((written, logits[-1].argmax().unsqueeze(0)))
        return written[-GREEDY:].tolist()


def subject_of(row: Row | OracleRow, folder: Path) -> Subject:
    return OracleSubject(row, folder) if isinstance(row, OracleRow) else TransformersSubject(row, folder)
