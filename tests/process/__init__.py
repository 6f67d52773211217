"""Tests of the process model."""
