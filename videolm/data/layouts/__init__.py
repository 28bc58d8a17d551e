"""Where the clips of a data set lie, one file a layout: each finds its clips, `videolm/data/clips.py` does the rest."""
