"""Every family that is trained here opens in transformers with the loss it was trained to: float32, relative 1e-6."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from safetensors.torch import load_file

from paddock.checkpoint import folder
from paddock.checkpoint.weights import published, sketch
from paddock.data.batch import IGNORED, Batch
from paddock.data.preparing.blanks import Blanks
from paddock.data.preparing.causal import Causal
from paddock.data.preparing.masked import Masked
from paddock.data.preparing.paired import Paired
from paddock.data.preparing.spans import Spans
from paddock.data.samples import Prepare
from paddock.data.stream import BatchStream
from paddock.model.families import describe, family
from paddock.model.initialise import blank, initialise
from paddock.model.transformer import Transformer
from paddock.training.loop import Trainer
from paddock.training.losses import Loss, WeightedLoss, token_loss
from paddock.training.parallel import Alone
from paddock.training.recipe import Training

sys.path.append(str(Path(__file__).parent.parent / "model"))
import oracles

WORDS, LENGTH, ROWS = 97, 24, 6
FIRST, LAST, MASK, PAD, END = 1, 2, 3, 0, 4
SENTINELS = tuple(range(WORDS - 1, WORDS - 9, -1))


class Texts:
    """Texts of random ids; each sample is some of them."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        return 50

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        random = np.random.Generator(np.random.PCG64(number))
        return tuple(random.integers(5, WORDS - 10, random.integers(size // 2, size + 1)) for size in self.sizes)


class Whole(Texts):
    """Texts that are all as long as they may be."""

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        random = np.random.Generator(np.random.PCG64(number))
        return tuple(random.integers(5, WORDS - 10, size) for size in self.sizes)


Theirs = Callable[[Any, Batch], torch.Tensor]  # transformers' own loss of a batch


@dataclass(frozen=True)
class Case:
    name: str
    model: Any
    config: dict[str, Any]
    prepare: Prepare = field(default_factory=lambda: Causal(LENGTH))
    table: Texts = field(default_factory=lambda: Whole(LENGTH + 1))
    theirs: Theirs = lambda model, batch: _next_token(model, batch)
    loss: Loss = token_loss
    gradients: float = 0.0  # how far they may be apart in float64; 0: they are not compared
    often: bool = True  # False: one more shape of a family, for the slow tests


def _next_token(model: Any, batch: Batch) -> torch.Tensor:
    """All of a row's tokens as its labels: transformers shifts them itself."""
    whole = torch.cat((batch.ids, batch.targets[:, -1:]), 1)
    return model(input_ids=whole, labels=whole).loss


def _masks(model: Any, batch: Batch) -> torch.Tensor:
    assert batch.follows is not None and batch.padding is not None
    return model(
        input_ids=batch.ids,
        attention_mask=batch.padding.long(),
        token_type_ids=batch.segments,
        labels=batch.targets,
        next_sentence_label=1 - batch.follows.long(),
    ).loss


def _pairs(model: Any, batch: Batch) -> torch.Tensor:
    mask = None if batch.source_padding is None else batch.source_padding.long()
    return model(input_ids=batch.source, attention_mask=mask, labels=batch.targets).loss


LLAMA = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
PLAIN = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
GPT2 = {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
FALCON = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ORDINARY = (np.arange(WORDS) >= 5) & (np.arange(WORDS) < WORDS - 10)
NO_WORDS = np.zeros(WORDS, bool)
T5 = {
    "vocab_size": WORDS,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": PAD,
    "pad_token_id": PAD,
    "eos_token_id": END,
}
MARIAN = {
    "vocab_size": WORDS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 64,
    "scale_embedding": True,
    "activation_function": "relu",
    "pad_token_id": PAD,
    "eos_token_id": END,
    "decoder_start_token_id": MASK,  # of the padding token transformers computes no gradient
}

CASES = [
    Case("llama", hf.LlamaForCausalLM, {"model_type": "llama", **LLAMA}),
    Case("llama tied", hf.LlamaForCausalLM, {"model_type": "llama", **LLAMA, "tie_word_embeddings": True}, often=False),
    Case("mistral", hf.MistralForCausalLM, {"model_type": "mistral", **LLAMA, "sliding_window": 7}),
    Case(
        "mixtral",
        hf.MixtralForCausalLM,
        {"model_type": "mixtral", **LLAMA, "num_local_experts": 4, "sliding_window": None},
        loss=WeightedLoss(balance=0.02, router_z=0.01),
    ),
    Case("qwen2", hf.Qwen2ForCausalLM, {"model_type": "qwen2", **LLAMA}),
    Case("gpt2", hf.GPT2LMHeadModel, {"model_type": "gpt2", **GPT2}, gradients=1e-8),
    Case("codegen", hf.CodeGenForCausalLM, {"model_type": "codegen", **GPT2, "rotary_dim": 4}, often=False),
    Case("pythia", hf.GPTNeoXForCausalLM, {"model_type": "gpt_neox", **PLAIN}, gradients=1e-8),
    Case("bloom", hf.BloomForCausalLM, {"model_type": "bloom", **FALCON}),
    Case("falcon 7B", hf.FalconForCausalLM, {"model_type": "falcon", **FALCON, "multi_query": True}),
    Case(
        "falcon 40B",
        hf.FalconForCausalLM,
        {"model_type": "falcon", **FALCON, "num_kv_heads": 2, "new_decoder_architecture": True},
        often=False,
    ),
    Case(
        "mpt",
        hf.MptForCausalLM,
        {"model_type": "mpt", "vocab_size": WORDS, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
    ),
    Case(
        "bert",
        hf.BertForPreTraining,
        {"model_type": "bert", "architectures": ["BertForPreTraining"], **PLAIN},
        Masked(LENGTH, MASK, FIRST, LAST, PAD, ORDINARY, NO_WORDS, next_sentence=True),
        Whole(LENGTH - 5, LENGTH - 5),  # as many masks in each row: see `WeightedLoss`
        _masks,
        WeightedLoss(next_sentence=1.0),
        gradients=1e-8,
    ),
    Case(
        "t5",
        hf.T5ForConditionalGeneration,
        {"model_type": "t5", **T5},
        Spans(LENGTH, SENTINELS, PAD, END, PAD),
        Texts(LENGTH - 4),
        _pairs,
    ),
    Case(
        "t5 gated, untied",
        hf.T5ForConditionalGeneration,
        {"model_type": "t5", **T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        Spans(LENGTH, SENTINELS, PAD, END, PAD),
        Texts(LENGTH - 4),
        _pairs,
        often=False,
    ),
    Case(
        "marian",
        hf.MarianMTModel,
        {"model_type": "marian", **MARIAN},
        Paired(LENGTH, MASK, END, PAD),
        Texts(LENGTH - 1, LENGTH - 1),
        _pairs,
        gradients=1e-7,  # sines of positions are float32 in both
    ),
]


def trained(case: Case, steps: int = 3) -> tuple[Transformer, Batch]:
    """A model of a few steps, and a batch it has not read."""
    model = initialise(blank(sketch(describe(case.config))), 1, case.config)
    stream = BatchStream(case.table, case.prepare, ROWS, seed=2)
    recipe = Training.model_validate({"steps": steps, "batch": ROWS, "micro_batch": 4, "precision": "float32"})
    trainer = Trainer(model, stream, case.loss, recipe, Alone(torch.device("cpu")))
    losses: list[float] = []
    trainer.run(lambda report: losses.append(report.loss))
    assert len(losses) == steps
    return trainer.model, stream.at(steps)


def our_loss(case: Case, model: Transformer, batch: Batch) -> torch.Tensor:
    """Without what balances experts, which no model of transformers adds unless asked."""
    loss = case.loss if batch.follows is not None else token_loss
    sums = loss(model, batch, batch.step(model.architecture))
    return sums.total / sums.count


def opened(case: Case, model: Transformer, path: Path, dtype: torch.dtype) -> Any:
    folder.write(path, model, case.config)
    found, told = case.model.from_pretrained(path, dtype=dtype, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"], told
    return found.eval()


@pytest.fixture(autouse=True)
def _no_bars() -> Iterator[None]:
    hf.utils.logging.disable_progress_bar()
    yield
    hf.utils.logging.enable_progress_bar()


def rows(cases: list[Case]) -> list[Any]:
    return [pytest.param(case, id=case.name, marks=() if case.often else pytest.mark.slow) for case in cases]


@pytest.mark.parametrize("case", rows(CASES))
def test_equal_loss_in_transformers(case: Case, tmp_path: Path) -> None:
    model, batch = trained(case)
    with torch.no_grad():
        ours = float(our_loss(case, model, batch))
        theirs = float(case.theirs(opened(case, model, tmp_path, torch.float32), batch))
    assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("case", rows([case for case in CASES if case.gradients]))
def test_equal_gradients_in_transformers(case: Case, tmp_path: Path) -> None:
    """In float64, where rounding cannot hide a difference: every published tensor's gradient."""
    model, batch = trained(case, steps=1)
    other = opened(case, model, tmp_path, torch.float64)
    model = model.double().train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    our_loss(case, model, batch).backward()
    in_float64(case, other, batch).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.grad)  # published() then names, joins and turns gradients as it does weights
    theirs = {"embed_out.weight": other.get_output_embeddings().weight, **dict(other.named_parameters())}
    fixed = dict(other.named_buffers())  # Marian's bias of the logits is trained here, and no parameter there
    for tensor in published(model, family(case.config).RULES):
        if tensor.name not in fixed:
            expected = theirs[tensor.name].grad
            small = expected.norm().clamp(min=1e-6)  # gradients of keys' biases are 0
            apart = (tensor.tensor() - expected.view(tensor.shape)).norm() / small
            assert apart < case.gradients, f"{tensor.name}: {apart:.2e}"


def in_float64(case: Case, model: Any, batch: Batch) -> torch.Tensor:
    """The mean loss from transformers' logits: its own loss functions round those to float32."""
    asked = batch.targets != IGNORED
    if batch.source is not None:
        mask = None if batch.source_padding is None else batch.source_padding.long()
        found = model(input_ids=batch.source, attention_mask=mask, decoder_input_ids=batch.ids)
    elif batch.follows is not None:
        assert batch.padding is not None
        found = model(batch.ids, attention_mask=batch.padding.long(), token_type_ids=batch.segments)
        told = F.cross_entropy(found.seq_relationship_logits, 1 - batch.follows.long())
        return told + F.cross_entropy(found.prediction_logits[asked], batch.targets[asked])
    else:
        found = model(batch.ids)
    return F.cross_entropy(found.logits[asked], batch.targets[asked])


def stored(case: Case, model: Transformer, path: Path) -> dict[str, torch.Tensor]:
    folder.write(path, model, case.config)
    return {name: tensor.double() for name, tensor in load_file(path / "model.safetensors").items()}


GLM = {
    "model_type": "chatglm",
    "vocab_size": WORDS,
    "hidden_size": 32,
    "inner_hidden_size": 64,
    "num_layers": 2,
    "num_attention_heads": 4,
    "layernorm_epsilon": 1e-5,
    "position_encoding_2d": True,
    "tie_word_embeddings": False,
    "gmask_token_id": FIRST,
    "mask_token_id": MASK,
    "bos_token_id": LAST,
}


def test_equal_loss_of_chatglm_as_published(tmp_path: Path) -> None:
    """Rows of one long blank, which the published code could read: it knows of one blank in a text."""
    blanks = Blanks(LENGTH, MASK, FIRST, LAST, END, PAD, long=1.0)
    case = Case("chatglm", None, GLM, blanks, Texts(blanks.takes), loss=WeightedLoss(token_gradient=0.1))
    model, batch = trained(case)
    weights, read = stored(case, model, tmp_path), oracles.chatglm
    theirs = torch.tensor(0.0, dtype=torch.float64)
    for ids, targets in zip(batch.ids, batch.targets, strict=True):
        theirs += F.cross_entropy(read(GLM, weights, ids), targets, reduction="sum", ignore_index=IGNORED)
    with torch.no_grad():
        assert float(our_loss(case, model, batch)) == pytest.approx(float(theirs) / batch.supervised, rel=1e-6)


OPENNMT = {
    "model_type": "transformer",
    "vocab_size": WORDS,
    "source_vocab_size": WORDS,
    "d_model": 32,
    "d_ff": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_heads": 4,
    "layer_norm_epsilon": 1e-5,
    "positions_interleaved": False,
    "positions_inclusive": True,
    "positions_start": 0,
}


@pytest.mark.parametrize("first", [True, False], ids=["pre-norm", "post-norm"])
def test_equal_loss_of_the_first_transformer(first: bool, tmp_path: Path) -> None:
    config = {**OPENNMT, "norm_first": first}
    pairs, texts = Paired(LENGTH, FIRST, END, PAD), Texts(LENGTH - 1, LENGTH - 1)
    case = Case("transformer", None, config, pairs, texts, loss=WeightedLoss(smoothing=0.1))
    model, batch = trained(case)
    weights, read = stored(case, model, tmp_path), oracles.transformer
    assert batch.source is not None and batch.source_padding is not None
    theirs = torch.tensor(0.0, dtype=torch.float64)
    for row in range(ROWS):
        asked = batch.targets[row] != IGNORED
        logits = read(config, weights, batch.source[row][batch.source_padding[row]], batch.ids[row][asked])
        theirs += F.cross_entropy(logits, batch.targets[row][asked], reduction="sum")
    with torch.no_grad():
        assert float(our_loss(case, model, batch)) == pytest.approx(float(theirs) / batch.supervised, rel=1e-6)
