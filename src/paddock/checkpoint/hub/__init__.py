"""Models from the Hugging Face hub: its cache on this disk, which anybody may read, and `paddock pull`, which goes out.

`settings` and `cache` import no network library; everything that reaches a network lies behind `exchange`.
"""
