"""The agent: discovery."""
