"""Smaller weights, and what that costs: GGUF files and quantised Hugging Face folders, each with its quality card."""
