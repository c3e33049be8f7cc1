"""Duplicates: found, planned, moved to the trash, put back."""
