"""Tests of tpops.protocol."""
