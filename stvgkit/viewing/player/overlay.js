// The picture with its boxes, once or once for each prediction, side by side.

const LABEL_HEIGHT = 17;

class Overlay {
  constructor(player, parent) {
    this.player = player;
    this.layers = player.layers;
    this.node = add(parent, "div", { class: "stages" });
    this.panels = [];
    this.emphasis = -1; // the layer under the pointer
    this.measure = document.createElement("canvas").getContext("2d");
    // Under the canvas, where it is as good as visible: a hidden video is not decoded in time.
    this.addPanel().stage.prepend(player.clock.video);
  }

  addPanel() {
    const figure = add(this.node, "figure");
    const stage = add(figure, "div", { class: "stage" });
    const small = this.player.data.width < 200;
    const canvas = add(stage, "canvas", { class: small ? "crisp" : "smooth" });
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
    stage.addEventListener("click", () => this.player.clock.toggle());
    stage.addEventListener("pointermove", (event) => this.hover(panel, event));
    stage.addEventListener("pointerleave", () => this.leave());
    return panel;
  }

  // Copy the picture to every panel.
  paint(picture) {
    const { videoWidth: width, videoHeight: height } = this.player.clock.video;
    for (const { context } of this.panels) {
      const canvas = context.canvas;
      if (canvas.width !== width || canvas.height !== height) {
        [canvas.width, canvas.height] = [width, height];
      }
      context.drawImage(picture, 0, 0, width, height);
    }
  }

  // Draw the boxes of the frame shown.
  update() {
    for (const panel of this.panels) this.drawBoxes(panel);
  }

  drawBoxes(panel) {
    const { clientWidth: width, clientHeight: height } = panel.stage;
    const { visible, clock } = this.player;
    const taken = [];
    this.layers.forEach((layer, i) => {
      const node = panel.nodes[i];
      const box = panel.members.has(i) && visible[i] ? layer.boxes[clock.frame] : null;
      node.group.style.display = node.tag.style.display = box ? "" : "none";
      if (!box) return;
      const [x1, y1, x2, y2] = [box[0] * width, box[1] * height, box[2] * width, box[3] * height];
      const shape = { x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0) };
      set(node.halo, shape);
      set(node.line, shape);
      node.group.classList.toggle("strong", this.emphasis === i);
      const iou = layer.kind === "gold" || !layer.iou ? null : layer.iou[clock.frame];
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

  // One picture with all boxes, or one per prediction with the gold boxes in each.
  split(on = this.panels.length === 1) {
    for (const panel of this.panels.splice(1)) panel.figure.remove();
    const groups = on ? this.player.groups : [null];
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
  }

  // Make the pictures as large as `free` pixels of height and the width around allow.
  resize(free) {
    const gap = 10;
    const room = this.node.clientWidth;
    const caption = this.panels.length > 1 ? 20 : 0;
    const data = this.player.data;
    const aspect = data.width / data.height;
    // The number of columns that gives the largest pictures, one row where that costs little.
    const widths = this.panels.map((_, k) => {
      const rows = Math.ceil(this.panels.length / (k + 1));
      const height = Math.max(free / rows - caption, 190);
      return Math.min((room - gap * k) / (k + 1), height * aspect);
    });
    const row = widths[widths.length - 1];
    let width = row > 0.8 * Math.max(...widths) ? row : Math.max(...widths);
    const scale = width / data.width;
    if (scale > 3) width = data.width * Math.floor(scale); // whole pixels stay crisp
    const height = Math.round(width / aspect);
    width = Math.round(width);
    this.measure.font = `600 12px ${getComputedStyle(this.node).fontFamily}`;
    for (const panel of this.panels) {
      panel.stage.style.width = `${width}px`;
      panel.stage.style.height = `${height}px`;
      panel.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    }
  }

  // Name the boxes under the pointer, the smallest first, and stress that one.
  hover(panel, event) {
    const { visible, clock, tip } = this.player;
    const frame = panel.stage.getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width;
    const y = (event.clientY - frame.top) / frame.height;
    const slack = 4 / frame.width;
    const boxOf = (i) => this.layers[i].boxes[clock.frame];
    const hit = [...panel.members].filter((i) => {
      const box = visible[i] && boxOf(i);
      return box && x >= box[0] - slack && x <= box[2] + slack && y >= box[1] - slack && y <= box[3] + slack;
    });
    const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
    hit.sort((a, b) => area(boxOf(a)) - area(boxOf(b)));
    this.emphasize(hit.length ? hit[0] : -1);
    if (!hit.length) return tip.hide();
    const lines = hit.map((i) => `${this.layers[i].name}: ${this.player.sentence(this.layers[i])}`);
    tip.show(event, [this.player.moment(clock.frame), ...lines]);
  }

  leave() {
    this.player.tip.hide();
    this.emphasize(-1);
  }

  emphasize(i) {
    if (this.emphasis === i) return;
    this.emphasis = i;
    this.update();
  }

  fail() {
    const stage = this.panels[0].stage;
    if (stage.querySelector(".broken")) return;
    const why = "this browser does not play H.264, or the page around forbids embedded video";
    add(stage, "p", { class: "broken" }, `The video cannot be shown: ${why}.`);
  }
}
