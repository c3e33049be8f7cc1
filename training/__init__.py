"""Makes encoders and measures them."""
