"""The prefix language model: single-device code over ids and tensors. It knows no vocabulary, task or tokenizer."""
