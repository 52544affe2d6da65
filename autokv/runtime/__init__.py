"""The same pipeline inside transformers."""
