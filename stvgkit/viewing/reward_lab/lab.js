// The reward lab. <section class="stvg-lab"> holds a JSON description of what a model was shown;
// this script joins a picture with boxes to drag, a row of times, and a panel of rewards.
//
// The text is the truth: whatever is dragged is written into it, and all that is shown is read
// from it. Whatever comes from outside is text: textContent only, never markup.

const ICONS = {
  back: "M17 5l-9 7 9 7z",
  play: "M7 4l13 8-13 8z",
  pause: "M7 5h4v14H7zM14 5h4v14h-4z",
  next: "M7 5l9 7-9 7z",
};

class Lab {
  constructor(root) {
    this.data = JSON.parse(root.querySelector("script").textContent);
    this.count = this.data.times.length;
    this.frame = this.data.target.frames[0];
    this.options = { spatial: "both", lambda_k: 0.5, think: true };
    this.oneFrame = false; // whether a drag moves the box of this frame alone
    this.timer = null;

    const header = add(root, "header");
    add(header, "h2", { dir: "auto" }, this.data.title);
    add(header, "p", { class: "meta", dir: "auto" }, this.data.meta);
    const [left, right] = ["left", "right"].map((side) => add(root, "div", { class: side }));
    this.picture = new Picture(this, left);
    this.addControls(left);
    this.times = new Times(this, left);
    this.terms = add(left, "p", { class: "terms" });
    this.panel = new Panel(this, right);
    root.addEventListener("keydown", (event) => this.key(event));
    this.start();
  }

  addControls(parent) {
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
    addChoice(bar, "A drag moves", { all: "all frames", one: "this frame" }, (value) => {
      this.oneFrame = value === "one";
    });
  }

  // ----------------------------------------------------------------------------- text and answer

  // Begin with a text, the given one by default, in the format that the settings ask for.
  start(text = this.data.text) {
    const answer = this.options.think ? null : parseAnswer(text, this.data.space);
    if (answer) {
      this.kept = answer.think;
      return this.write({ ...answer, think: null });
    }
    this.panel.text.value = text;
    this.read();
  }

  write(answer) {
    this.panel.text.value = formatAnswer(answer, this.data.space);
    this.read();
  }

  read() {
    const { think } = this.options;
    this.answer = parseAnswer(this.panel.text.value, this.data.space, { think });
    this.draw();
  }

  set(options) {
    Object.assign(this.options, options);
    this.draw();
  }

  // Switch between the two formats; think boxes that went come back as they were.
  setThink(think) {
    const { answer } = this;
    this.options.think = think;
    if (!answer) return this.read();
    this.kept = answer.think ?? this.kept;
    const boxes = this.kept?.frames.length ? refit(this.kept, answer.span) : answer.pred;
    this.write({ ...answer, think: think ? boxes : null });
  }

  tube(kind) {
    return kind === "gold" ? this.data.target : this.answer?.[kind] ?? null;
  }

  // The frame that a drag is about, or null where it is about all.
  scope() {
    return this.oneFrame ? this.frame : null;
  }

  // ------------------------------------------------------------------------------------- showing

  draw() {
    this.panel.draw();
    this.drawFrame();
  }

  drawFrame() {
    this.clock.textContent = this.moment();
    this.picture.draw();
    this.times.draw();
    this.terms.replaceChildren(...["think", "pred"].map((kind) => this.termOf(kind)));
  }

  moment() {
    return `frame ${this.frame} · ${this.data.times[this.frame].toFixed(2)} s`;
  }

  // What one box of the frame looked at is worth.
  termOf(kind) {
    const line = document.createElement("span");
    const [stroke, dash] = this.data.styles[kind];
    const swatch = addSvg(line, "svg", { class: "swatch", viewBox: "0 0 34 14" });
    addSvg(swatch, "path", { d: "M3 7H31", stroke, "stroke-dasharray": dash });
    add(line, "span", {}, `${kind} on this frame: ${this.worth(kind)}`);
    return line;
  }

  worth(kind) {
    const { spatial } = this.options;
    const [term, worst] = SPATIAL_TERMS[spatial];
    const [box, gold] = [boxAt(this.tube(kind), this.frame), boxAt(this.data.target, this.frame)];
    if (!this.answer) return "the text does not parse";
    if (!this.tube(kind)) return "no list";
    if (!gold) return box ? "gold has no box here, so it does not count" : "no box, as in gold";
    if (!box) return `no box, which counts ${worst}`;
    const [overlap, apart] = [giou(box, gold), l1(box, gold)].map((number) => number.toFixed(2));
    return `GIoU ${overlap}, L1 ${apart}: ${TERMS[spatial]} = ${term(box, gold).toFixed(2)}`;
  }

  // ---------------------------------------------------------------------------------------- time

  look(frame) {
    this.frame = clamp(frame, 0, this.count - 1);
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
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -this.count, End: this.count }[event.key];
    if (!by) return;
    event.preventDefault();
    this.step(by);
  }
}

// In a notebook's frame the notebook's own paper shows around the lab.
if (window !== window.parent) document.body.style.background = "transparent";
for (const root of document.querySelectorAll(".stvg-lab")) root.lab ??= new Lab(root);
