"""Identities: issuing, heartbeats, audit, revocation."""
