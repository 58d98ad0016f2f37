"""Tests of redline.analysis."""
