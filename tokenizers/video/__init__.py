"""Video tokenizers: clips to codes and back. `VIDEO_TOKENIZERS` names those that exist."""
