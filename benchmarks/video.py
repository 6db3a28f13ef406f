"""How long reading sampled frames takes, against decord alone and PyAV alone.

The clip is made here: 20 seconds at 30 frames per second, 640x360, with a moving texture and
shapes, H.264 with B-frames and a key frame every 250 frames at most, as cameras and sites write it.
All sides open the file anew each time and return the same 40 frames (2 per second) as one array,
which is checked; ours also finds out which frames those are, and that decord can be trusted.
Run: python benchmarks/video.py [--json FILE]
"""

import argparse
import json
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import decord
import numpy as np

from stvgkit import video
from stvgkit.video import decode, packets

SECONDS, FPS, WIDTH, HEIGHT, ROUNDS = 20, 30, 640, 360, 15


def pictures(rng):
    texture = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)
    for number in range(SECONDS * FPS):
        picture = np.roll(texture, number, axis=1)
        for shape in range(4):
            x, y = number * (shape + 1) % (WIDTH - 60), 30 + 80 * shape
            picture[y : y + 50, x : x + 50] = (60 * shape, 255 - 60 * shape, 40)
        yield picture


def write(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in pictures(np.random.default_rng(0)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def decord_alone(path, indices):
    return decord.VideoReader(str(path), num_threads=1).get_batch(indices).asnumpy()


def pyav_alone(path, indices):
    wanted, frames = set(indices.tolist()), []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == len(wanted):
                return np.stack(frames)
    raise ValueError("too few frames")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", type=Path)
    out = arguments.parse_args().json

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write(path)
        indices = video.sample_indices(path)

        def ours():
            packets._scan_packets.cache_clear()  # as if the file had never been seen
            return video.read_frames(path, indices=video.sample_indices(path)).frames

        def ours_without_decord():
            packets._scan_packets.cache_clear()
            return decode._read_pyav(packets.scan_file(path), video.sample_indices(path))

        sides = {
            "ours": ours,
            "ours_without_decord": ours_without_decord,
            "decord": lambda: decord_alone(path, indices),
            "pyav": lambda: pyav_alone(path, indices),
        }
        frames = ours()
        assert all(np.abs(side().astype(int) - frames).max() <= 2 for side in sides.values())
        seconds = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, side in sides.items():
                start = time.process_time()
                side()
                seconds[name].append(time.process_time() - start)
    ms = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    result = {
        "frames": len(indices),
        **{f"{name}_ms": value for name, value in ms.items()},
        "ratio": ms["ours"] / min(ms["decord"], ms["pyav"]),
        "ratio_without_decord": ms["ours_without_decord"] / ms["pyav"],
    }
    print(
        f"{len(indices)} frames of a {SECONDS} s clip at 2 fps: {ms['ours']:.0f} ms; decord alone "
        f"{ms['decord']:.0f} ms, PyAV alone {ms['pyav']:.0f} ms (medians of {ROUNDS}, "
        f"processor time): {result['ratio']:.2f} times the faster of the two; without decord "
        f"{ms['ours_without_decord']:.0f} ms, {result['ratio_without_decord']:.2f} times PyAV alone"
    )
    if out:
        out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
