"""Layers that tokenizers are built from."""
