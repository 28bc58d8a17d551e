"""Sampling ids: pure functions over logits, and the loop that decodes rows. It knows ids, never pixels or strings."""
