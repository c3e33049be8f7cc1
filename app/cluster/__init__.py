"""Clusters of a collection: the run, the report and the page."""
