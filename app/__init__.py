"""Everything a person touches: commands, settings, rendering; `engine` joins encoder and index."""
