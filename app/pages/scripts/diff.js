// Word diff of two texts: the longest common subsequence of their words.
const AREA = 4e6; // of the table of lengths; larger texts are first split at words that both have once

const words = (text) =>
  (text.match(/\s*(?:[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}]|[\p{L}\p{M}\p{N}_]+|[^\s])\s*/gu) ?? [])
    .map((whole) => ({ whole, word: whole.trim() }));

// Appends to `pairs` the positions [i, j] of equal words of a[a0:a1] and b[b0:b1], in order.
const align = (a, b, a0, a1, b0, b1, pairs) => {
  while (a0 < a1 && b0 < b1 && a[a0].word === b[b0].word) pairs.push([a0++, b0++]);
  const tail = [];
  while (a0 < a1 && b0 < b1 && a[a1 - 1].word === b[b1 - 1].word) tail.push([--a1, --b1]);
  if (a0 < a1 && b0 < b1) {
    if ((a1 - a0) * (b1 - b0) <= AREA) byTable(a, b, a0, a1, b0, b1, pairs);
    else byAnchors(a, b, a0, a1, b0, b1, pairs);
  }
  pairs.push(...tail.reverse());
};

const byTable = (a, b, a0, a1, b0, b1, pairs) => {
  const [n, m] = [a1 - a0, b1 - b0];
  const lengths = new Uint16Array((n + 1) * (m + 1));
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      const at = i * (m + 1) + j;
      lengths[at] = a[a0 + i].word === b[b0 + j].word
        ? lengths[at + m + 2] + 1
        : Math.max(lengths[at + m + 1], lengths[at + 1]);
    }
  }
  for (let i = 0, j = 0; i < n && j < m;) {
    const at = i * (m + 1) + j;
    if (a[a0 + i].word === b[b0 + j].word) pairs.push([a0 + i++, b0 + j++]);
    else if (lengths[at + m + 1] >= lengths[at + 1]) i++;
    else j++;
  }
};

// Patience diff: of the words that both have exactly once, the longest row that is in order in both.
const byAnchors = (a, b, a0, a1, b0, b1, pairs) => {
  const once = (list, from, to) => {
    const seen = new Map();
    for (let at = from; at < to; at++) seen.set(list[at].word, seen.has(list[at].word) ? -1 : at);
    return seen;
  };
  const [inA, inB] = [once(a, a0, a1), once(b, b0, b1)];
  const shared = [...inA].filter(([word, at]) => at >= 0 && (inB.get(word) ?? -1) >= 0);
  const anchors = longestRow(shared.map(([word, at]) => [at, inB.get(word)]));
  if (!anchors.length) return;
  let [i, j] = [a0, b0];
  for (const [x, y] of [...anchors, [a1, b1]]) {
    align(a, b, i, x, j, y, pairs);
    if (x < a1) pairs.push([x, y]);
    [i, j] = [x + 1, y + 1];
  }
};

const longestRow = (points) => {
  const ends = [], before = [];
  points.forEach(([, y], at) => {
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[ends[middle]][1] < y) low = middle + 1; else high = middle;
    }
    before[at] = low ? ends[low - 1] : -1;
    ends[low] = at;
  });
  const row = [];
  for (let at = ends.at(-1) ?? -1; at >= 0; at = before[at]) row.push(points[at]);
  return row.reverse();
};

// Returns runs {kind: "same" | "left" | "right" | "rest", left, right}: texts of a and b. Where one was cut, what
// follows the last common word is "rest": nobody can tell here whether the other has it.
const diff = (left, right) => {
  const [a, b] = [words(left.text), words(right.text)];
  const pairs = [];
  align(a, b, 0, a.length, 0, b.length, pairs);
  const runs = [];
  const text = (list, from, to) => list.slice(from, to).map((token) => token.whole).join("");
  const push = (kind, x, y) => {
    const last = runs.at(-1);
    if (last?.kind === kind) { last.left += x; last.right += y; } else if (x || y) runs.push({ kind, left: x, right: y });
  };
  let [i, j] = [0, 0];
  for (const [x, y] of pairs) {
    push("left", text(a, i, x), "");
    push("right", "", text(b, j, y));
    push("same", a[x].whole, b[y].whole);
    [i, j] = [x + 1, y + 1];
  }
  const unknown = left.cut || right.cut;
  push(unknown ? "rest" : "left", text(a, i, a.length), "");
  push(unknown ? "rest" : "right", "", text(b, j, b.length));
  return runs;
};

const marked = (kind, text) =>
  kind === "left" || kind === "right"
    ? make(kind === "left" ? "del" : "ins", {}, text)
    : document.createTextNode(text);

const FOLD = 420; // characters that both have, beyond which the middle is folded away
const EDGE = 120;
const folding = (text) => {
  if (text.length < FOLD) return [document.createTextNode(text)];
  const from = text.indexOf(" ", EDGE), to = text.lastIndexOf(" ", text.length - EDGE);
  if (from < 0 || to <= from) return [document.createTextNode(text)];
  const middle = text.slice(from, to);
  const button = make("button", {
    type: "button", class: "fold", onclick: () => button.replaceWith(document.createTextNode(middle)),
  }, ` … ${count(middle.length)} equal characters … `);
  return [text.slice(0, from), button, text.slice(to)];
};

// One text: the right one, with the words that only the left has put in.
const unifiedDiff = (left, right) => {
  const runs = diff(left, right);
  const shown = runs.flatMap((run) =>
    run.kind === "same" ? folding(run.right)
      : run.kind === "rest" ? [document.createTextNode(run.right)]
      : [marked(run.kind, run.kind === "left" ? run.left : run.right)]);
  return make("div", { class: "passage diff-text", dir: "auto" }, ...shown, cutMark(right.text.length, right.cut));
};

// Two texts, each with its own words marked.
const sideBySide = (left, right) => {
  const runs = diff(left, right);
  const side = (item, name) =>
    make("div", { class: "passage diff-text", dir: "auto" },
      ...runs.filter((run) => run[name]).map((run) => marked(run.kind, run[name])),
      cutMark([...item.text].length, item.cut));
  return [side(left, "left"), side(right, "right")];
};
