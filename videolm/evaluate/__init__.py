"""Measuring models: by ShapesWorld's judge, and tokenizers by what comes back."""
