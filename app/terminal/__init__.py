"""What a person sees in a terminal: the console, tables, progress, and how a number reads."""
