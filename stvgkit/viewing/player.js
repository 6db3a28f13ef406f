// The box player. Each <section class="stvg-player"> holds a <video> and a JSON description of the
// clip and its tubes; this script adds boxes, timeline, controls and table to it.
//
// Two rules. The boxes drawn are those of the frame that is *shown*: the picture is copied from the
// video to a canvas by the same call that draws the boxes over it, so that both reach the screen
// together, however late that is. And whatever comes from outside is text: textContent only, never
// markup.
"use strict";
(() => {
  const SPEEDS = [0.25, 0.5, 1, 1.5, 2];
  const LABEL_HEIGHT = 17;
  const ICONS = {
    first: "M6 5v14M19 5l-9 7 9 7z",
    back: "M17 5l-9 7 9 7z",
    play: "M7 4l13 8-13 8z",
    pause: "M8 5v14M16 5v14",
    next: "M7 5l9 7-9 7z",
    last: "M18 5v14M5 5l9 7-9 7z",
    loop: "M5 11a6 6 0 016-5h7m-3-3l3 3-3 3M19 13a6 6 0 01-6 5H6m3 3l-3-3 3-3",
    split: "M4 5h16v14H4zM12 5v14",
  };

  function add(parent, tag, attributes = {}, text = "") {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text) node.textContent = text;
    parent.append(node);
    return node;
  }

  function addSvg(parent, tag, attributes = {}) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    set(node, attributes);
    parent.append(node);
    return node;
  }

  function set(node, attributes) {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  }

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const ratio = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
  const short = (name) => (name.length > 20 ? `${[...name].slice(0, 19).join("")}…` : name);
  const percent = (share) => `${(100 * share).toFixed(4)}%`;

  class Player {
    constructor(root) {
      this.root = root;
      this.data = JSON.parse(root.querySelector("script").textContent);
      this.video = root.querySelector("video");
      this.layers = this.data.layers;
      this.count = this.data.times.length;
      this.frame = 0; // the frame on the canvas, with its boxes
      this.wanted = null; // the frame asked for, until the video has arrived there
      this.target = 0; // the frame the video was last sent to
      this.visible = this.layers.map(() => true);
      this.emphasis = -1; // layer under the pointer
      this.measure = document.createElement("canvas").getContext("2d");
      this.groups = [...new Set(this.layers.filter((l) => l.kind === "pred").map((l) => l.group))];

      this.buildHeader();
      this.buildStage();
      this.buildControls();
      this.buildTracks();
      this.buildTexts();
      this.tip = add(root, "div", { class: "tip", role: "tooltip" });
      this.listen();
      this.split(false);
    }

    // ------------------------------------------------------------------------------- building

    buildHeader() {
      const header = (this.header = document.createElement("header"));
      this.root.prepend(header);
      if (this.data.title) add(header, "h2", { dir: "auto" }, this.data.title);
      if (this.data.meta) add(header, "p", { class: "meta", dir: "auto" }, this.data.meta);
      for (const note of this.data.notes) add(header, "p", { class: "note", dir: "auto" }, note);
    }

    buildStage() {
      this.stages = add(this.root, "div", { class: "stages" });
      this.panels = [];
      this.video.controls = false;
      this.video.muted = true;
      // Under the canvas, where it is as good as visible: a hidden video is not decoded in time.
      this.addPanel().stage.prepend(this.video);
    }

    addPanel() {
      const figure = add(this.stages, "figure");
      const stage = add(figure, "div", { class: "stage" });
      const canvas = add(stage, "canvas", { class: this.data.width < 200 ? "crisp" : "smooth" });
      const overlay = addSvg(stage, "svg", { class: "overlay", "aria-hidden": "true" });
      const caption = add(figure, "figcaption", { dir: "auto" });
      const [boxes, labels] = [addSvg(overlay, "g"), addSvg(overlay, "g")]; // no line over a label
      const nodes = this.layers.map((layer) => {
        const group = addSvg(boxes, "g", { class: `box ${layer.kind}` });
        const halo = addSvg(group, "rect", { class: "halo" });
        const line = addSvg(group, "rect", { class: "line", stroke: layer.color });
        if (layer.dash) line.setAttribute("stroke-dasharray", layer.dash);
        const tag = addSvg(labels, "g", { class: "tag" });
        const plate = addSvg(tag, "rect", { height: LABEL_HEIGHT, rx: 3 });
        const text = addSvg(tag, "text", { fill: layer.color });
        return { group, halo, line, tag, plate, text, spot: 0 };
      });
      const context = canvas.getContext("2d");
      const panel = { figure, stage, context, overlay, caption, nodes, members: new Set() };
      this.panels.push(panel);
      stage.addEventListener("click", () => this.toggle());
      stage.addEventListener("pointermove", (event) => this.hoverStage(panel, event));
      stage.addEventListener("pointerleave", () => this.hideTip());
      return panel;
    }

    buildControls() {
      const bar = (this.controls = add(this.root, "div", { class: "controls" }));
      const button = (icon, label, action) => {
        const node = add(bar, "button", { type: "button", "aria-label": label, title: label });
        const picture = addSvg(node, "svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
        addSvg(picture, "path", { d: ICONS[icon] });
        node.addEventListener("click", action);
        return node;
      };
      button("first", "First frame (Home)", () => this.seek(0));
      button("back", "One frame back (←)", () => this.step(-1));
      this.playButton = button("play", "Play (space)", () => this.toggle());
      this.playButton.classList.add("play");
      button("next", "One frame on (→)", () => this.step(1));
      button("last", "Last frame (End)", () => this.seek(this.count - 1));
      this.loopButton = button("loop", "Loop (L)", () => this.loop());
      this.loopButton.setAttribute("aria-pressed", "false");
      if (this.groups.length > 1) {
        this.splitButton = button("split", "Side by side (S)", () => this.split());
      }
      this.speed = add(bar, "select", { "aria-label": "Speed", title: "Speed (↑ ↓)" });
      for (const speed of SPEEDS) add(this.speed, "option", { value: speed }, `${speed}×`);
      this.speed.value = 1;
      this.speed.addEventListener("change", () => {
        this.video.playbackRate = Number(this.speed.value);
      });
      this.clock = add(bar, "output", { class: "clock" });
    }

    buildTracks() {
      const tracks = (this.tracks = add(this.root, "div", { class: "tracks" }));
      this.buildRuler(tracks);
      if (this.layers.some((layer) => layer.iou)) this.buildStrip(tracks);
      this.rows = this.layers.map((layer, i) => this.buildRow(tracks, layer, i));
      this.area = add(tracks, "div", { class: "area" });
      this.ghost = add(this.area, "div", { class: "ghost" });
      this.head = add(this.area, "div", { class: "head" });
    }

    buildRuler(tracks) {
      add(tracks, "span", { class: "name quiet" }, "seconds");
      this.ruler = add(tracks, "div", {
        class: "ruler",
        role: "slider",
        tabindex: 0,
        "aria-label": "Frame",
        "aria-valuemin": this.data.frames[0],
        "aria-valuemax": this.data.frames[this.count - 1],
      });
      const times = this.data.times;
      const length = times[this.count - 1] || 1;
      const unit = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300].find((u) => length / u <= 7) || 600;
      const first = Math.ceil(this.data.start / unit);
      for (let k = first; k * unit <= this.data.start + length + 1e-6; k++) {
        const share = this.frameAt(k * unit - this.data.start + 1e-6) / this.count;
        if (share > 0.95) continue;
        const text = String(Math.round(k * unit * 10) / 10);
        add(this.ruler, "span", {}, text).style.left = percent(share);
      }
    }

    // Per-frame IoU of every prediction, with the gold span behind it.
    buildStrip(tracks) {
      add(tracks, "span", { class: "name quiet" }, "IoU");
      const strip = add(tracks, "div", { class: "strip" });
      const view = { viewBox: `0 0 ${this.count} 100`, preserveAspectRatio: "none" };
      const chart = addSvg(strip, "svg", view);
      const gold = this.layers.find((layer) => layer.kind === "gold");
      for (const [first, last] of gold ? gold.bars : []) {
        addSvg(chart, "rect", { class: "goldspan", x: first, width: last - first + 1, height: 100 });
      }
      addSvg(chart, "path", { class: "half", d: `M0 50H${this.count}` });
      this.curves = this.layers.map((layer) => {
        if (!layer.iou || layer.kind !== "pred") return null;
        const steps = layer.iou.map((v, i) => `V${(100 - 96 * (v || 0)).toFixed(1)}H${i + 1}`);
        const d = `M0 100${steps.join("")}V100`;
        const fill = this.groups.length > 1 ? "none" : layer.color;
        return addSvg(chart, "path", { d, class: "curve", stroke: layer.color, fill });
      });
    }

    buildRow(tracks, layer, i) {
      const title = `Show or hide ${layer.name} (${i < 9 ? i + 1 : layer.kind[0].toUpperCase()})`;
      const name = add(tracks, "button", { type: "button", class: "name", "aria-pressed": "true" });
      name.title = title;
      const swatch = addSvg(name, "svg", { class: "swatch", viewBox: "0 0 26 14" });
      const line = addSvg(swatch, "path", { d: "M2 7H24", stroke: layer.color });
      if (layer.dash) line.setAttribute("stroke-dasharray", layer.dash);
      add(name, "bdi", {}, layer.name);
      name.addEventListener("click", () => this.show(i));

      const cell = add(tracks, "div", { class: "cell" });
      const track = add(cell, "div", { class: `track ${layer.kind}` });
      for (const [first, last] of layer.bars) {
        const bar = add(track, "i", { class: "bar" });
        bar.style.left = percent(first / this.count);
        bar.style.width = percent((last - first + 1) / this.count);
        bar.style.color = layer.color;
      }
      for (const key of layer.keys) {
        add(track, "i", { class: "key" }).style.left = percent((key + 0.5) / this.count);
      }
      const facts = add(cell, "div", { class: "facts" });
      const now = add(facts, "span", { class: "now" });
      add(facts, "span", { class: "score" }, layer.score);
      return { name, cell, now };
    }

    buildTexts() {
      for (const { name, text } of this.data.texts) {
        const details = add(this.root, "details");
        add(details, "summary", { dir: "auto" }, name);
        add(details, "pre", { dir: "auto" }, text);
      }
      const keys = add(this.root, "details", { class: "keys" });
      add(keys, "summary", {}, "Keys");
      add(
        keys,
        "p",
        {},
        "Space plays and pauses · ← → one frame, with Shift ten · Home, End first and last frame · " +
          "↑ ↓ speed · G, T, P show or hide gold, think and predicted boxes, 1 to 9 a single row · " +
          (this.groups.length > 1 ? "S side by side · " : "") +
          "L loop",
      );
    }

    listen() {
      const video = this.video;
      video.addEventListener("play", () => this.showState());
      video.addEventListener("pause", () => this.halt());
      video.addEventListener("seeked", () => this.arrive());
      video.addEventListener("loadeddata", () => this.drawHalted());
      video.addEventListener("error", () => this.fail());
      if (video.requestVideoFrameCallback) {
        const follow = (now, { mediaTime }) => {
          this.capture(mediaTime);
          video.requestVideoFrameCallback(follow);
        };
        video.requestVideoFrameCallback(follow);
      } else {
        video.addEventListener("timeupdate", () => this.capture(video.currentTime));
      }
      // A hidden page shows no frame, so nothing was reported for what is shown now.
      document.addEventListener("visibilitychange", () => this.drawHalted());
      this.drawHalted();
      if (video.error) this.fail();

      this.tracks.addEventListener("pointerdown", (event) => this.scrub(event));
      this.tracks.addEventListener("pointermove", (event) => this.hoverTracks(event));
      this.tracks.addEventListener("pointerleave", () => this.hideTip());
      // Alone on its page, the player takes keys without being clicked first.
      const alone = document.querySelectorAll(".stvg-player").length === 1;
      (alone ? document : this.root).addEventListener("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.resize()).observe(this.root);
      window.addEventListener("resize", () => this.resize());
    }

    // ------------------------------------------------------------------------------- time

    // The last frame whose time is at most t.
    frameAt(t) {
      const times = this.data.times;
      let low = 0;
      let high = this.count - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (times[middle] <= t) low = middle;
        else high = middle - 1;
      }
      return low;
    }

    // Seek to the middle of a frame, so that rounding cannot hit its neighbour.
    seek(frame) {
      frame = clamp(frame, 0, this.count - 1);
      const busy = this.wanted !== null && this.video.seeking;
      this.wanted = frame;
      this.moveHead(frame);
      if (busy) return; // one at a time; arrive() goes on to the newest
      const times = this.data.times;
      const step = frame + 1 < this.count ? times[frame + 1] - times[frame] : this.data.last;
      this.target = frame;
      this.video.currentTime = times[frame] + step / 2;
    }

    arrive() {
      const next = this.wanted;
      this.wanted = null;
      if (next !== null && next !== this.target) return this.seek(next);
      this.drawHalted(); // a seek within one frame shows no new one, so none is reported
    }

    step(by) {
      const from = this.wanted ?? (this.video.paused ? this.target : this.frame);
      this.video.pause();
      this.seek(from + by);
    }

    toggle() {
      if (!this.video.paused) return this.video.pause();
      if (this.frame === this.count - 1) this.seek(0);
      this.video.play().catch(() => this.showState());
    }

    // The clock of a video that halts may be ahead of its picture: set it to the frame shown.
    halt() {
      this.showState();
      if (this.wanted === null) this.seek(this.video.ended ? this.count - 1 : this.frame);
    }

    loop() {
      this.video.loop = !this.video.loop;
      this.loopButton.setAttribute("aria-pressed", this.video.loop);
    }

    changeSpeed(by) {
      const now = SPEEDS.indexOf(Number(this.speed.value));
      this.speed.value = SPEEDS[clamp(now + by, 0, SPEEDS.length - 1)];
      this.video.playbackRate = Number(this.speed.value);
    }

    showState() {
      const paused = this.video.paused;
      this.playButton.querySelector("path").setAttribute("d", ICONS[paused ? "play" : "pause"]);
      this.playButton.setAttribute("aria-label", paused ? "Play (space)" : "Pause (space)");
      this.root.classList.toggle("playing", !paused);
    }

    // ------------------------------------------------------------------------------- drawing

    // Copy what the video shows, with the boxes of that very frame. The copy knows its own time,
    // which may be later than the one reported; where there is no VideoFrame, that one has to do.
    capture(reported) {
      let copy = null;
      try {
        copy = new VideoFrame(this.video);
      } catch {
        // This browser has none: the picture comes from the video itself.
      }
      this.draw(copy ?? this.video, copy ? copy.timestamp / 1e6 : reported);
      copy?.close();
    }

    // While nothing plays, the frame shown is that of the current time.
    drawHalted() {
      const video = this.video;
      if (video.paused && !video.seeking && video.readyState >= 2) this.capture(video.currentTime);
    }

    draw(picture, time) {
      const { videoWidth: width, videoHeight: height } = this.video;
      for (const { context } of this.panels) {
        const canvas = context.canvas;
        if (canvas.width !== width || canvas.height !== height) {
          [canvas.width, canvas.height] = [width, height];
        }
        context.drawImage(picture, 0, 0, width, height);
      }
      // Half a millisecond, since times are rounded on their way through the file.
      this.frame = this.root.dataset.frame = this.frameAt(time + 0.0005);
      this.describe();
    }

    // Boxes, table and clock of the frame on the canvas.
    describe() {
      const frame = this.frame;
      for (const panel of this.panels) this.drawBoxes(panel);
      this.layers.forEach((layer, i) => this.rows[i].now.replaceChildren(this.sentence(layer)));
      this.clock.textContent = this.moment(frame);
      this.ruler.setAttribute("aria-valuenow", this.data.frames[frame]);
      this.ruler.setAttribute("aria-valuetext", this.clock.textContent);
      if (this.wanted === null) this.moveHead(frame);
    }

    drawBoxes(panel) {
      const { clientWidth: width, clientHeight: height } = panel.stage;
      const taken = [];
      this.layers.forEach((layer, i) => {
        const node = panel.nodes[i];
        const box = panel.members.has(i) && this.visible[i] ? layer.boxes[this.frame] : null;
        node.group.style.display = node.tag.style.display = box ? "" : "none";
        if (!box) return;
        const [x1, y1, x2, y2] = [box[0] * width, box[1] * height, box[2] * width, box[3] * height];
        const shape = { x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0) };
        set(node.halo, shape);
        set(node.line, shape);
        node.group.classList.toggle("strong", this.emphasis === i);
        const iou = layer.kind === "gold" || !layer.iou ? null : layer.iou[this.frame];
        const label = iou === null ? short(layer.name) : `${short(layer.name)} ${ratio(iou)}`;
        if (node.label !== label) {
          node.label = node.text.textContent = label;
          node.wide = Math.ceil(this.measure.measureText(label).width) + 10;
          node.plate.setAttribute("width", node.wide);
        }
        const [x, y] = this.place(node, [x1, y1, x2, y2], width, height, taken);
        set(node.plate, { x, y });
        set(node.text, { x: x + 5, y: y + 12.5 });
      });
    }

    // A corner for the label inside the picture, clear of the other labels; the last one if it can.
    place(node, [x1, y1, x2, y2], width, height, taken) {
      const [w, h] = [node.wide, LABEL_HEIGHT];
      const above = y1 - h - 3;
      const below = y2 + 3;
      const spots = [
        [x1, above], [x2 - w, above], [x1, below], [x2 - w, below],
        [x1 + 3, y1 + 3], [x1 + 3, y2 - h - 3], [x1 + 3, above - h], [x1 + 3, below + h],
      ].map(([x, y]) => [clamp(x, 0, Math.max(width - w, 0)), y]);
      const free = ([x, y]) =>
        y >= 0 && y + h <= height &&
        taken.every((t) => x >= t.x + t.w || t.x >= x + w || y >= t.y + h || t.y >= y + h);
      if (!free(spots[node.spot])) node.spot = Math.max(spots.findIndex(free), 0);
      const [x, y] = spots[node.spot];
      const inside = [x, clamp(y, 0, Math.max(height - h, 0))];
      taken.push({ x, y: inside[1], w });
      return inside;
    }

    // What a row says of the frame shown: IoU and the box in the pixels of the original video.
    sentence(layer) {
      const box = layer.boxes[this.frame];
      if (!box) return "no box on this frame";
      const [w, h] = [this.data.width, this.data.height];
      const numbers = [box[0] * w, box[1] * h, box[2] * w, box[3] * h].map(Math.round).join(", ");
      const iou = layer.kind !== "gold" && layer.iou ? `IoU ${ratio(layer.iou[this.frame])} · ` : "";
      return `${iou}${numbers} px`;
    }

    moveHead(frame) {
      this.head.style.left = percent((frame + 0.5) / this.count);
    }

    show(i, on = !this.visible[i]) {
      this.visible[i] = on;
      this.rows[i].name.setAttribute("aria-pressed", on);
      this.rows[i].cell.classList.toggle("off", !on);
      if (this.curves?.[i]) this.curves[i].style.display = on ? "" : "none";
      this.describe();
    }

    showKind(kind) {
      const members = this.layers.flatMap((layer, i) => (layer.kind === kind ? [i] : []));
      const on = !members.some((i) => this.visible[i]);
      for (const i of members) this.show(i, on);
    }

    // One picture with all boxes, or one per prediction with the gold boxes in each.
    split(on = this.panels.length === 1) {
      for (const panel of this.panels.splice(1)) panel.figure.remove();
      const groups = on ? this.groups : [null];
      groups.forEach((group, k) => {
        const panel = this.panels[k] ?? this.addPanel();
        const belongs = (l) => group === null || l.kind === "gold" || l.group === group;
        panel.members = new Set(this.layers.flatMap((l, i) => (belongs(l) ? [i] : [])));
        panel.caption.textContent = group ?? "";
      });
      const { canvas } = this.panels[0].context;
      for (const { context } of this.panels.slice(1)) {
        [context.canvas.width, context.canvas.height] = [canvas.width, canvas.height];
        context.drawImage(canvas, 0, 0);
      }
      this.splitButton?.setAttribute("aria-pressed", on);
      this.resize();
    }

    resize() {
      const gap = 10;
      const room = this.stages.clientWidth;
      const rest = this.header.offsetHeight + this.controls.offsetHeight + this.tracks.offsetHeight;
      const alone = document.querySelectorAll(".stvg-player").length === 1;
      const free = alone ? window.innerHeight - rest - 110 : Math.min(window.innerHeight * 0.6, 440);
      const caption = this.panels.length > 1 ? 20 : 0;
      const aspect = this.data.width / this.data.height;
      // The number of columns that gives the largest pictures, one row where that costs little.
      const widths = this.panels.map((_, k) => {
        const rows = Math.ceil(this.panels.length / (k + 1));
        const height = Math.max(free / rows - caption, 190);
        return Math.min((room - gap * k) / (k + 1), height * aspect);
      });
      const row = widths[widths.length - 1];
      let width = row > 0.8 * Math.max(...widths) ? row : Math.max(...widths);
      const scale = width / this.data.width;
      if (scale > 3) width = this.data.width * Math.floor(scale); // whole pixels stay crisp
      const height = Math.round(width / aspect);
      width = Math.round(width);
      const style = getComputedStyle(this.root);
      this.measure.font = `600 12px ${style.fontFamily}`;
      for (const panel of this.panels) {
        panel.stage.style.width = `${width}px`;
        panel.stage.style.height = `${height}px`;
        panel.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
      }
      this.describe();
    }

    fail() {
      const stage = this.panels[0].stage;
      if (stage.querySelector(".broken")) return;
      const why = "this browser does not play H.264, or the page around forbids embedded video";
      add(stage, "p", { class: "broken" }, `The video cannot be shown: ${why}.`);
    }

    // ------------------------------------------------------------------------------- pointer, keys

    // The frame under the pointer, or null left of the tracks.
    pointed(event) {
      const area = this.area.getBoundingClientRect();
      const share = (event.clientX - area.left) / area.width;
      return share < -0.01 ? null : clamp(Math.floor(share * this.count), 0, this.count - 1);
    }

    scrub(event) {
      const frame = this.pointed(event);
      if (frame === null || event.button !== 0) return;
      event.preventDefault();
      this.ruler.focus({ preventScroll: true });
      this.video.pause();
      this.seek(frame);
      this.tracks.setPointerCapture(event.pointerId);
      const move = (e) => this.seek(this.pointed(e) ?? 0);
      this.tracks.addEventListener("pointermove", move);
      const end = () => this.tracks.removeEventListener("pointermove", move);
      this.tracks.addEventListener("lostpointercapture", end, { once: true });
    }

    hoverTracks(event) {
      const frame = this.pointed(event);
      if (frame === null) return this.hideTip();
      this.ghost.style.left = percent((frame + 0.5) / this.count);
      this.ghost.style.display = "block";
      const lines = this.layers.flatMap((layer, i) => {
        const value = layer.kind === "gold" || !this.visible[i] || !layer.boxes[frame] ? null : layer.iou?.[frame];
        return value === null || value === undefined ? [] : [`${layer.name}: IoU ${ratio(value)}`];
      });
      this.showTip(event, [this.moment(frame), ...lines]);
    }

    hoverStage(panel, event) {
      const frame = panel.stage.getBoundingClientRect();
      const x = (event.clientX - frame.left) / frame.width;
      const y = (event.clientY - frame.top) / frame.height;
      const slack = 4 / frame.width;
      const hit = [...panel.members].filter((i) => {
        const box = this.visible[i] && this.layers[i].boxes[this.frame];
        return box && x >= box[0] - slack && x <= box[2] + slack && y >= box[1] - slack && y <= box[3] + slack;
      });
      const area = (i) => {
        const [x1, y1, x2, y2] = this.layers[i].boxes[this.frame];
        return (x2 - x1) * (y2 - y1);
      };
      hit.sort((a, b) => area(a) - area(b));
      this.emphasize(hit.length ? hit[0] : -1);
      if (!hit.length) return this.showTip(event, null);
      const lines = hit.map((i) => `${this.layers[i].name}: ${this.sentence(this.layers[i])}`);
      this.showTip(event, [this.moment(this.frame), ...lines]);
    }

    emphasize(i) {
      if (this.emphasis === i) return;
      this.emphasis = i;
      for (const panel of this.panels) this.drawBoxes(panel);
    }

    moment(frame) {
      const seconds = this.data.start + this.data.times[frame];
      return `frame ${this.data.frames[frame]} · ${seconds.toFixed(2)} s`;
    }

    showTip(event, lines) {
      this.tip.style.display = lines ? "block" : "none";
      if (!lines) return;
      this.tip.replaceChildren();
      for (const line of lines) add(this.tip, "div", { dir: "auto" }, line);
      const frame = this.root.getBoundingClientRect();
      const [w, h] = [this.tip.offsetWidth, this.tip.offsetHeight];
      const x = clamp(event.clientX - frame.left + 14, 4, frame.width - w - 4);
      let y = event.clientY - frame.top + 16;
      if (event.clientY + h + 20 > window.innerHeight) y -= h + 30;
      this.tip.style.left = `${x}px`;
      this.tip.style.top = `${y}px`;
    }

    hideTip() {
      this.tip.style.display = this.ghost.style.display = "none";
      this.emphasize(-1);
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const tag = event.target.tagName;
      if (tag === "SELECT" || (event.key === " " && (tag === "BUTTON" || tag === "SUMMARY"))) return;
      const by = event.shiftKey ? 10 : 1;
      const actions = {
        " ": () => this.toggle(),
        k: () => this.toggle(),
        ArrowLeft: () => this.step(-by),
        ArrowRight: () => this.step(by),
        ArrowUp: () => this.changeSpeed(1),
        ArrowDown: () => this.changeSpeed(-1),
        Home: () => this.step(-this.count),
        End: () => this.step(this.count),
        g: () => this.showKind("gold"),
        t: () => this.showKind("think"),
        p: () => this.showKind("pred"),
        l: () => this.loop(),
        s: () => this.groups.length > 1 && this.split(),
      };
      const row = Number(event.key) - 1;
      const pressed = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const action = this.layers[row] ? () => this.show(row) : actions[pressed];
      if (!action) return;
      event.preventDefault();
      action();
    }
  }

  // In a notebook's frame the notebook's own paper shows around the player.
  if (window !== window.parent) document.body.style.background = "transparent";
  for (const root of document.querySelectorAll(".stvg-player")) root.player ??= new Player(root);
})();
