"""What a cell and the verifier cost: `make bench`."""
