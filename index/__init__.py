"""What is stored and how neighbours are found: documents, catalogue, vectors, lexical search."""
