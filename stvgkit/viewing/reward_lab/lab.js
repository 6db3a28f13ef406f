// The reward lab. <section class="stvg-lab"> holds a JSON description of what a model was shown;
// this script adds pictures, boxes to drag, a time line and the rewards.
//
// The text is the truth: whatever is dragged is written into it, and all that is shown is read
// from it. Whatever comes from outside is text: textContent only, never markup.

const REWARDS = [
  ["format", "f", "the text holds the format", 1],
  ["consistency", "c", "both lists are as the time says", 1],
  ["temporal", "t", "overlap in time", 1],
  ["spatial", "s", "GIoU − L1 of both lists", 2],
  ["think", "k", "what pred adds to think", 2],
];
const TERMS = { both: "GIoU − L1", giou: "GIoU", l1: "−L1" };
const KINDS = ["gold", "think", "pred"];
const SLACK = { mouse: 9, pen: 14, touch: 22 }; // pixels: this near to an edge a pointer takes it
const WHOLE = [0, 1, 2, 3];
const ICONS = {
  back: "M17 5l-9 7 9 7z",
  play: "M7 4l13 8-13 8z",
  pause: "M7 5h4v14H7zM14 5h4v14h-4z",
  next: "M7 5l9 7-9 7z",
};
const CURSORS = {
  "0": "ew-resize", "2": "ew-resize", "1": "ns-resize", "3": "ns-resize",
  "01": "nwse-resize", "23": "nwse-resize", "12": "nesw-resize", "03": "nesw-resize",
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class Lab {
  constructor(root) {
    this.root = root;
    this.data = JSON.parse(root.querySelector("script").textContent);
    this.count = this.data.times.length;
    this.frame = this.data.target.frames[0];
    this.options = { spatial: "both", lambda_k: 0.5, think: true };
    this.timer = null;

    const header = add(root, "header");
    add(header, "h2", { dir: "auto" }, this.data.title);
    add(header, "p", { class: "meta", dir: "auto" }, this.data.meta);
    const left = add(root, "div", { class: "left" });
    const right = add(root, "div", { class: "right" });
    this.buildStage(left);
    this.buildControls(left);
    this.buildTracks(left);
    this.buildScores(right);
    this.buildSettings(right);
    this.buildText(right);
    root.addEventListener("keydown", (event) => this.key(event));
    this.write(this.data.text);
  }

  // --------------------------------------------------------------------------------- building

  buildStage(parent) {
    const stage = (this.stage = add(parent, "div", { class: "stage" }));
    stage.style.aspectRatio = `${this.data.width} / ${this.data.height}`;
    // The widest that is not higher than most of a window.
    stage.style.maxWidth = `calc(min(62vh, 520px) * ${this.data.width / this.data.height})`;
    const look = this.data.width < 200 ? "crisp" : "smooth";
    this.pictures = this.data.images.map((src) =>
      add(stage, "img", { src, alt: "", class: look, draggable: "false" }),
    );
    this.overlay = addSvg(stage, "svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" });
    this.boxes = Object.fromEntries(KINDS.map((kind) => [kind, this.buildBox(kind)]));
  }

  // A drawn box and, but for gold, a hand: an element over it that takes pointers and keys. It is
  // HTML, since browsers do not heed `touch-action` on a shape of an SVG.
  buildBox(kind) {
    const [stroke, dash] = this.data.styles[kind];
    const node = addSvg(this.overlay, "g", { class: `box ${kind}` });
    const rects = ["halo", "line"].map((name) => addSvg(node, "rect", { class: name }));
    set(rects[1], { stroke, "stroke-dasharray": dash });
    if (kind === "gold") return { node, rects };
    const hand = add(this.stage, "div", { class: `hand ${kind}`, tabindex: 0, role: "button" });
    set(hand, { "aria-roledescription": "box to move" });
    hand.addEventListener("pointerdown", (event) => this.dragBox(kind, event));
    hand.addEventListener("pointermove", (event) => {
      if (!event.buttons) hand.style.cursor = CURSORS[this.edges(kind, event).join("")] ?? "move";
    });
    hand.addEventListener("focus", () => this.choose(kind));
    hand.addEventListener("keydown", (event) => this.pushBox(kind, event));
    return { node, rects, hand };
  }

  buildControls(parent) {
    const bar = add(parent, "div", { class: "controls" });
    const button = (label, icon, action) => {
      const node = add(bar, "button", { type: "button", "aria-label": label, title: label });
      const picture = addSvg(node, "svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
      addSvg(picture, "path", { d: ICONS[icon] });
      node.addEventListener("click", action);
      return node;
    };
    button("One frame back (←)", "back", () => this.step(-1));
    this.playButton = button("Play", "play", () => this.play(this.timer === null));
    button("One frame on (→)", "next", () => this.step(1));
    this.clock = add(bar, "output", { class: "clock" });
    this.scope = this.buildChoice(bar, "A drag moves", { all: "all frames", one: "this frame" });
  }

  // One of a few words, as radio buttons; returns the element that holds the chosen one in dataset.
  buildChoice(parent, title, words, changed = () => {}) {
    const group = add(parent, "fieldset", { class: "choice" });
    add(group, "legend", {}, title);
    const name = `${title} ${Math.random()}`;
    for (const [value, word] of Object.entries(words)) {
      const label = add(group, "label");
      const input = add(label, "input", { type: "radio", name, value });
      add(label, "span", {}, word);
      input.checked = value === Object.keys(words)[0];
      if (input.checked) group.dataset.value = value;
      input.addEventListener("change", () => {
        group.dataset.value = value;
        changed(value);
      });
    }
    return group;
  }

  buildTracks(parent) {
    const tracks = (this.tracks = add(parent, "div", { class: "tracks" }));
    const row = (name, className) => {
      add(tracks, "span", { class: "name" }, name);
      return add(tracks, "div", { class: `track ${className}` });
    };
    this.ruler = row("frame", "ruler");
    const slider = { role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuemax": this.count - 1 };
    set(this.ruler, { ...slider, "aria-label": "Frame looked at" });
    const every = Math.ceil(this.count / 12);
    for (let i = 0; i < this.count; i += every) {
      add(this.ruler, "i", { class: "tick" }, String(i)).style.left = this.at(i + 0.5);
    }
    this.head = add(this.ruler, "i", { class: "head" });
    const { frames } = this.data.target;
    const gold = add(row("gold", "gold"), "i", { class: "bar" });
    this.lay(gold, frames[0], frames[frames.length - 1], "gold");
    this.answerRow = row("answer", "answer");
    this.bar = add(this.answerRow, "i", { class: "bar", ...slider, "aria-label": "Time of the answer" });
    this.ends = ["First", "Last"].map((end) =>
      add(this.answerRow, "i", { class: "end", ...slider, "aria-label": `${end} frame of the answer` }),
    );
    this.ruler.addEventListener("pointerdown", (event) => {
      this.look(this.pointed(event));
      this.follow(event, (moved) => this.look(this.pointed(moved)));
    });
    [this.bar, ...this.ends].forEach((node, i) => {
      node.addEventListener("pointerdown", (event) => this.dragSpan(i, event));
      node.addEventListener("keydown", (event) => this.pushSpan(i, event));
    });
    this.terms = add(parent, "p", { class: "terms" });
  }

  buildScores(parent) {
    const table = add(parent, "table", { class: "scores" });
    this.scores = REWARDS.map(([name, letter, meaning, most]) => {
      const row = add(table, "tr", { title: meaning });
      const head = add(row, "th", { scope: "row" });
      add(head, "i", {}, "R");
      add(head, "sub", {}, letter);
      add(head, "span", {}, name);
      const meter = add(add(row, "td"), "div", { class: "meter" });
      const fill = add(meter, "i");
      const value = add(row, "td", { class: "value" });
      const weight = add(row, "td", { class: "weight" });
      add(row, "td", { class: "meaning" }, meaning);
      return { name, most, row, fill, value, weight };
    });
    const total = add(table, "tr", { class: "total" });
    add(total, "th", { scope: "row" }, "Sum R");
    this.sumFill = add(add(add(total, "td"), "div", { class: "meter" }), "i");
    this.sum = add(total, "td", { class: "value" });
    add(total, "td");
    add(total, "td", { class: "meaning" }, "at most 5");
  }

  buildSettings(parent) {
    const settings = add(parent, "div", { class: "settings" });
    const label = add(settings, "label", { class: "slider" });
    const name = add(label, "span", {}, "λ");
    add(name, "sub", {}, "k");
    this.lambda = add(label, "input", { type: "range", min: 0, max: 3, step: 0.05, value: 0.5 });
    const shown = add(label, "output", {}, "0.50");
    this.lambda.addEventListener("input", () => {
      this.options.lambda_k = Number(this.lambda.value);
      shown.textContent = this.options.lambda_k.toFixed(2);
      this.refresh();
    });
    this.buildChoice(settings, "Spatial terms", TERMS, (value) => {
      this.options.spatial = value;
      this.refresh();
    });
    this.buildChoice(settings, "Think boxes", { on: "on", off: "off" }, (value) =>
      this.setThink(value === "on"),
    );
  }

  buildText(parent) {
    const label = add(parent, "label", { class: "preset" }, "Start from ");
    this.preset = add(label, "select");
    const names = Object.keys(this.data.presets);
    for (const name of ["the given answer", ...names]) add(this.preset, "option", { value: name }, name);
    this.preset.addEventListener("change", () => {
      const text = this.data.presets[this.preset.value] ?? this.data.text;
      this.write(this.options.think ? text : this.withoutThink(text));
    });
    this.text = add(parent, "textarea", {
      "aria-label": "The answer's text", spellcheck: "false", dir: "auto", rows: 7,
    });
    this.text.addEventListener("input", () => this.read());
    this.verdict = add(parent, "p", { class: "verdict", role: "status", dir: "auto" });
  }

  // --------------------------------------------------------------------------- text and answer

  write(text) {
    this.text.value = text;
    this.read();
  }

  writeAnswer(answer) {
    this.write(formatAnswer(answer, this.data.space));
  }

  read() {
    const { think } = this.options;
    this.answer = parseAnswer(this.text.value, this.data.space, { think });
    this.refresh();
  }

  // Switch between the two formats; the think boxes come back as they were.
  setThink(think) {
    const { answer } = this;
    this.options.think = think;
    if (!answer) return this.read();
    this.kept = answer.think ?? this.kept;
    const list = this.kept && refit(this.kept, answer.span);
    this.writeAnswer({ ...answer, think: think ? list ?? answer.pred : null });
  }

  withoutThink(text) {
    const answer = parseAnswer(text, this.data.space);
    if (!answer) return text;
    this.kept = answer.think;
    return formatAnswer({ ...answer, think: null }, this.data.space);
  }

  // ------------------------------------------------------------------------------------ showing

  refresh() {
    const { space, target } = this.data;
    const { think, lambda_k } = this.options;
    const text = this.text.value;
    const score = (this.score = scoreAnswer(text, target, space, this.options));
    for (const { name, most, row, fill, value, weight } of this.scores) {
      value.textContent = score[name].toFixed(3);
      weight.textContent = name === "think" ? `× ${lambda_k.toFixed(2)}` : "";
      row.classList.toggle("off", name === "think" && !think);
      fillMeter(fill, score[name], most);
    }
    this.sum.textContent = score.total.toFixed(3);
    fillMeter(this.sumFill, score.total, 5);
    this.verdict.textContent = explainAnswer(text, { think });
    this.verdict.classList.toggle("bad", !(score.consistency === 1));
    this.drawSpan();
    this.drawFrame();
  }

  drawSpan() {
    const { answer } = this;
    const shown = answer !== null && spanLength(answer.span) > 0 && answer.span[0] < this.count;
    for (const node of [this.bar, ...this.ends]) node.hidden = !shown;
    if (!shown) return;
    const [first, last] = answer.span;
    const end = Math.min(last, this.count - 1);
    this.lay(this.bar, first, end, "pred");
    this.ends[0].style.left = this.at(first);
    this.ends[1].style.left = this.at(end + 1);
    set(this.bar, { "aria-valuenow": first, "aria-valuetext": `frames ${first} to ${last}` });
    set(this.ends[0], { "aria-valuenow": first });
    set(this.ends[1], { "aria-valuenow": last });
  }

  drawFrame() {
    const { frame, data } = this;
    this.pictures.forEach((picture, i) => picture.classList.toggle("shown", i === frame));
    for (const kind of KINDS) this.drawBox(kind);
    this.clock.textContent = `frame ${frame} · ${data.times[frame].toFixed(2)} s`;
    this.head.style.left = this.at(frame + 0.5);
    set(this.ruler, { "aria-valuenow": frame, "aria-valuetext": this.clock.textContent });
    this.terms.replaceChildren(...["think", "pred"].map((kind) => this.termOf(kind)));
  }

  drawBox(kind) {
    const { node, rects, hand } = this.boxes[kind];
    const box = boxAt(this.tube(kind), this.frame);
    node.style.display = box ? "" : "none";
    if (hand) hand.hidden = !box;
    if (!box) return;
    const [x, y] = box;
    const [width, height] = [Math.max(box[2] - x, 0), Math.max(box[3] - y, 0)];
    for (const rect of rects) set(rect, { x, y, width, height });
    if (!hand) return;
    const place = { left: x, top: y, width, height };
    for (const [side, share] of Object.entries(place)) hand.style[side] = `${100 * share}%`;
    const numbers = encodeBox(box, this.data.space).join(", ");
    const how = "Arrow keys move it, with Shift its lower right corner.";
    set(hand, { "aria-label": `${kind} box of frame ${this.frame}: ${numbers}. ${how}` });
  }

  // What one box of the frame looked at is worth.
  termOf(kind) {
    const line = document.createElement("span");
    line.className = kind;
    const [stroke, dash] = this.data.styles[kind];
    const swatch = addSvg(line, "svg", { class: "swatch", viewBox: "0 0 34 14" });
    addSvg(swatch, "path", { d: "M3 7H31", stroke, "stroke-dasharray": dash });
    const [box, gold] = [boxAt(this.tube(kind), this.frame), boxAt(this.data.target, this.frame)];
    const value = () => {
      if (!this.tube(kind)) return "no list";
      if (!gold) return box ? "a box where gold has none: it does not count" : "no box, and none is needed";
      if (!box) return `no box here: ${SPATIAL_TERMS[this.options.spatial][1]}`;
      const numbers = [giou(box, gold), l1(box, gold)].map((number) => number.toFixed(2));
      const term = SPATIAL_TERMS[this.options.spatial][0](box, gold).toFixed(2);
      return `GIoU ${numbers[0]}, L1 ${numbers[1]}: ${TERMS[this.options.spatial]} = ${term}`;
    };
    add(line, "span", {}, `${kind} on this frame: ${value()}`);
    return line;
  }

  tube(kind) {
    return kind === "gold" ? this.data.target : this.answer?.[kind] ?? null;
  }

  at(frame) {
    return `${((100 * frame) / this.count).toFixed(3)}%`;
  }

  lay(node, first, last, kind) {
    node.style.left = this.at(first);
    node.style.width = this.at(last - first + 1);
    node.style.background = this.data.styles[kind][0];
  }

  // ------------------------------------------------------------------------------------ dragging

  // Calls `moved` for each move of the pointer until it is lifted.
  follow(event, moved) {
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

  // Where a pointer is on the picture, relative to it.
  point(event) {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  edges(kind, event) {
    const { width, height } = this.stage.getBoundingClientRect();
    const slack = SLACK[event.pointerType] ?? SLACK.mouse;
    const box = boxAt(this.tube(kind), this.frame);
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

  dragBox(kind, event) {
    if (event.button !== 0 || !this.answer) return;
    const [answer, from, frame] = [this.answer, this.point(event), this.frame];
    const columns = this.edges(kind, event);
    const only = this.scope.dataset.value === "one" ? frame : null;
    this.play(false);
    this.follow(event, (moved) => {
      const by = this.point(moved).map((value, i) => value - from[i]);
      // From where the drag began, so that going there and back changes nothing.
      this.writeAnswer(moveBoxes(answer, kind, columns, by, frame, only));
    });
  }

  pushBox(kind, event) {
    const arrow = ARROWS[event.key];
    if (!arrow || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const steps = spaceSize(this.data.space);
    const by = arrow.map((sign, i) => sign * Math.max(0.01, 1 / steps[i]));
    const only = this.scope.dataset.value === "one" ? this.frame : null;
    const columns = event.shiftKey ? [2, 3] : WHOLE;
    this.writeAnswer(moveBoxes(this.answer, kind, columns, by, this.frame, only));
  }

  // The shown frame under a pointer.
  pointed(event) {
    const { left, width } = this.ruler.getBoundingClientRect();
    return limit(Math.floor(((event.clientX - left) / width) * this.count), 0, this.count - 1);
  }

  // Part 0 is the whole span, 1 its first frame, 2 its last.
  shifted(answer, part, by) {
    const most = this.count - 1;
    const [first, last] = answer.span.map((frame) => Math.min(frame, most));
    if (part === 1) return [limit(first + by, 0, last), last];
    if (part === 2) return [first, limit(last + by, first, most)];
    const step = limit(by, -first, most - last);
    return [first + step, last + step];
  }

  dragSpan(part, event) {
    if (event.button !== 0) return;
    const { answer } = this;
    const cell = this.ruler.getBoundingClientRect().width / this.count;
    this.follow(event, (moved) => {
      const by = Math.round((moved.clientX - event.clientX) / cell);
      this.writeAnswer(moveSpan(answer, this.shifted(answer, part, by), this.data.target));
    });
  }

  pushSpan(part, event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -this.count, End: this.count }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const span = this.shifted(this.answer, part, by);
    this.writeAnswer(moveSpan(this.answer, span, this.data.target));
  }

  // ---------------------------------------------------------------------------------------- time

  look(frame) {
    this.frame = limit(frame, 0, this.count - 1);
    this.drawFrame();
  }

  step(by) {
    this.play(false);
    this.look(this.frame + by);
  }

  play(on) {
    clearTimeout(this.timer);
    this.timer = null;
    set(this.playButton, { "aria-label": on ? "Pause" : "Play", title: on ? "Pause" : "Play" });
    set(this.playButton.querySelector("path"), { d: ICONS[on ? "pause" : "play"] });
    if (!on) return;
    const next = this.frame + 1 < this.count ? this.frame + 1 : 0;
    const wait = next ? this.data.times[next] - this.data.times[this.frame] : 0.5;
    this.timer = setTimeout(() => {
      this.look(next);
      this.play(true);
    }, 1000 * wait);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (["TEXTAREA", "SELECT", "INPUT"].includes(event.target.tagName)) return;
    const frames = { ArrowLeft: -1, ArrowRight: 1, Home: -this.count, End: this.count };
    if (!(event.key in frames)) return;
    event.preventDefault();
    this.step(frames[event.key]);
  }
}

// A bar from the middle: to the right if positive, to the left if negative.
function fillMeter(fill, value, most) {
  const share = limit(value / most, -1, 1) * 50;
  fill.style.left = `${Math.min(50, 50 + share)}%`;
  fill.style.width = `${Math.abs(share)}%`;
  fill.classList.toggle("minus", value < 0);
}

if (window !== window.parent) document.body.style.background = "transparent";
for (const root of document.querySelectorAll(".stvg-lab")) root.lab ??= new Lab(root);
