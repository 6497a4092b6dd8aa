"""The one training loop, and what it is made of. Every stage that trains passes it a model, batches and a loss."""
