"""Tests of tpops.admin."""
