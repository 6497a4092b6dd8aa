"""Fine-tuning: an open model and a file of examples in, your model or an adapter to it out. Start with `stage.py`."""
