"""The agent: what it needs, and how long its work takes."""
