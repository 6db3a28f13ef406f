// stvgkit/rewards.py for pages: the five rewards of one completion (Eq. 3-10 of the paper).
//
//     window.stvgkit.scoreAnswer(text, target, space, options)
//         -> {format, consistency, temporal, spatial, think, total}
//
// `target` is the gold tube {frames, boxes}, `space` as in answers.js; `options` are those of
// Python's `score_answer`: {spatial: "both" | "giou" | "l1", lambda_k: 0.5, think: true}.

const boxArea = ([x1, y1, x2, y2]) => Math.max(x2 - x1, 0) * Math.max(y2 - y1, 0);

// Generalised IoU of two boxes; a degenerate one has area 0 but still stretches the hull.
function giou(a, b) {
  const wide = Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]), 0);
  const high = Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]), 0);
  const inter = wide * high;
  const union = boxArea(a) + boxArea(b) - inter;
  const [xs, ys] = [0, 1].map((axis) => [a[axis], a[axis + 2], b[axis], b[axis + 2]]);
  const hull = (Math.max(...xs) - Math.min(...xs)) * (Math.max(...ys) - Math.min(...ys));
  if (hull === 0) return a.every((value, i) => value === b[i]) ? 1 : -1;
  return (union > 0 ? inter / union : 0) - (hull - union) / hull;
}

// Sum of the four absolute differences.
const l1 = (a, b) => a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0);

// The terms of R_spa, and the least each can give, which a missing box earns.
const SPATIAL_TERMS = {
  both: [(a, b) => giou(a, b) - l1(a, b), -5],
  giou: [giou, -1],
  l1: [(a, b) => -l1(a, b), -4],
};

function scoreAnswer(text, target, space, options = {}) {
  const { spatial = "both", lambda_k = 0.5, think = true, ...unknown } = options;
  if (!Object.hasOwn(SPATIAL_TERMS, spatial) || Object.keys(unknown).length) {
    throw new RangeError(`options are spatial, lambda_k, think; not ${JSON.stringify(options)}`);
  }
  const answer = parseAnswer(text, space, { think });
  if (answer === null) {
    return { format: 0, consistency: 0, temporal: 0, spatial: 0, think: 0, total: 0 };
  }
  const { frames } = target;
  const [start, end] = answer.span;
  const gold = frames.length ? [frames[0], frames[frames.length - 1]] : [0, -1];
  const overlap = spanLength([Math.max(start, gold[0]), Math.min(end, gold[1])]);
  const union = spanLength(answer.span) + spanLength(gold) - overlap;
  const consistency = answer.consistent ? 1 : 0;
  const temporal = union ? overlap / union : 0;
  const means = [answer.think, answer.pred]
    .filter((tube) => tube !== null)
    .map((tube) => spatialMean(tube, answer.span, target, ...SPATIAL_TERMS[spatial]));
  const sum = means.reduce((a, b) => a + b, 0);
  const gain = Math.max(means[means.length - 1] - means[0], 0);
  const total = 1 + consistency + temporal + sum + lambda_k * gain;
  return { format: 1, consistency, temporal, spatial: sum, think: gain, total };
}

// R_spa (Eq. 7) of one list: the mean over the gold frames inside the answer's span.
function spatialMean(tube, [start, end], target, term, worst) {
  const place = new Map(tube.frames.map((frame, i) => [frame, i]));
  let [sum, count] = [0, 0];
  target.frames.forEach((frame, i) => {
    if (frame < start || frame > end) return;
    const at = place.get(frame);
    sum += at === undefined ? worst : term(tube.boxes[at], clipBox(target.boxes[i]));
    count += 1;
  });
  return count ? sum / count : 0;
}

window.stvgkit = { ...window.stvgkit, parseAnswer, formatAnswer, explainAnswer, scoreAnswer };
