"""Text to vectors: decoder LLMs made bidirectional, proved, pooled and batched."""
