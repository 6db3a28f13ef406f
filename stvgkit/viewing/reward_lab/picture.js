// The frame looked at with its boxes, and the hands that move them.

const KINDS = ["gold", "think", "pred"];
const WHOLE = [0, 1, 2, 3];
const SLACK = { mouse: 9, pen: 14, touch: 22 }; // pixels: this near to an edge a pointer takes it
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const CURSORS = {
  "0": "ew-resize", "2": "ew-resize", "1": "ns-resize", "3": "ns-resize",
  "01": "nwse-resize", "23": "nwse-resize", "12": "nesw-resize", "03": "nesw-resize",
};

class Picture {
  constructor(lab, parent) {
    this.lab = lab;
    const { width, height, images } = lab.data;
    const stage = (this.stage = add(parent, "div", { class: "stage" }));
    stage.style.aspectRatio = `${width} / ${height}`;
    // The widest that is not higher than most of a window.
    stage.style.maxWidth = `calc(min(62vh, 520px) * ${width / height})`;
    const look = width < 200 ? "crisp" : "smooth";
    this.frames = images.map((src) =>
      add(stage, "img", { src, alt: "", class: look, draggable: "false" }),
    );
    this.overlay = addSvg(stage, "svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" });
    this.boxes = Object.fromEntries(KINDS.map((kind) => [kind, this.addBox(kind)]));
  }

  // A drawn box and, but for gold, a hand: an element over it that takes pointers and keys. It is
  // HTML, since browsers do not heed `touch-action` on a shape of an SVG.
  addBox(kind) {
    const [stroke, dash] = this.lab.data.styles[kind];
    const node = addSvg(this.overlay, "g", { class: `box ${kind}` });
    const rects = ["halo", "line"].map((name) => addSvg(node, "rect", { class: name }));
    set(rects[1], { stroke, "stroke-dasharray": dash });
    if (kind === "gold") return { node, rects };
    const hand = add(this.stage, "div", { class: `hand ${kind}`, tabindex: 0, role: "button" });
    set(hand, { "aria-roledescription": "box to move" });
    hand.addEventListener("pointerdown", (event) => this.drag(kind, event));
    hand.addEventListener("pointermove", (event) => {
      if (!event.buttons) hand.style.cursor = CURSORS[this.edges(kind, event).join("")] ?? "move";
    });
    hand.addEventListener("focus", () => this.choose(kind));
    hand.addEventListener("keydown", (event) => this.push(kind, event));
    return { node, rects, hand };
  }

  draw() {
    const { frame } = this.lab;
    this.frames.forEach((picture, i) => picture.classList.toggle("shown", i === frame));
    for (const kind of KINDS) this.drawBox(kind);
  }

  drawBox(kind) {
    const { node, rects, hand } = this.boxes[kind];
    const { frame, data } = this.lab;
    const box = boxAt(this.lab.tube(kind), frame);
    node.style.display = box ? "" : "none";
    if (hand) hand.hidden = !box;
    if (!box) return;
    const [x, y] = box;
    const [width, height] = [Math.max(box[2] - x, 0), Math.max(box[3] - y, 0)];
    for (const rect of rects) set(rect, { x, y, width, height });
    if (!hand) return;
    const place = { left: x, top: y, width, height };
    for (const [side, share] of Object.entries(place)) hand.style[side] = percent(share);
    const numbers = encodeBox(box, data.space).join(", ");
    const how = "Arrow keys move it, with Shift its lower right corner.";
    set(hand, { "aria-label": `${kind} box of frame ${frame}: ${numbers}. ${how}` });
  }

  // Where a pointer is on the picture, relative to it.
  point(event) {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  edges(kind, event) {
    const { width, height } = this.stage.getBoundingClientRect();
    const slack = SLACK[event.pointerType] ?? SLACK.mouse;
    const box = boxAt(this.lab.tube(kind), this.lab.frame);
    return box ? edgesNear(box, this.point(event), [slack / width, slack / height]) : WHOLE;
  }

  // Puts a box above the other, so that a pointer takes it where both are.
  choose(kind) {
    for (const other of ["think", "pred"]) {
      for (const node of [this.boxes[other].node, this.boxes[other].hand]) {
        node.classList.toggle("chosen", other === kind);
      }
    }
  }

  drag(kind, event) {
    if (event.button !== 0) return;
    const { answer, frame } = this.lab;
    const [from, columns] = [this.point(event), this.edges(kind, event)];
    this.lab.play(false);
    follow(event, (moved) => {
      const by = this.point(moved).map((value, i) => value - from[i]);
      // From where the drag began, so that going there and back changes nothing.
      this.lab.write(moveBoxes(answer, kind, columns, by, frame, this.lab.scope()));
    });
  }

  push(kind, event) {
    const arrow = ARROWS[event.key];
    if (!arrow || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const { answer, frame, data } = this.lab;
    const steps = spaceSize(data.space);
    const by = arrow.map((sign, i) => sign * Math.max(0.01, 1 / steps[i]));
    const columns = event.shiftKey ? [2, 3] : WHOLE;
    this.lab.write(moveBoxes(answer, kind, columns, by, frame, this.lab.scope()));
  }
}

// Calls `moved` for each move of the pointer that went down, until it is lifted.
function follow(event, moved) {
  event.preventDefault();
  const node = event.currentTarget;
  node.focus({ preventScroll: true });
  node.setPointerCapture(event.pointerId);
  const stop = new AbortController();
  node.addEventListener("pointermove", moved, { signal: stop.signal });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    node.addEventListener(name, () => stop.abort(), { signal: stop.signal });
  }
}
