"""What each objective makes of samples: which tokens are hidden, and what is asked for."""
