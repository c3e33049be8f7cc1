"""Indexing, its state, and everything that changes a collection as a whole."""
