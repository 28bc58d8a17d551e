"""What reconstructions are compared by, beyond the pixels and samples themselves."""
