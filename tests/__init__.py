"""The tests of tpops: run them with scripts/test."""
