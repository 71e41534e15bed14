"""A reference becomes a checked model folder."""
