"""How byte-level BPE vocabularies cut text into words before merging, by the name a GGUF file gives the way.

Each way is a list of patterns applied one after another, each to what the one before it left: matches and the stretches
between them become words. The patterns are those of the published tokenizer.json of the model each name stands for;
the names are llama.cpp's (`tokenizer.ggml.pre`).
"""

from __future__ import annotations

from dataclasses import dataclass

# Cased letters as of the Unicode version that DeepSeek LLM was made with; a later Unicode has more.
_DEEPSEEK_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-Ֆ"
    "Ⴀ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄ"
    "ῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲ"
    "ⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)

_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BREAKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|"
)


def _gpt4_words(digits: str) -> str:
    """The words of GPT-4's vocabulary and of the many made after it, which differ in how many digits make a word."""
    return rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BREAKS}"


@dataclass(frozen=True)
class PreTokenizer:
    """`patterns` in order; `nfc`: the text is composed first; `whole_words`: a word that is a piece is not merged."""

    patterns: tuple[str, ...]
    nfc: bool = False
    whole_words: bool = False


GPT2 = PreTokenizer((_GPT2_WORDS,))
NEOX = PreTokenizer((_GPT2_WORDS,), nfc=True)
DIGITS = PreTokenizer((r"\p{N}", _GPT2_WORDS))
FALCON = PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2_WORDS, r"[0-9][0-9][0-9]"))
LLAMA3 = PreTokenizer((_gpt4_words(r"\p{N}{1,3}"),), whole_words=True)
GPT4 = PreTokenizer((_gpt4_words(r"\p{N}{1,3}"),))
QWEN2 = PreTokenizer((_gpt4_words(r"\p{N}"),), nfc=True)
GPT4O = PreTokenizer(
    (_CASED % (_ENDINGS + "?", _ENDINGS + "?") + rf"\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BREAKS}",)
)
TEKKEN = PreTokenizer((_CASED % ("", "") + rf"\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BREAKS}",), whole_words=True)
BLOOM = PreTokenizer((r" ?[^(\s|.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C)]+",))
VIKING = PreTokenizer((*BLOOM.patterns, r"\p{N}"))
DEEPSEEK_LLM = PreTokenizer(
    (
        r"[\r\n]",
        rf"\s?[{_DEEPSEEK_LETTERS}]+",
        r"\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+",
        r"\s+$",
        r"[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+",
        r"\p{N}+",
    )
)
DEEPSEEK_CODER = PreTokenizer(
    (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+", r"\p{N}")
)
DEEPSEEK_V3 = PreTokenizer(
    (
        r"\p{N}{1,3}",
        r"[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
        rf" ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BREAKS}",
    )
)
DEFAULT = PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2_WORDS, r"\p{N}+", r"[0-9][0-9][0-9]"))

_NAMES = {
    GPT2: "gpt-2 phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code roberta-bpe gigachat a.x-4.0 "
    "mellum modern-bert exaone4 jais trillion granite-docling",
    NEOX: "mpt olmo",
    DIGITS: "starcoder refact command-r smollm codeshell exaone minerva-7b",
    FALCON: "falcon",
    LLAMA3: "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2",
    GPT4: "dbrx smaug-bpe chatglm-bpe glm4",
    QWEN2: "qwen2 deepseek-r1-qwen megrez",
    PreTokenizer(QWEN2.patterns): "stablelm2 hunyuan",
    GPT4O: "gpt-4o llama4",
    TEKKEN: "tekken",
    BLOOM: "bloom poro-chat gpt3-finnish",
    VIKING: "viking",
    DEEPSEEK_LLM: "deepseek-llm",
    DEEPSEEK_CODER: "deepseek-coder",
    DEEPSEEK_V3: "deepseek-v3",
    DEFAULT: "default",
}
BY_NAME = {name: way for way, names in _NAMES.items() for name in names.split()}

# GGUF files from before `tokenizer.ggml.pre` name none; these architectures had one vocabulary each.
BY_ARCHITECTURE = {
    "gpt2": GPT2,
    "gptneox": NEOX,
    "mpt": NEOX,
    "falcon": FALCON,
    "starcoder": DIGITS,
    "bloom": BLOOM,
    "qwen2": QWEN2,
}
