// The buttons under the picture, and the keys that do the same.

const SPEEDS = [0.25, 0.5, 1, 1.5, 2];
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

class Controls {
  constructor(player, parent) {
    this.player = player;
    this.node = add(parent, "div", { class: "controls" });
    const clock = player.clock;
    this.addButton("first", "First frame (Home)", () => clock.seek(0));
    this.addButton("back", "One frame back (←)", () => clock.step(-1));
    this.playButton = this.addButton("play", "Play (space)", () => clock.toggle());
    this.playButton.classList.add("play");
    this.addButton("next", "One frame on (→)", () => clock.step(1));
    this.addButton("last", "Last frame (End)", () => clock.seek(clock.count - 1));
    this.loopButton = this.addButton("loop", "Loop (L)", () => this.loop());
    this.loopButton.setAttribute("aria-pressed", "false");
    if (player.groups.length > 1) {
      this.splitButton = this.addButton("split", "Side by side (S)", () => player.split());
    }
    this.speed = add(this.node, "select", { "aria-label": "Speed", title: "Speed (↑ ↓)" });
    for (const speed of SPEEDS) add(this.speed, "option", { value: speed }, `${speed}×`);
    this.speed.value = 1;
    this.speed.addEventListener("change", () => this.changeSpeed(0));
    this.now = add(this.node, "output", { class: "clock" });
    // Alone on its page, the player takes keys without being clicked first.
    (player.alone() ? document : parent).addEventListener("keydown", (event) => this.key(event));
  }

  addButton(icon, label, action) {
    const attributes = { type: "button", "aria-label": label, title: label };
    const node = add(this.node, "button", attributes);
    const picture = addSvg(node, "svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
    addSvg(picture, "path", { d: ICONS[icon] });
    node.addEventListener("click", action);
    return node;
  }

  loop() {
    const { video } = this.player.clock;
    video.loop = !video.loop;
    this.loopButton.setAttribute("aria-pressed", video.loop);
  }

  changeSpeed(by) {
    const now = SPEEDS.indexOf(Number(this.speed.value));
    this.speed.value = SPEEDS[clamp(now + by, 0, SPEEDS.length - 1)];
    this.player.clock.video.playbackRate = Number(this.speed.value);
  }

  showState(paused) {
    this.playButton.querySelector("path").setAttribute("d", ICONS[paused ? "play" : "pause"]);
    this.playButton.setAttribute("aria-label", paused ? "Play (space)" : "Pause (space)");
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const tag = event.target.tagName;
    if (tag === "SELECT" || (event.key === " " && (tag === "BUTTON" || tag === "SUMMARY"))) return;
    const { player } = this;
    const { clock } = player;
    const by = event.shiftKey ? 10 : 1;
    const actions = {
      " ": () => clock.toggle(),
      k: () => clock.toggle(),
      ArrowLeft: () => clock.step(-by),
      ArrowRight: () => clock.step(by),
      ArrowUp: () => this.changeSpeed(1),
      ArrowDown: () => this.changeSpeed(-1),
      Home: () => clock.step(-clock.count),
      End: () => clock.step(clock.count),
      g: () => player.showKind("gold"),
      t: () => player.showKind("think"),
      p: () => player.showKind("pred"),
      l: () => this.loop(),
      s: () => player.groups.length > 1 && player.split(),
    };
    const row = Number(event.key) - 1;
    const pressed = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const action = player.layers[row] ? () => player.show(row) : actions[pressed];
    if (!action) return;
    event.preventDefault();
    action();
  }
}
