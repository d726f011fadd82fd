"""The agent: at rest, discovery, deployment."""
