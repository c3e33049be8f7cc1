"""Training: runs, hard negatives, reports."""
