"""searchctl: any decoder LLM as a text encoder, and semantic search built on it."""

__version__ = "0.1.0"
