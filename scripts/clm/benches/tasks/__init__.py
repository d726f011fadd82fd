"""Tasks: how long until they start."""
