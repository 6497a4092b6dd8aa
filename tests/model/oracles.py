"""Independent forward passes in float64, for models that transformers does not have or does not compute as published.

Written from papers and published descriptions alone; nothing of paddock.model is used. Each takes a configuration, the
published tensors and the ids of one text, and returns its logits (tokens, vocabulary). Each `..._shapes` lists the
published tensors. Loops and plain formulas are preferred to speed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

Config = dict[str, Any]
Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


def dense(w: Weights, name: str, x: Tensor) -> Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def layer_norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    y = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps) * w[f"{name}.weight"]
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def rms_norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps) * w[f"{name}.weight"]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def gelu_tanh(x: Tensor) -> Tensor:
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """q (queries, heads, d) over k, v (keys, groups, d), head by head; seen (queries, keys) bool."""
    heads, each = q.shape[1], q.shape[1] // k.shape[1]
    found = []
    for head in range(heads):
        scores = q[:, head] @ k[:, head // each].T / math.sqrt(q.shape[-1])
        scores = scores + (bias[head] if isinstance(bias, Tensor) else bias)
        found.append(torch.softmax(scores.masked_fill(~seen, -math.inf), -1) @ v[:, head // each])
    return torch.cat(found, -1)


def triangle(tokens: int) -> Tensor:
    return torch.arange(tokens)[:, None] >= torch.arange(tokens)[None, :]


def angles(positions: Tensor, width: int, half: bool = False) -> Tensor:
    """(tokens, width / 2): position times 10000^(-2i / width). `half` rounds as a float16 table does."""
    frequency = 1.0 / 10000.0 ** (torch.arange(0, width, 2).double() / width)
    if half:
        return positions.half()[:, None] * frequency.float().half()[None, :]
    return positions.double()[:, None] * frequency[None, :]


def turn_halves(x: Tensor, angle: Tensor) -> Tensor:
    """Feature i turns with feature i + width / 2. x (tokens, heads, width)."""
    cos, sin = angle.cos().double()[:, None], angle.sin().double()[:, None]
    middle = x.shape[-1] // 2
    a, b = x[..., :middle], x[..., middle:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def turn_pairs(x: Tensor, angle: Tensor) -> Tensor:
    """Feature 2i turns with feature 2i + 1; features past the angles stay."""
    y = x.clone()
    for i in range(angle.shape[1]):
        cos, sin = angle[:, i].cos()[:, None], angle[:, i].sin()[:, None]
        a, b = x[..., 2 * i], x[..., 2 * i + 1]
        y[..., 2 * i], y[..., 2 * i + 1] = a * cos - b * sin, b * cos + a * sin
    return y


def chatglm(c: Config, w: Weights, ids: Tensor, half_tables: bool = False) -> Tensor:
    """ChatGLM-6B: positions in two parts, a context that sees all of itself, alpha times the normed residual."""
    text, tokens, heads = ids.tolist(), len(ids), c["num_attention_heads"]
    kind = c["gmask_token_id"] if c["gmask_token_id"] in text else c["mask_token_id"]
    mask, start = text.index(kind), text.index(c["bos_token_id"])
    first = torch.tensor([i if i < start else mask for i in range(tokens)])
    second = torch.tensor([0 if i < start else i - start + 1 for i in range(tokens)])
    seen = triangle(tokens)
    seen[:, :start] = True
    size = c["hidden_size"] // heads
    alpha = math.sqrt(2 * c["num_layers"])
    x = w["transformer.word_embeddings.weight"][ids]
    for i in range(c["num_layers"]):
        at = f"transformer.layers.{i}"
        a = layer_norm(w, f"{at}.input_layernorm", x, c["layernorm_epsilon"])
        q, k, v = dense(w, f"{at}.attention.query_key_value", a).view(tokens, heads, 3 * size).split(size, -1)
        q, k = (
            torch.cat(
                (
                    turn_halves(t[..., : size // 2], angles(first, size // 2, half_tables)),
                    turn_halves(t[..., size // 2 :], angles(second, size // 2, half_tables)),
                ),
                -1,
            )
            for t in (q, k)
        )
        h = alpha * a + dense(w, f"{at}.attention.dense", attend(q, k, v, seen))
        b = layer_norm(w, f"{at}.post_attention_layernorm", h, c["layernorm_epsilon"])
        wide = gelu_tanh(dense(w, f"{at}.mlp.dense_h_to_4h", b))
        x = alpha * b + dense(w, f"{at}.mlp.dense_4h_to_h", wide)
    x = layer_norm(w, "transformer.final_layernorm", x, c["layernorm_epsilon"])
    return x @ w["lm_head.weight"].T


def chatglm_shapes(c: Config) -> Shapes:
    d, ff, rows = c["hidden_size"], c["inner_hidden_size"], c["vocab_size"]
    shapes: Shapes = {"transformer.word_embeddings.weight": (rows, d), "lm_head.weight": (rows, d)}
    names = {"attention.query_key_value": (3 * d, d), "attention.dense": (d, d)}
    names |= {"mlp.dense_h_to_4h": (ff, d), "mlp.dense_4h_to_h": (d, ff)}
    for i in range(c["num_layers"]):
        shapes |= _with_bias({f"transformer.layers.{i}.{name}": shape for name, shape in names.items()})
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= _with_bias({f"transformer.layers.{i}.{norm}": (d,)})
    return shapes | _with_bias({"transformer.final_layernorm": (d,)})


def chatglm2(c: Config, w: Weights, ids: Tensor) -> Tensor:
    """ChatGLM2: causal, RMSNorm, gated, grouped heads, the first half of a head's features turned in pairs."""
    tokens, heads, groups, size = len(ids), c["num_attention_heads"], c["multi_query_group_num"], c["kv_channels"]
    angle, eps = angles(torch.arange(tokens), size // 2), c["layernorm_epsilon"]
    x = w["transformer.embedding.word_embeddings.weight"][ids]
    for i in range(c["num_layers"]):
        at = f"transformer.encoder.layers.{i}"
        n = rms_norm(w, f"{at}.input_layernorm", x, eps)
        fused = dense(w, f"{at}.self_attention.query_key_value", n)
        q, k, v = fused.split([heads * size, groups * size, groups * size], -1)
        q = turn_pairs(q.view(tokens, heads, size), angle)
        k, v = turn_pairs(k.view(tokens, groups, size), angle), v.view(tokens, groups, size)
        x = x + dense(w, f"{at}.self_attention.dense", attend(q, k, v, triangle(tokens)))
        n = rms_norm(w, f"{at}.post_attention_layernorm", x, eps)
        gate, up = dense(w, f"{at}.mlp.dense_h_to_4h", n).chunk(2, -1)
        x = x + dense(w, f"{at}.mlp.dense_4h_to_h", silu(gate) * up)
    return rms_norm(w, "transformer.encoder.final_layernorm", x, eps) @ w["transformer.output_layer.weight"].T


def chatglm2_shapes(c: Config) -> Shapes:
    d, ff, rows, size = c["hidden_size"], c["ffn_hidden_size"], c["padded_vocab_size"], c["kv_channels"]
    fused = (c["num_attention_heads"] + 2 * c["multi_query_group_num"]) * size
    shapes: Shapes = {
        "transformer.embedding.word_embeddings.weight": (rows, d),
        "transformer.output_layer.weight": (rows, d),
        "transformer.encoder.final_layernorm.weight": (d,),
    }
    for i in range(c["num_layers"]):
        at = f"transformer.encoder.layers.{i}"
        shapes |= {f"{at}.{norm}_layernorm.weight": (d,) for norm in ("input", "post_attention")}
        shapes |= _with_bias({f"{at}.self_attention.query_key_value": (fused, d)})
        shapes |= {f"{at}.self_attention.dense.weight": (d, c["num_attention_heads"] * size)}
        shapes |= {f"{at}.mlp.dense_h_to_4h.weight": (2 * ff, d), f"{at}.mlp.dense_4h_to_h.weight": (d, ff)}
    return shapes


def mpt_slopes(heads: int, bias_max: float) -> list[float]:
    """As MPT states it: the next higher power of two; every second slope first, then the others, cut to `heads`."""
    power = 2 ** math.ceil(math.log2(heads))
    every = [2 ** (-bias_max * i / power) for i in range(1, power + 1)]
    return every if power == heads else (every[1::2] + every[0::2])[:heads]


def mpt(c: Config, w: Weights, ids: Tensor) -> Tensor:
    """MPT as its own code computes it: clamp, largest ALiBi slope, learned positions, logit scale."""
    a, tokens, heads = c["attn_config"], len(ids), c["n_heads"]
    size = c["d_model"] // heads
    groups = {"multihead_attention": heads, "multiquery_attention": 1}.get(a["attn_type"], a.get("kv_n_heads"))
    x = w["transformer.wte.weight"][ids]
    bias: Tensor | float = 0.0
    if a["alibi"]:
        back = torch.arange(tokens).double()[None, :] - torch.arange(tokens).double()[:, None]
        bias = torch.stack([slope * back for slope in mpt_slopes(heads, a["alibi_bias_max"])])
    else:
        x = x + w["transformer.wpe.weight"][:tokens]
    for i in range(c["n_layers"]):
        at = f"transformer.blocks.{i}"
        fused = dense(w, f"{at}.attn.Wqkv", layer_norm(w, f"{at}.norm_1", x, 1e-5))
        if a["clip_qkv"]:
            fused = fused.clamp(-a["clip_qkv"], a["clip_qkv"])
        q, k, v = fused.split([heads * size, groups * size, groups * size], -1)
        q, k, v = q.view(tokens, heads, size), k.view(tokens, groups, size), v.view(tokens, groups, size)
        x = x + dense(w, f"{at}.attn.out_proj", attend(q, k, v, triangle(tokens), bias))
        wide = gelu(dense(w, f"{at}.ffn.up_proj", layer_norm(w, f"{at}.norm_2", x, 1e-5)))
        x = x + dense(w, f"{at}.ffn.down_proj", wide)
    scale = c["d_model"] ** -0.5 if c["logit_scale"] == "inv_sqrt_d_model" else c["logit_scale"] or 1.0
    return layer_norm(w, "transformer.norm_f", x, 1e-5) @ w["transformer.wte.weight"].T * scale


def mpt_shapes(c: Config) -> Shapes:
    d, a, heads = c["d_model"], c["attn_config"], c["n_heads"]
    groups = {"multihead_attention": heads, "multiquery_attention": 1}.get(a["attn_type"], a.get("kv_n_heads"))
    wide = int(c["expansion_ratio"] * d)
    shapes: Shapes = {"transformer.wte.weight": (c["vocab_size"], d), "transformer.norm_f.weight": (d,)}
    if not a["alibi"]:
        shapes["transformer.wpe.weight"] = (c["max_seq_len"], d)
    names = {"norm_1": (d,), "norm_2": (d,), "attn.Wqkv": (d + 2 * groups * d // heads, d), "attn.out_proj": (d, d)}
    names |= {"ffn.up_proj": (wide, d), "ffn.down_proj": (d, wide)}
    for i in range(c["n_layers"]):
        shapes |= {f"transformer.blocks.{i}.{name}.weight": shape for name, shape in names.items()}
    return shapes


def moss(c: Config, w: Weights, ids: Tensor) -> Tensor:
    """MOSS: one norm feeds both sublayers; fused rows in four parts of [q | v | k]; a head with a bias."""
    tokens, heads, d = len(ids), c["n_head"], c["n_embd"]
    size, angle = d // heads, angles(torch.arange(tokens), c["rotary_dim"])
    x = w["transformer.wte.weight"][ids]
    for i in range(c["n_layer"]):
        at = f"transformer.h.{i}"
        n = layer_norm(w, f"{at}.ln_1", x, c["layer_norm_epsilon"])
        parts = dense(w, f"{at}.attn.qkv_proj", n).chunk(4, -1)
        q, v, k = (torch.cat([part.chunk(3, -1)[j] for part in parts], -1) for j in range(3))
        q, k, v = (t.reshape(tokens, heads, size) for t in (q, k, v))
        y = attend(turn_pairs(q, angle), turn_pairs(k, angle), v, triangle(tokens))
        x = (
            x
            + dense(w, f"{at}.attn.out_proj", y)
            + dense(w, f"{at}.mlp.fc_out", gelu_tanh(dense(w, f"{at}.mlp.fc_in", n)))
        )
    return dense(w, "lm_head", layer_norm(w, "transformer.ln_f", x, c["layer_norm_epsilon"]))


def moss_shapes(c: Config) -> Shapes:
    d = c["n_embd"]
    shapes: Shapes = {"transformer.wte.weight": (c["vocab_size"], d)}
    for i in range(c["n_layer"]):
        at = f"transformer.h.{i}"
        shapes |= {f"{at}.attn.qkv_proj.weight": (3 * d, d), f"{at}.attn.out_proj.weight": (d, d)}
        shapes |= _with_bias({f"{at}.ln_1": (d,), f"{at}.mlp.fc_in": (4 * d, d), f"{at}.mlp.fc_out": (d, 4 * d)})
    return shapes | _with_bias({"transformer.ln_f": (d,), "lm_head": (c["vocab_size"], d)})


def waves(c: Config, tokens: int, width: int) -> Tensor:
    """Sinusoidal positions: sine and cosine in turn (the paper), or a half of the features each (its code)."""
    table = torch.zeros(tokens, width, dtype=torch.float64)
    half = width // 2
    for t in range(tokens):
        for i in range(half):
            angle = (t + c["positions_start"]) / 10000.0 ** (i / (half - 1 if c["positions_inclusive"] else half))
            at = (2 * i, 2 * i + 1) if c["positions_interleaved"] else (i, half + i)
            table[t, at[0]], table[t, at[1]] = math.sin(angle), math.cos(angle)
    return table


def transformer(c: Config, w: Weights, source: Tensor, target: Tensor) -> Tensor:
    """The original encoder-decoder Transformer, normalising after the sum (the paper) or before each sublayer."""
    w = {name.replace("/", "."): tensor for name, tensor in w.items()}
    d, heads, eps = c["d_model"], c["num_heads"], c["layer_norm_epsilon"]
    size = d // heads

    def embed(side: str, ids: Tensor) -> Tensor:
        return w[f"{side}.embeddings.weight"][ids] * math.sqrt(d) + waves(c, len(ids), d)

    def add(x: Tensor, norm: str, sublayer: Any) -> Tensor:
        if c["norm_first"]:
            return x + sublayer(layer_norm(w, norm, x, eps))
        return layer_norm(w, norm, x + sublayer(x), eps)

    def heads_of(x: Tensor) -> Tensor:
        return x.view(len(x), heads, size)

    def over_itself(at: str, seen: Tensor) -> Any:
        def sublayer(x: Tensor) -> Tensor:
            q, k, v = dense(w, f"{at}.linear_0", x).chunk(3, -1)
            return dense(w, f"{at}.linear_1", attend(heads_of(q), heads_of(k), heads_of(v), seen))

        return sublayer

    def over_memory(at: str, memory: Tensor) -> Any:
        def sublayer(x: Tensor) -> Tensor:
            k, v = dense(w, f"{at}.linear_1", memory).chunk(2, -1)
            seen = torch.ones(len(x), len(memory), dtype=torch.bool)
            return dense(
                w, f"{at}.linear_2", attend(heads_of(dense(w, f"{at}.linear_0", x)), heads_of(k), heads_of(v), seen)
            )

        return sublayer

    def wide(at: str) -> Any:
        return lambda x: dense(w, f"{at}.linear_1", dense(w, f"{at}.linear_0", x).clamp(min=0))

    memory = embed("encoder", source)
    for i in range(c["encoder_layers"]):
        at = f"encoder.layer_{i}"
        everything = torch.ones(len(source), len(source), dtype=torch.bool)
        memory = add(memory, f"{at}.self_attention.layer_norm", over_itself(f"{at}.self_attention", everything))
        memory = add(memory, f"{at}.ffn.layer_norm", wide(f"{at}.ffn"))
    x = embed("decoder", target)
    if c["norm_first"]:
        memory = layer_norm(w, "encoder.layer_norm", memory, eps)
    for i in range(c["decoder_layers"]):
        at = f"decoder.layer_{i}"
        x = add(x, f"{at}.self_attention.layer_norm", over_itself(f"{at}.self_attention", triangle(len(target))))
        x = add(x, f"{at}.attention.layer_norm", over_memory(f"{at}.attention", memory))
        x = add(x, f"{at}.ffn.layer_norm", wide(f"{at}.ffn"))
    if c["norm_first"]:
        x = layer_norm(w, "decoder.layer_norm", x, eps)
    return dense(w, "decoder.projection", x)


def transformer_shapes(c: Config) -> Shapes:
    d, ff = c["d_model"], c["d_ff"]
    shapes: Shapes = {
        "encoder/embeddings/weight": (c["source_vocab_size"], d),
        "decoder/embeddings/weight": (c["vocab_size"], d),
    }
    names: Shapes = {"decoder/projection": (c["vocab_size"], d)}
    if c["norm_first"]:
        names |= {"encoder/layer_norm": (d,), "decoder/layer_norm": (d,)}
    for side in ("encoder", "decoder"):
        for i in range(c[f"{side}_layers"]):
            at = f"{side}/layer_{i}"
            names |= {f"{at}/self_attention/layer_norm": (d,), f"{at}/ffn/layer_norm": (d,)}
            names |= {f"{at}/self_attention/linear_0": (3 * d, d), f"{at}/self_attention/linear_1": (d, d)}
            names |= {f"{at}/ffn/linear_0": (ff, d), f"{at}/ffn/linear_1": (d, ff)}
            if side == "decoder":
                names |= {f"{at}/attention/layer_norm": (d,), f"{at}/attention/linear_0": (d, d)}
                names |= {f"{at}/attention/linear_1": (2 * d, d), f"{at}/attention/linear_2": (d, d)}
    return shapes | _with_bias(names, "/")


def _with_bias(names: Shapes, dot: str = ".") -> Shapes:
    """A weight and a bias for each name: the bias is as long as the weight has rows."""
    return {f"{n}{dot}weight": s for n, s in names.items()} | {f"{n}{dot}bias": s[:1] for n, s in names.items()}
