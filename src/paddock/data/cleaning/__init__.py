"""Cleaning documents before training: duplicates, quality, language, licences, private data; nothing goes unreasoned.

`recipe.py` says what can be asked for, `run.py` does it in streaming passes, `stage.py` is what a stage is.
"""
