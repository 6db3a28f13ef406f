// The answer's text, and the space its numbers live in, for pages: what stvgkit/grammar.py,
// answers.py and faults.py do.
//
// An answer is {span: [start, end], think, pred, consistent}. A tube, such as `think`, is
// {frames: [5, 6], boxes: [[x1, y1, x2, y2], ...]} with boxes relative to the frame. A space is its
// name, "0-1000" or "640x360", or {width, height}. tests/test_page_scoring.py holds every function
// here equal to Python's.

const INDEX = /[0-9]{1,6}/y;
const NUMBER = /-?[0-9]{1,9}(?:\.[0-9]{1,18})?/y;
const WHITE = /[ \t\r\n\f\v]*/y;
const BLANK = /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/;
const INDEX_NAME = "index (at most 6 digits)";
const LISTS = ["think_bbox", "pred_bbox"];
const TAGS = ["time", ...LISTS].flatMap((tag) => [`<${tag}>`, `</${tag}>`]);

const limit = (value, low, high) => Math.min(Math.max(value, low), high);
const clipBox = (box) => box.map((value) => limit(value, 0, 1));
const spanLength = ([start, end]) => Math.max(end - start + 1, 0);

// Width and height of a space, which are the numbers that mean the frame's right and lower edge.
function spaceSize(space) {
  const named = /^(?:0-([0-9]{1,9})|([0-9]{1,9})x([0-9]{1,9}))$/.exec(space);
  const size = named
    ? [named[1] ?? named[2], named[1] ?? named[3]].map(Number)
    : [space?.width, space?.height];
  if (size[0] > 0 && size[1] > 0) return size;
  throw new RangeError(`unknown coordinate space ${JSON.stringify(space)}`);
}

// Where and how a text departs from the format.
class Fault extends Error {
  constructor(at, expected) {
    super(expected);
    this.at = at;
  }
}

// Reads tokens with white space before each; a sticky pattern looks at one place only, so the
// whole takes time linear in the text.
class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  skip() {
    this.match(WHITE);
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found && found[0];
  }

  sees(token) {
    this.skip();
    return this.text.startsWith(token, this.at);
  }

  token(token, name = token) {
    if (!this.sees(token)) throw new Fault(this.at, name);
    this.at += token.length;
  }

  number(pattern, name) {
    this.skip();
    const found = this.match(pattern);
    if (found === null) throw new Fault(this.at, name);
    return Number(found);
  }

  // One list as rows of index and four numbers.
  list(tag) {
    const [open, close, rows] = [`<${tag}>`, `</${tag}>`, []];
    this.token(open);
    while (!this.sees(close)) {
      if (rows.length) this.token(",", `',' or ${close} after the box`);
      const row = [this.number(INDEX, rows.length ? "an index" : `an ${INDEX_NAME} or ${close}`)];
      this.token(".", "'.' after the index");
      this.token("[", "'[' before the box");
      for (let corner = 1; corner <= 4; corner++) {
        if (corner > 1) this.token(",", `',' before coordinate ${corner}`);
        row.push(this.number(NUMBER, `coordinate ${corner}, such as 271 or 27.5`));
      }
      this.token("]", "']' after coordinate 4");
      rows.push(row);
    }
    this.token(close);
    return rows;
  }

  answer(tags) {
    this.token("<time>");
    const start = this.number(INDEX, `the first ${INDEX_NAME}`);
    this.token("-", "'-' between the two indices");
    const end = this.number(INDEX, `the last ${INDEX_NAME}`);
    this.token("</time>");
    const lists = tags.map((tag) => this.list(tag));
    this.skip();
    if (this.at < this.text.length) throw new Fault(this.at, "the end of the text");
    return { span: [start, end], lists };
  }
}

const listTags = (think) => (think ? LISTS : LISTS.slice(1));

// The span and the rows of each list, or the fault that breaks the format.
function readAnswer(text, think) {
  try {
    return new Reader(text).answer(listTags(think));
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return { fault: error };
  }
}

function covers(rows, span) {
  const length = spanLength(span);
  return length > 0 && rows.length === length && rows.every((row, i) => row[0] === span[0] + i);
}

// A completion as an answer, or null where it breaks the format.
function parseAnswer(text, space, { think = true } = {}) {
  const [width, height] = spaceSize(space);
  const { span, lists, fault } = readAnswer(text, think);
  if (fault) return null;
  const tubes = lists.map((rows) => {
    const boxes = new Map();
    for (const [index, x1, y1, x2, y2] of rows) {
      const box = clipBox([x1 / width, y1 / height, x2 / width, y2 / height]);
      if (!boxes.has(index)) boxes.set(index, box);
    }
    const frames = [...boxes.keys()].sort((a, b) => a - b);
    return { frames, boxes: frames.map((frame) => boxes.get(frame)) };
  });
  const consistent = lists.every((rows) => covers(rows, span));
  return { span, think: think ? tubes[0] : null, pred: tubes[tubes.length - 1], consistent };
}

// The whole number nearest to a value; of two, the even one, as numpy rounds.
function nearest(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

// Relative boxes as the integers to write.
function encodeBox(box, space) {
  const [width, height] = spaceSize(space);
  return clipBox(box).map((value, i) => nearest(value * (i % 2 ? height : width)));
}

function formatAnswer(answer, space) {
  const lines = [`<time> ${answer.span[0]} - ${answer.span[1]} </time>`];
  for (const [tag, tube] of [["think_bbox", answer.think], ["pred_bbox", answer.pred]]) {
    if (!tube) continue;
    const entry = (frame, i) => `${frame}. [${encodeBox(tube.boxes[i], space).join(", ")}]`;
    lines.push(`<${tag}> ${tube.frames.map(entry).join(", ")} </${tag}>`);
  }
  return lines.join("\n");
}

// One sentence on what is wrong with a completion, or that nothing is.
function explainAnswer(text, { think = true } = {}) {
  const { span, lists, fault } = readAnswer(text, think);
  if (fault) return explainFault(text, fault);
  const [start, end] = span;
  const inconsistent = "The format is right but the answer is inconsistent";
  if (end < start) return `${inconsistent}: the time ends (${end}) before it starts (${start}).`;
  const faults = lists.flatMap((rows, k) =>
    listFaults(rows.map((row) => row[0]), span).map((said) => `<${listTags(think)[k]}> ${said}`),
  );
  const tiny = tooSmall(lists);
  if (faults.length) return `${inconsistent}: ${faults.join("; ")}${tiny}.`;
  const where = think ? "in both lists" : "in the list";
  return `The answer is well formed: one box for each index ${start} to ${end} ${where}${tiny}.`;
}

// A remark where all coordinates are those of relative boxes, which no space writes.
function tooSmall(lists) {
  const numbers = lists.flatMap((rows) => rows.flatMap((row) => row.slice(1)));
  if (numbers.some((number) => number > 1) || numbers.every(Number.isInteger)) return "";
  return "; but every coordinate is 1 or less, and is read in a space such as 0-1000";
}

function listFaults(indices, [start, end]) {
  const counts = new Map();
  for (const index of indices) counts.set(index, (counts.get(index) ?? 0) + 1);
  const said = [...counts.keys()];
  const lacking = [];
  for (let index = start; index <= end; index++) if (!counts.has(index)) lacking.push(index);
  const faults = [
    ["lacks", lacking],
    ["repeats", said.filter((index) => counts.get(index) > 1)],
    [`leaves ${start} - ${end} with`, said.filter((index) => index < start || index > end)],
  ].filter(([, found]) => found.length);
  if (faults.length) return faults.map(([verb, found]) => `${verb} ${named(found)}`);
  const ordered = indices.every((index, i) => !i || indices[i - 1] <= index);
  return ordered ? [] : ["is not in order"];
}

function named(indices) {
  const shown = indices.slice(0, 5).join(", ") + (indices.length > 5 ? ", ..." : "");
  return indices.length === 1 ? `index ${shown}` : `${indices.length} indices (${shown})`;
}

function explainFault(text, { at, message: expected }) {
  if (BLANK.test(text)) return "The format is broken: the text is empty.";
  if (at === text.length) {
    return `The format is broken: the text stops where ${expected} is expected.`;
  }
  // All before a fault is ASCII, so it is the same character for Python, which counts code points.
  const found = [...text.slice(at, at + 40)].slice(0, 20).join("");
  const meaning = remark(text, at, found);
  return (
    `The format is broken at character ${at + 1}: expected ${expected}, ` +
    `found ${quoted(found)}${meaning && ` (${meaning})`}.`
  );
}

// What stands where the format breaks, and what that means.
const THINKING = "thinking stands before the answer";
const SIGNS = [
  ["```", "a code fence stands around the answer"],
  ["<|", "a control token is left in the text: decode with skip_special_tokens"],
  ["<think>", THINKING],
  ["</think>", THINKING],
  ...[..."\u2010\u2011\u2012\u2013\u2014\u2212"].map((dash) => [dash, "this dash is not the hyphen -"]),
];

// What the commonest causes of what stands at a fault are, in a few words; "" if it is none.
function remark(text, at, found) {
  const character = String.fromCodePoint(found.codePointAt(0));
  if (text.includes('"bbox_2d"') && !text.includes("<time>")) {
    return "this is the JSON that Qwen writes by itself: --reader qwen reads it";
  }
  for (const [sign, meaning] of SIGNS) if (found.startsWith(sign)) return meaning;
  if (/[0-9]/.test(text[at - 1]) && /[0-9]/.test(character)) return "the number has too many digits";
  if (/[^\0-\x7f]/.test(character) && /\p{N}/u.test(character)) return "only the digits 0-9 count";
  if (TAGS.some((tag) => tag !== found && tag.startsWith(found))) {
    return "the text is cut off inside a tag";
  }
  const starts = (words) => TAGS.some((tag) => words.startsWith(tag));
  if (starts(found.toLowerCase()) && !starts(found)) return "tags are written in lower case";
  const before = text.slice(0, at);
  if (found.startsWith("<time>") && before.includes("<time>")) return "a completion holds one answer";
  if (BLANK.test(before) && text.includes("<time>")) {
    return text.split("<time>")[0].includes("</think>") ? THINKING : "words stand before the answer";
  }
  return "";
}

// A text in quotes as Python's repr writes it.
function quoted(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const short = { "\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\", [quote]: `\\${quote}` };
  const written = [...text].map((character) => {
    if (short[character]) return short[character];
    if (character === " " || !/[\p{C}\p{Z}]/u.test(character)) return character;
    const code = character.codePointAt(0).toString(16);
    const [letter, digits] = code.length > 4 ? ["U", 8] : code.length > 2 ? ["u", 4] : ["x", 2];
    return `\\${letter}${code.padStart(digits, "0")}`;
  });
  return quote + written.join("") + quote;
}
