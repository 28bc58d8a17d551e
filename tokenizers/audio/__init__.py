"""Sound to codes and back: our own codec, and pretrained ones behind the same protocol."""
