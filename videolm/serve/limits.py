"""What a server takes and how long it keeps things."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from videolm.config import Config

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Limits(Config):
    """Bounds of what strangers may ask for; each is enforced as soon as it is passed, not when all has been read."""

    upload_bytes: Positive = 64 * 2**20
    """Of a request's body."""
    body_seconds: Seconds = 60.0
    """In which a request's body has to arrive."""
    pixels: Positive = 4096 * 4096
    """Of a picture, or of a frame of a film."""
    film_seconds: Seconds = 60.0
    """Of a film or a sound that is given; later parts are not read."""
    made_seconds: Seconds = 60.0
    """Of a clip that is asked for."""
    prompt_characters: Positive = 2000
    scenes: Positive = 32
    """Prompts of a story."""
    queue: Positive = 64
    """Jobs of a key that wait or are being made."""
    connections: Positive = 256
    """Open at a time."""
    job_seconds: Seconds = 600.0
    """Spent on making one job."""
    kept_seconds: Seconds = 24 * 3600.0
    """For which what was made is kept."""
