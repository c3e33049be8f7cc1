"""Everything a person touches: commands, settings, rendering."""
