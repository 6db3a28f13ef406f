// What the answer is worth, the settings that decide it, and the answer's text.

const REWARDS = [
  ["format", "f", "the text holds the format", 1],
  ["consistency", "c", "both lists are as the time says", 1],
  ["temporal", "t", "overlap in time", 1],
  ["spatial", "s", "GIoU − L1 of both lists", 2],
  ["think", "k", "what pred adds to think", 2],
];
const TERMS = { both: "GIoU − L1", giou: "GIoU", l1: "−L1" };

class Panel {
  constructor(lab, parent) {
    this.lab = lab;
    this.addScores(parent);
    this.addSettings(parent);
    this.addText(parent);
  }

  addScores(parent) {
    const table = add(parent, "table", { class: "scores" });
    this.rows = REWARDS.map(([name, letter, meaning, most]) => {
      const row = add(table, "tr", { title: meaning });
      const head = add(row, "th", { scope: "row" });
      add(head, "i", {}, "R");
      add(head, "sub", {}, letter);
      add(head, "span", {}, name);
      return { name, most, row, ...this.addCells(row, meaning) };
    });
    const total = add(table, "tr", { class: "total" });
    add(total, "th", { scope: "row" }, "Sum R");
    this.total = this.addCells(total, "at most 5");
  }

  addCells(row, meaning) {
    const fill = add(add(add(row, "td"), "div", { class: "meter" }), "i");
    const value = add(row, "td", { class: "value" });
    const weight = add(row, "td", { class: "weight" });
    add(row, "td", { class: "meaning" }, meaning);
    return { fill, value, weight };
  }

  addSettings(parent) {
    const { lab } = this;
    const settings = add(parent, "div", { class: "settings" });
    const label = add(settings, "label", { class: "slider" });
    add(add(label, "span", {}, "λ"), "sub", {}, "k");
    const lambda = add(label, "input", { type: "range", min: 0, max: 3, step: 0.05, value: 0.5 });
    const shown = add(label, "output", {}, "0.50");
    lambda.addEventListener("input", () => {
      shown.textContent = Number(lambda.value).toFixed(2);
      lab.set({ lambda_k: Number(lambda.value) });
    });
    addChoice(settings, "Spatial terms", TERMS, (spatial) => lab.set({ spatial }));
    addChoice(settings, "Think boxes", { on: "on", off: "off" }, (value) =>
      lab.setThink(value === "on"),
    );
  }

  addText(parent) {
    const { lab } = this;
    const label = add(parent, "label", { class: "preset" }, "Start from ");
    const preset = add(label, "select");
    for (const name of ["the given answer", ...Object.keys(lab.data.presets)]) {
      add(preset, "option", { value: name }, name);
    }
    preset.addEventListener("change", () => lab.start(lab.data.presets[preset.value]));
    this.text = add(parent, "textarea", {
      "aria-label": "The answer's text", spellcheck: "false", dir: "auto", rows: 7,
    });
    this.text.addEventListener("input", () => lab.read());
    this.verdict = add(parent, "p", { class: "verdict", role: "status", dir: "auto" });
  }

  draw() {
    const { data, options } = this.lab;
    const score = scoreAnswer(this.text.value, data.target, data.space, options);
    for (const { name, most, row, fill, value, weight } of this.rows) {
      value.textContent = score[name].toFixed(3);
      weight.textContent = name === "think" ? `× ${options.lambda_k.toFixed(2)}` : "";
      row.classList.toggle("off", name === "think" && !options.think);
      fillMeter(fill, score[name] / most);
    }
    this.total.value.textContent = score.total.toFixed(3);
    fillMeter(this.total.fill, score.total / 5);
    this.verdict.textContent = explainAnswer(this.text.value, { think: options.think });
    this.verdict.classList.toggle("bad", score.consistency !== 1);
  }
}

// A bar from the middle: to the right if positive, to the left if negative.
function fillMeter(fill, share) {
  const length = clamp(share, -1, 1) / 2;
  fill.style.left = percent(Math.min(0.5, 0.5 + length));
  fill.style.width = percent(Math.abs(length));
  fill.classList.toggle("minus", share < 0);
}

// One of a few words, as radio buttons; `changed` is told which.
function addChoice(parent, title, words, changed) {
  const group = add(parent, "fieldset", { class: "choice" });
  add(group, "legend", {}, title);
  const name = `${title} ${Math.random()}`; // a page may hold two labs
  for (const [value, word] of Object.entries(words)) {
    const label = add(group, "label");
    const input = add(label, "input", { type: "radio", name, value });
    add(label, "span", {}, word);
    input.checked = value === Object.keys(words)[0];
    input.addEventListener("change", () => changed(value));
  }
}
