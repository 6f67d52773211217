"""Tests of tpops.delivery."""
