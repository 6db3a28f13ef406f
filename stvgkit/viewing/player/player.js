// The box player. Each <section class="stvg-player"> holds a <video> and a JSON description of the
// clip and its tubes; this script adds boxes, timeline, controls and table to it.
//
// The boxes drawn are those of the frame that is *shown*: the picture is copied from the video to a
// canvas by the same call that draws the boxes over it, so that both reach the screen together,
// however late that is.

class Player {
  constructor(root) {
    this.root = root;
    this.data = JSON.parse(root.querySelector("script").textContent);
    this.layers = this.data.layers;
    this.visible = this.layers.map(() => true);
    this.groups = [...new Set(this.layers.filter((l) => l.kind === "pred").map((l) => l.group))];
    this.clock = new Clock(root.querySelector("video"), this.data.times, this.data.last, {
      picture: (source) => this.draw(source),
      head: (frame) => this.timeline.moveHead(frame),
      state: () => this.showState(),
      error: () => this.overlay.fail(),
    });

    this.buildHeader();
    this.overlay = new Overlay(this, root);
    this.controls = new Controls(this, root);
    this.timeline = new Timeline(this, root);
    this.buildTexts();
    this.tip = new Tip(root);
    this.clock.start();
    new ResizeObserver(() => this.resize()).observe(root);
    window.addEventListener("resize", () => this.resize());
    this.split(false);
  }

  alone() {
    return document.querySelectorAll(".stvg-player").length === 1;
  }

  buildHeader() {
    const header = (this.header = document.createElement("header"));
    this.root.prepend(header);
    if (this.data.title) add(header, "h2", { dir: "auto" }, this.data.title);
    if (this.data.meta) add(header, "p", { class: "meta", dir: "auto" }, this.data.meta);
    for (const note of this.data.notes) add(header, "p", { class: "note", dir: "auto" }, note);
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

  // Show a picture together with the boxes of that very frame.
  draw(picture) {
    this.root.dataset.frame = this.clock.frame;
    this.overlay.paint(picture);
    this.describe();
  }

  // Boxes, table and clock of the frame shown.
  describe() {
    this.overlay.update();
    this.timeline.update();
    this.controls.now.textContent = this.moment(this.clock.frame);
  }

  showState() {
    const { paused } = this.clock.video;
    this.controls.showState(paused);
    this.root.classList.toggle("playing", !paused);
  }

  show(i, on = !this.visible[i]) {
    this.visible[i] = on;
    this.timeline.show(i, on);
    this.describe();
  }

  showKind(kind) {
    const members = this.layers.flatMap((layer, i) => (layer.kind === kind ? [i] : []));
    const on = !members.some((i) => this.visible[i]);
    for (const i of members) this.show(i, on);
  }

  split(on) {
    this.overlay.split(on);
    const { splitButton } = this.controls;
    splitButton?.setAttribute("aria-pressed", this.overlay.panels.length > 1);
    this.resize();
  }

  resize() {
    const others = [this.header, this.controls.node, this.timeline.node];
    const rest = others.reduce((sum, node) => sum + node.offsetHeight, 0);
    const height = window.innerHeight;
    this.overlay.resize(this.alone() ? height - rest - 110 : Math.min(height * 0.6, 440));
    this.describe();
  }

  // What a row says of the frame shown: IoU and the box in the pixels of the original video.
  sentence(layer) {
    const box = layer.boxes[this.clock.frame];
    if (!box) return "no box on this frame";
    const [w, h] = [this.data.width, this.data.height];
    const numbers = [box[0] * w, box[1] * h, box[2] * w, box[3] * h].map(Math.round).join(", ");
    const scored = layer.kind !== "gold" && layer.iou;
    return `${scored ? `IoU ${ratio(layer.iou[this.clock.frame])} · ` : ""}${numbers} px`;
  }

  moment(frame) {
    const seconds = this.data.start + this.data.times[frame];
    return `frame ${this.data.frames[frame]} · ${seconds.toFixed(2)} s`;
  }
}

// In a notebook's frame the notebook's own paper shows around the player.
if (window !== window.parent) document.body.style.background = "transparent";
for (const root of document.querySelectorAll(".stvg-player")) root.player ??= new Player(root);
