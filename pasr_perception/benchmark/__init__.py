"""What the search costs and whether it still finds the same: timings against baselines, agreement, memory, scaling."""
