"""Vocabularies learnt from texts, and old ones extended. Start with `training.py`."""
