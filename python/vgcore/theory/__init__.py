"""Layer: theory."""
