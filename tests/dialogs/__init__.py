"""Whole conversations: what the client says and what the server answers."""
