"""Training: the recipe, the one loop, the DeepSpeed engine, and one file for each thing that is trained."""
