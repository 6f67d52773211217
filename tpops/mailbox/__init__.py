"""Maildrops: the session's view of one, and the drivers that store mail."""
