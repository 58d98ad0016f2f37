"""Benchmarks of cells, seal, verifier, report and guardrails. Run `make bench`."""
