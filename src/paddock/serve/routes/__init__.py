"""What each address does, one file a dialect or task. Each has a `router`; `app.py` lists them."""
