"""Request bodies, field by field, one file a dialect."""
