"""What Penstock costs: `python -m benchmarks`, or `make bench`."""
