"""Evaluation of encoders and of search: runs, reports, a test set of one's own."""
