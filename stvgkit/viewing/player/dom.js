// Small helpers of the player. Whatever comes from outside is text: textContent only, never markup.

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const ratio = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
const short = (name) => (name.length > 20 ? `${[...name].slice(0, 19).join("")}…` : name);
const percent = (share) => `${(100 * share).toFixed(4)}%`;

function add(parent, tag, attributes = {}, text = "") {
  const node = document.createElement(tag);
  set(node, attributes);
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

// Lines of text beside the pointer, inside `root`.
class Tip {
  constructor(root) {
    this.root = root;
    this.node = add(root, "div", { class: "tip", role: "tooltip" });
  }

  show(event, lines) {
    const node = this.node;
    node.replaceChildren();
    for (const line of lines) add(node, "div", { dir: "auto" }, line);
    node.style.display = "block";
    const frame = this.root.getBoundingClientRect();
    const x = clamp(event.clientX - frame.left + 14, 4, frame.width - node.offsetWidth - 4);
    let y = event.clientY - frame.top + 16;
    if (event.clientY + node.offsetHeight + 20 > window.innerHeight) y -= node.offsetHeight + 30;
    node.style.left = `${x}px`;
    node.style.top = `${y}px`;
  }

  hide() {
    this.node.style.display = "none";
  }
}
