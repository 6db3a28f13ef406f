// The table under the picture: seconds, IoU of every frame, and a row for each layer. A press or a
// drag on it goes to the frame under the pointer.

class Timeline {
  constructor(player, parent) {
    this.player = player;
    this.layers = player.layers;
    this.count = player.clock.count;
    this.node = add(parent, "div", { class: "tracks" });
    this.buildRuler();
    if (this.layers.some((layer) => layer.iou)) this.buildStrip();
    this.rows = this.layers.map((layer, i) => this.buildRow(layer, i));
    this.area = add(this.node, "div", { class: "area" });
    this.ghost = add(this.area, "div", { class: "ghost" });
    this.head = add(this.area, "div", { class: "head" });
    this.node.addEventListener("pointerdown", (event) => this.scrub(event));
    this.node.addEventListener("pointermove", (event) => this.hover(event));
    this.node.addEventListener("pointerleave", () => this.leave());
  }

  buildRuler() {
    const { data, clock } = this.player;
    add(this.node, "span", { class: "name quiet" }, "seconds");
    this.ruler = add(this.node, "div", {
      class: "ruler",
      role: "slider",
      tabindex: 0,
      "aria-label": "Frame",
      "aria-valuemin": data.frames[0],
      "aria-valuemax": data.frames[this.count - 1],
    });
    const length = data.times[this.count - 1] || 1;
    const unit = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300].find((u) => length / u <= 7) || 600;
    const first = Math.ceil(data.start / unit);
    for (let k = first; k * unit <= data.start + length + 1e-6; k++) {
      const share = clock.frameAt(k * unit - data.start + 1e-6) / this.count;
      if (share > 0.95) continue;
      const text = String(Math.round(k * unit * 10) / 10);
      add(this.ruler, "span", {}, text).style.left = percent(share);
    }
  }

  // Per-frame IoU of every prediction, with the gold span behind it.
  buildStrip() {
    add(this.node, "span", { class: "name quiet" }, "IoU");
    const strip = add(this.node, "div", { class: "strip" });
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
      const fill = this.player.groups.length > 1 ? "none" : layer.color;
      return addSvg(chart, "path", { d, class: "curve", stroke: layer.color, fill });
    });
  }

  buildRow(layer, i) {
    const title = `Show or hide ${layer.name} (${i < 9 ? i + 1 : layer.kind[0].toUpperCase()})`;
    const pressed = { "aria-pressed": "true" };
    const name = add(this.node, "button", { type: "button", class: "name", title, ...pressed });
    const swatch = addSvg(name, "svg", { class: "swatch", viewBox: "0 0 26 14" });
    const line = addSvg(swatch, "path", { d: "M2 7H24", stroke: layer.color });
    if (layer.dash) line.setAttribute("stroke-dasharray", layer.dash);
    add(name, "bdi", {}, layer.name);
    name.addEventListener("click", () => this.player.show(i));

    const cell = add(this.node, "div", { class: "cell" });
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

  // Say what is true of the frame shown.
  update() {
    const { clock, data } = this.player;
    this.layers.forEach((layer, i) => {
      this.rows[i].now.replaceChildren(this.player.sentence(layer));
    });
    this.ruler.setAttribute("aria-valuenow", data.frames[clock.frame]);
    this.ruler.setAttribute("aria-valuetext", this.player.moment(clock.frame));
    if (clock.wanted === null) this.moveHead(clock.frame);
  }

  moveHead(frame) {
    this.head.style.left = percent((frame + 0.5) / this.count);
  }

  show(i, on) {
    this.rows[i].name.setAttribute("aria-pressed", on);
    this.rows[i].cell.classList.toggle("off", !on);
    if (this.curves?.[i]) this.curves[i].style.display = on ? "" : "none";
  }

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
    const { clock } = this.player;
    clock.video.pause();
    clock.seek(frame);
    this.node.setPointerCapture(event.pointerId);
    const move = (e) => clock.seek(this.pointed(e) ?? 0);
    this.node.addEventListener("pointermove", move);
    const end = () => this.node.removeEventListener("pointermove", move);
    this.node.addEventListener("lostpointercapture", end, { once: true });
  }

  hover(event) {
    const frame = this.pointed(event);
    if (frame === null) return this.leave();
    this.ghost.style.left = percent((frame + 0.5) / this.count);
    this.ghost.style.display = "block";
    const lines = this.layers.flatMap((layer, i) => {
      if (layer.kind === "gold" || !this.player.visible[i] || !layer.boxes[frame]) return [];
      const value = layer.iou?.[frame] ?? null;
      return value === null ? [] : [`${layer.name}: IoU ${ratio(value)}`];
    });
    this.player.tip.show(event, [this.player.moment(frame), ...lines]);
  }

  leave() {
    this.ghost.style.display = "none";
    this.player.tip.hide();
  }
}
