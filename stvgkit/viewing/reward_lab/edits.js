// What a hand does to an answer: functions from answer to answer, which know nothing of the page.
// Frames are those shown to the model; points, boxes and moves are relative to the frame.

// The box of one frame, or null where the list has none.
function boxAt(tube, frame) {
  const i = tube ? tube.frames.indexOf(frame) : -1;
  return i < 0 ? null : tube.boxes[i];
}

// The edges (columns 0 to 3) that a point holds: those nearer than `slack`, else the whole box.
function edgesNear(box, point, slack) {
  const away = box.map((edge, i) => Math.abs(point[i % 2] - edge));
  const near = [0, 1, 2, 3].filter((i) => away[i] <= slack[i % 2] && away[i] <= away[(i + 2) % 4]);
  return near.length ? near : [0, 1, 2, 3];
}

// The answer with some edges of one list moved: on the frame `only`, or on all frames if it is null.
// `held` is the frame that the hand is on; a whole box pushed against the rim there keeps its size.
function moveBoxes(answer, kind, columns, by, held, only) {
  const box = boxAt(answer[kind], held);
  const whole = columns.length === 4;
  const step = whole ? by.map((move, i) => limit(move, -box[i], 1 - box[i + 2])) : by;
  const boxes = answer[kind].boxes.map((old, row) => {
    if (only !== null && answer[kind].frames[row] !== only) return old;
    const moved = old.map((edge, i) => (columns.includes(i) ? edge + step[i % 2] : edge));
    return clipBox(inOrder(moved));
  });
  return { ...answer, [kind]: { ...answer[kind], boxes } };
}

// An edge that is pulled past the other becomes the other.
function inOrder([x1, y1, x2, y2]) {
  return [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
}

// The answer over another time: boxes are interpolated, and the outermost kept beyond the ends.
function moveSpan(answer, span, spare) {
  const fit = (tube) => tube && refit(tube.frames.length ? tube : spare, span);
  return { ...answer, span, think: fit(answer.think), pred: fit(answer.pred) };
}

function refit({ frames, boxes }, [start, end]) {
  const wanted = Array.from({ length: end - start + 1 }, (_, i) => start + i);
  const at = (frame) => {
    const after = frames.findIndex((known) => known >= frame);
    if (after < 0) return boxes[boxes.length - 1];
    if (after === 0 || frames[after] === frame) return boxes[after];
    const share = (frame - frames[after - 1]) / (frames[after] - frames[after - 1]);
    return boxes[after].map((edge, i) => edge * share + boxes[after - 1][i] * (1 - share));
  };
  return { frames: wanted, boxes: wanted.map(at) };
}
