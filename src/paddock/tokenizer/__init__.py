"""Text to ids and back: the only room where text becomes ids. Start with `tokenizer.py`, then `load.py`."""

from paddock.tokenizer.gguf import from_gguf
from paddock.tokenizer.llama2c import write_llama2c
from paddock.tokenizer.load import load
from paddock.tokenizer.tokenizer import Row, StreamDecoder, Tokenizer

__all__ = ["Row", "StreamDecoder", "Tokenizer", "from_gguf", "load", "write_llama2c"]
