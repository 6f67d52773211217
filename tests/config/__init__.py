"""Tests of tpops.config."""
