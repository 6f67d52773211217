"""Credentials: twisted.cred checkers, accounts sources and the realm."""
