"""An encoder as a plain folder for other programs."""
