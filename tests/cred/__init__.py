"""Tests of tpops.cred."""
