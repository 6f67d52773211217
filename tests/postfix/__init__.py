"""Tests of what mail transfer agents ask."""
