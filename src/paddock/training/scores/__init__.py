"""How good answers are: scores of classes and of texts."""
