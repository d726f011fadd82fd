"""The gateway: what connected agents cost it."""
