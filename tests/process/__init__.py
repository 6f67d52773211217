"""Tests of the process model without processes."""
