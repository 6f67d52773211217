"""Tests of tpops.upstream."""
