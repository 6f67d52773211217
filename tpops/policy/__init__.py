"""Limits: who may connect, how often and how fast."""
