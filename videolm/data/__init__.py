"""Clips with captions, token shards on disk, and the batches drawn from them."""
