"""The stages of a recipe one after the other: checks before the run, resuming, and the folder that comes out."""
