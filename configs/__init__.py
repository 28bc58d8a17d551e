"""Presets: `tokenizer/`, `lm/` and `recipe/`, as YAML. Read by `videolm.train.recipe`."""
