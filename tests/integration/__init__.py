"""Tests with real processes and mail programs."""
