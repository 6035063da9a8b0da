"""What the bridge costs, each figure as a ratio to what it is measured against, in one run."""
