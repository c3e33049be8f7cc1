"""Groups of texts: duplicates and clusters, computed from stored vectors."""
