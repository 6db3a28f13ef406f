// The video and its frames: which one is shown, which one was asked for, playing and seeking.

class Clock {
  // `times` are seconds from the start of the video, one for each frame; `last` is how long the
  // last one is shown. `on` is called with what happens: `picture(source)` when a frame is shown,
  // `head(frame)` when one is asked for, `state()` when playing begins or ends, `error()`.
  constructor(video, times, last, on) {
    this.video = video;
    this.times = times;
    this.last = last;
    this.on = on;
    this.count = times.length;
    this.frame = 0; // the frame whose picture was given to on.picture last
    this.wanted = null; // the frame asked for, until the video has arrived there
    this.target = 0; // the frame the video was last sent to
  }

  // Begin to report; what is shown already is reported at once.
  start() {
    const video = this.video;
    video.controls = false;
    video.muted = true;
    video.addEventListener("play", () => this.on.state());
    video.addEventListener("pause", () => this.halt());
    video.addEventListener("seeked", () => this.arrive());
    video.addEventListener("loadeddata", () => this.reportHalted());
    video.addEventListener("error", () => this.on.error());
    if (video.requestVideoFrameCallback) {
      const follow = (now, { mediaTime }) => {
        this.report(mediaTime);
        video.requestVideoFrameCallback(follow);
      };
      video.requestVideoFrameCallback(follow);
    } else {
      video.addEventListener("timeupdate", () => this.report(video.currentTime));
    }
    // A hidden page shows no frame, so nothing was reported for what is shown now.
    document.addEventListener("visibilitychange", () => this.reportHalted());
    this.reportHalted();
    if (video.error) this.on.error();
  }

  // Report what the video shows. A copy of the picture knows its own time, which may be later than
  // the one the browser told; where there is no VideoFrame, that one has to do.
  report(told) {
    let copy = null;
    try {
      copy = new VideoFrame(this.video);
    } catch {
      // This browser has none: the picture comes from the video itself.
    }
    // Half a millisecond, since times are rounded on their way through the file.
    this.frame = this.frameAt((copy ? copy.timestamp / 1e6 : told) + 0.0005);
    this.on.picture(copy ?? this.video);
    copy?.close();
  }

  // While nothing plays, the frame shown is that of the current time.
  reportHalted() {
    const video = this.video;
    if (video.paused && !video.seeking && video.readyState >= 2) this.report(video.currentTime);
  }

  // The last frame whose time is at most t.
  frameAt(t) {
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.times[middle] <= t) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // Seek to the middle of a frame, so that rounding cannot hit its neighbour.
  seek(frame) {
    frame = clamp(frame, 0, this.count - 1);
    const busy = this.wanted !== null && this.video.seeking;
    this.wanted = frame;
    this.on.head(frame);
    if (busy) return; // one at a time; arrive() goes on to the newest
    const { times, last } = this;
    const step = frame + 1 < this.count ? times[frame + 1] - times[frame] : last;
    this.target = frame;
    this.video.currentTime = times[frame] + step / 2;
  }

  arrive() {
    const next = this.wanted;
    this.wanted = null;
    if (next !== null && next !== this.target) return this.seek(next);
    this.reportHalted(); // a seek within one frame shows no new one, so none is reported
  }

  step(by) {
    const from = this.wanted ?? (this.video.paused ? this.target : this.frame);
    this.video.pause();
    this.seek(from + by);
  }

  toggle() {
    if (!this.video.paused) return this.video.pause();
    if (this.frame === this.count - 1) this.seek(0);
    this.video.play().catch(() => this.on.state());
  }

  // The clock of a video that halts may be ahead of its picture: set it to the frame shown.
  halt() {
    this.on.state();
    if (this.wanted === null) this.seek(this.video.ended ? this.count - 1 : this.frame);
  }
}
