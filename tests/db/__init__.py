"""Tests of tpops.db."""
