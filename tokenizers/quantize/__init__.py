"""Quantisers: continuous latents to integer codes and back."""
