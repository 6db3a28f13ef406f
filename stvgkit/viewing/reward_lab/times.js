// The shown frames in a row: which one is looked at, when gold happens, and the answer's time.

class Times {
  constructor(lab, parent) {
    this.lab = lab;
    const { frames } = lab.data.target;
    const tracks = add(parent, "div", { class: "tracks" });
    const row = (name, className) => {
      add(tracks, "span", { class: "name" }, name);
      return add(tracks, "div", { class: `track ${className}` });
    };
    const slider = { role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuemax": lab.count - 1 };
    this.ruler = row("frame", "ruler");
    set(this.ruler, { ...slider, "aria-label": "Frame looked at" });
    const every = Math.ceil(lab.count / 12);
    for (let i = 0; i < lab.count; i += every) {
      add(this.ruler, "i", { class: "tick" }, String(i)).style.left = this.at(i + 0.5);
    }
    this.head = add(this.ruler, "i", { class: "head" });
    const gold = add(row("gold", "gold"), "i", { class: "bar" });
    this.lay(gold, frames[0], frames[frames.length - 1], "gold");
    const answer = row("answer", "answer");
    this.bar = add(answer, "i", { class: "bar", ...slider, "aria-label": "Time of the answer" });
    this.ends = ["First", "Last"].map((end) =>
      add(answer, "i", { class: "end", ...slider, "aria-label": `${end} frame of the answer` }),
    );
    this.ruler.addEventListener("pointerdown", (event) => {
      lab.look(this.pointed(event));
      follow(event, (moved) => lab.look(this.pointed(moved)));
    });
    [this.bar, ...this.ends].forEach((node, part) => {
      node.addEventListener("pointerdown", (event) => this.drag(part, event));
      node.addEventListener("keydown", (event) => this.push(part, event));
    });
  }

  draw() {
    const { frame, answer, count } = this.lab;
    this.head.style.left = this.at(frame + 0.5);
    set(this.ruler, { "aria-valuenow": frame, "aria-valuetext": this.lab.moment() });
    const shown = answer !== null && spanLength(answer.span) > 0 && answer.span[0] < count;
    for (const node of [this.bar, ...this.ends]) node.hidden = !shown;
    if (!shown) return;
    const [first, last] = answer.span;
    const end = Math.min(last, count - 1);
    this.lay(this.bar, first, end, "pred");
    this.ends[0].style.left = this.at(first);
    this.ends[1].style.left = this.at(end + 1);
    set(this.bar, { "aria-valuenow": first, "aria-valuetext": `frames ${first} to ${last}` });
    set(this.ends[0], { "aria-valuenow": first });
    set(this.ends[1], { "aria-valuenow": last });
  }

  at(frame) {
    return percent(frame / this.lab.count);
  }

  lay(node, first, last, kind) {
    node.style.left = this.at(first);
    node.style.width = this.at(last - first + 1);
    node.style.background = this.lab.data.styles[kind][0];
  }

  // The shown frame under a pointer.
  pointed(event) {
    const { left, width } = this.ruler.getBoundingClientRect();
    return Math.floor(((event.clientX - left) / width) * this.lab.count);
  }

  drag(part, event) {
    if (event.button !== 0) return;
    const { answer, count } = this.lab;
    const cell = this.ruler.getBoundingClientRect().width / count;
    follow(event, (moved) => {
      this.move(answer, part, Math.round((moved.clientX - event.clientX) / cell));
    });
  }

  push(part, event) {
    const { answer, count } = this.lab;
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -count, End: count }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    this.move(answer, part, by);
  }

  // Part 0 is the whole span, 1 its first frame, 2 its last.
  move(answer, part, by) {
    const most = this.lab.count - 1;
    let [first, last] = answer.span.map((frame) => Math.min(frame, most));
    if (part === 0) {
      const step = clamp(by, -first, most - last);
      [first, last] = [first + step, last + step];
    }
    if (part === 1) first = clamp(first + by, 0, last);
    if (part === 2) last = clamp(last + by, first, most);
    this.lab.write(moveSpan(answer, [first, last], this.lab.data.target));
  }
}
