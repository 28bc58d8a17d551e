"""Video, image and sound files in and out: all file-format code is here.

read_video ──► Video (uint8 frames, rate) ──► to_tensor ──► models ──► from_tensor ──► write_video
read_audio ──► Audio (float32 samples, rate) ─┘                                └──► write_audio
"""

from videolm.media.audio import Audio, read_audio, write_audio
from videolm.media.clip import Image, Video
from videolm.media.fit import Fit
from videolm.media.part import Blob, Part
from videolm.media.read import (
    Header,
    declared_frames,
    probe,
    read_header,
    read_image,
    read_video,
    video_chunks,
    video_windows,
)
from videolm.media.sheet import contact_sheet
from videolm.media.source import MediaInfo
from videolm.media.write import stream_frames, write_frames, write_image, write_video

__all__ = [
    "Audio",
    "Blob",
    "Fit",
    "Header",
    "Image",
    "MediaInfo",
    "Part",
    "Video",
    "contact_sheet",
    "declared_frames",
    "probe",
    "read_audio",
    "read_header",
    "read_image",
    "read_video",
    "stream_frames",
    "video_chunks",
    "video_windows",
    "write_audio",
    "write_frames",
    "write_image",
    "write_video",
]
