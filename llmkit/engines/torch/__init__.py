"""The torch engine: transformers models on any device; the reference for the other engines."""
