"""A model on one's own machine behind the interfaces that clients already speak. Start at `app.py`."""
