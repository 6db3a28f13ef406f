"""Exact frames of a video file by number or by time, and video files that every browser plays.

Three rules hold throughout:

- A frame's number is its place in **presentation order**, from 0; what the header claims about
  the number of frames or the frame rate is not believed.
- A frame's time is its own timestamp in seconds, on the clock of a browser's player
  (`video.currentTime`). The first is mostly, not always, 0: many phones start the picture a frame
  after the sound. The frame *at* time t is the one a player shows then: the last whose time is at
  most t. (The clocks of MPEG streams, which start anywhere, are counted from the first frame.)
- Frames are **upright**: rotation and mirroring stored in the file are applied, as browsers do.

`packets` reads what a file holds, `decode` its frames, `encode` writes files.

Simplified away: of several video streams only the main one is read; pixels are taken as square.
"""

from stvgkit.errors import need
from stvgkit.video.decode import Clip, check_frames, read_frames, sample_indices
from stvgkit.video.encode import transcode, write_video
from stvgkit.video.packets import VideoInfo, probe

need("stvgkit.video", "video", "av", "PIL")

__all__ = [
    "Clip",
    "VideoInfo",
    "check_frames",
    "probe",
    "read_frames",
    "sample_indices",
    "transcode",
    "write_video",
]
