"""What a base model can do, layer by layer: the run, the report and the page."""
