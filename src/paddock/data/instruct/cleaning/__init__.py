"""Cleaning examples: stages of their own, and those stages of documents that judge or change one text at a time.

recipe    what can be asked
markdown  the HTML that a chat was copied as, back into Markdown
stages    what is done to an example
run       all stages over all examples, and the books
"""
