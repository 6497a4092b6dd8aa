"""From raw text to a model: the stage, its recipe, and the studies that a suite of checkpoints allows."""
