"""A vocabulary of the characters of some texts, for models that are to be small and easy to look into."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, decoders, models
from tokenizers import Tokenizer as Library

from paddock.checkpoint.writing import write_text
from paddock.errors import DataError

END = "<|endoftext|>"
MOST = 50_000  # characters; all of Unicode's assigned Chinese ones would not fit a small model


def write_characters(texts: Iterable[str], folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json into `folder`: END, then 256 bytes, then the characters by code.

    A character that the texts did not have is spelt by its bytes, so that no text is beyond the model. The decoder is
    that of SentencePiece models with byte fallback, which transformers reads too.
    """
    found: set[str] = set()
    for text in texts:
        found.update(text)
        if len(found) > MOST:
            raise DataError(f"the texts have more than {MOST} different characters", fix="train a vocabulary: bpe")
    pieces = [END, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(found)]
    library = Library(models.BPE({piece: id for id, piece in enumerate(pieces)}, [], byte_fallback=True))
    library.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    library.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    write_text(folder / "tokenizer.json", library.to_str(pretty=True))
    config = '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}\n'
    write_text(folder / "tokenizer_config.json", config)
