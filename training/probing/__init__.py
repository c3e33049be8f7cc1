"""What a model knows before and after training: states, prefixes, words and layers."""
