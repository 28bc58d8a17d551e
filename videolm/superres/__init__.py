"""Super-resolution in the space of codes: a masked transformer over a clip, and how it fills the clip in."""
