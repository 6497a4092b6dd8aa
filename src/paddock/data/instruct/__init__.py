"""Examples of what a model is to learn from: conversations, preferences, pairs. Start with `records.py`."""
