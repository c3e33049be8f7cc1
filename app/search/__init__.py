"""Queries: the searcher, snippets, groups and the forms of an answer."""
