"use strict";
// The page of a lesson. Its data are the graph, formulas and the matrix program, as lesson.py writes them:
// a node is called by its place, an entry of an array is [array, place, sign], and a tree is a number
// {c: 0.5}, a node's place, or a list with what it is at its head: ["product", 3, ["negative", 4]].

const $ = (id) => document.getElementById(id);
const D = JSON.parse($("data").textContent);
const N = D.nodes, ARRAYS = D.arrays, LINES = D.lines, ROOT = D.root;

// The primitives, on numbers. Derivatives are not here: each node has its own, from the engine's table.
const sum = (xs) => xs.reduce((s, x) => s + x, 0);
const PRIMITIVES = {
  add: (x, y) => x + y, sub: (x, y) => x - y, mul: (x, y) => x * y, div: (x, y) => x / y, pow: Math.pow,
  neg: (x) => -x, exp: Math.exp, log: Math.log, sqrt: Math.sqrt, sin: Math.sin, cos: Math.cos, tanh: Math.tanh,
  sigmoid: (x) => (x < -709 ? Math.exp(x) : 1 / (1 + Math.exp(-x))),
  relu: (x) => (x <= 0 ? 0 : x),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  abs: Math.abs, sign: (x) => (x === 0 || x !== x ? x : Math.sign(x)),
  step: (x, y) => (x > y ? 1 : x < y ? 0 : x === y ? 0.5 : NaN),
  maximum: (x, y) => (x < y || y !== y ? y : x), minimum: (x, y) => (x > y || y !== y ? y : x),
  detach: (x) => x, less: (x, y) => Number(x < y), less_equal: (x, y) => Number(x <= y),
  equal: (x, y) => Number(x === y), logical_and: Math.min, logical_or: Math.max, logical_not: (x) => 1 - x,
  where: (x, ys) => (x ? ys[0] : ys[1]),
  dot: (xs, ys) => sum(xs.map((x, i) => x * ys[i])), total: sum,
};
const SIGNS = { "σ": "sigmoid", max: "maximum", min: "minimum", sgn: "sign", "√": "sqrt", "|": "abs",
  "<": "less", "≤": "less_equal", "=": "equal" };

const value = new Float64Array(N.length), gradient = new Float64Array(N.length);
const entries = ARRAYS.map((a) => new Float64Array(a.e.length));
const users = N.map(() => []);
N.forEach((n, child) => n.p.forEach(([parent, rule]) => users[parent].push([child, rule])));
const operandsOf = (n) => [n.x, n.y].flat().filter((x) => typeof x === "number");

function number_of(tree) {
  if (typeof tree === "number") return value[tree];
  if (!Array.isArray(tree)) return tree.c;
  const [head, ...rest] = tree;
  if (head === "call") return called(rest[0], rest.slice(1).map(number_of));
  const [x, y] = rest.map(number_of);
  switch (head) {
    case "sum": return sum(rest.map(number_of));
    case "product": return rest.map(number_of).reduce((p, f) => p * f, 1);
    case "negative": return -x;
    case "quotient": return x / y;
    default: return Math.pow(x, y);
  }
}
function called(sign, xs) {
  const row = SIGNS[sign] || sign;
  return row === "where" ? PRIMITIVES.where(xs[0], xs.slice(1)) : PRIMITIVES[row](...xs);
}
function operand(x) {
  return Array.isArray(x) ? x.map(operand) : typeof x === "number" ? value[x] : x.c;
}
function entry(x) {
  return Array.isArray(x) ? x[2] * entries[x[0]][x[1]] : x.c;
}
function compute() {
  N.forEach((n, i) => {
    if (n.op) value[i] = PRIMITIVES[n.op](...[n.x, n.y].filter((x) => x !== null).map(operand));
  });
  gradient.fill(0);
  for (const i of D.backward) {
    gradient[i] = i === ROOT ? 1 : sum(users[i].filter(([c]) => N[c].reached).map(([c, rule]) => gradient[c] * number_of(rule)));
  }
  ARRAYS.forEach((a, k) => a.e.forEach((e, j) => {
    if (typeof e === "number") entries[k][j] = value[e];
    else if (e[0]) {
      const xs = e[1][0].map(entry);
      entries[k][j] = e[0] === "where" ? PRIMITIVES.where(xs[0], xs.slice(1)) : xs.length > 2
        ? xs.reduce((x, y) => PRIMITIVES[e[0]](x, y)) : PRIMITIVES[e[0]](...xs);
    } else entries[k][j] = sum(e[1].map((term) => term.map(entry).reduce((p, f) => p * f, 1)));
  }));
}

// Writing

function num(x, digits = 4) {
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (!isFinite(x)) return x > 0 ? "∞" : x < 0 ? "−∞" : "NaN";
  let text = size < 1e-3 || size >= 10 ** digits ? x.toExponential(digits - 1) : String(+x.toPrecision(digits));
  text = text.replace(/(\.\d*?)0+e/, "$1e").replace(/\.e/, "e").replace("e+", "e");
  return text.replace(/-/g, "−");
}
const SUM = 10, TERM = 20, FACTOR = 30, POWER = 40, ATOM = 50;
// A tree as text, in names or in numbers, and how strongly it binds.
function written(tree, numbers) {
  const write = (t, least) => {
    const [text, binds] = written(t, numbers);
    return binds < least ? `(${text})` : text;
  };
  if (!Array.isArray(tree)) {
    const text = typeof tree !== "number" ? num(tree.c) : numbers ? num(value[tree]) : N[tree].n;
    return [text, text.startsWith("−") ? SUM : /^[\d.]+e/.test(text) ? FACTOR : ATOM];
  }
  const [head, ...rest] = tree;
  switch (head) {
    case "call": {
      const [sign, ...xs] = rest;
      if ("<≤=".includes(sign)) return [xs.map((x) => write(x, TERM)).join(` ${sign} `), SUM - 5];
      return [`${sign === "|" ? "abs" : sign}(${xs.map((x) => write(x, 0)).join(", ")})`, ATOM];
    }
    case "sum":
      return [rest.map((t, i) => {
        const negative = i > 0 && Array.isArray(t) && t[0] === "negative";
        return (i ? (negative ? " − " : " + ") : "") + write(negative ? t[1] : t, negative ? TERM : i ? SUM + 5 : SUM);
      }).join(""), SUM];
    case "negative": return [`−${write(rest[0], FACTOR - 5)}`, TERM];
    case "product": return [rest.map((t) => write(t, FACTOR)).join(" · "), FACTOR];
    case "quotient": return [`${write(rest[0], FACTOR)} / ${write(rest[1], POWER)}`, FACTOR - 3];
    default: {
      const power = write(rest[1], ATOM);
      const raised = /^\d+$/.test(power) ? power.replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]) : `^${power}`;
      return [write(rest[0], ATOM) + raised, POWER];
    }
  }
}
const text = (tree, numbers) => written(tree, numbers)[0];
function factor(tree, numbers) {
  const [t, binds] = written(tree, numbers);
  return binds < FACTOR ? `(${t})` : t;
}
const bracketed = (x) => (x < 0 ? `(${num(x)})` : num(x));
const derivative = (i) => `∂${N[ROOT].n}/∂${N[i].n}`;

// An element, with its children: text is never markup.
function el(tag, attributes, ...children) {
  const node = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, x] of Object.entries(attributes || {})) node.setAttribute(name, x);
  node.append(...children.flat().filter((x) => x !== null && x !== undefined && x !== ""));
  return node;
}
const formula = (left, ...lines) => lines.map((line, i) =>
  el("div", { class: "formula" + (i === lines.length - 1 ? " result" : "") }, `${i ? "   " : left} = ${line}`));

// Words

const WORDS = {
  en: {
    predict: "Predict first", language: "Language", first: "To the start (Home)", back: "One step back (←)",
    play: "Play (space)", next: "One step on (→)", last: "To the end (End)", timeline: "Step",
    mode: "What one step is", element: "Element", elementNote: "one number at a time",
    matrix: "Matrix", matrixNote: "one line at a time", graph: "The graph of the computation",
    program: "The matrix program found in these scalars", change: "Change a number",
    leaf: "Which number", slide: "Its value", reset: "Reset", chain: (l, n, k) => `The chain from ${l} back to ${n}: ${k} steps`,
    descend: "Descend: a step against the gradient", rate: "Rate", once: "One step", hundred: "100 steps",
    current: "computed now", use: "what it is made of", positive: "gradient above 0", negative: "below 0", boxes: "boxes: value, then gradient",
    start: (l) => `The numbers at the left are given. Step forward: first every value up to ${l} is computed, then every derivative on the way back.`,
    startKeys: "→ steps on, E and M switch between element and matrix, space plays. Click a number in the graph to change it.",
    forward: (n) => `Forward: ${n} is computed.`,
    seed: (l) => `Backward begins: ${l} changes as ${l} does, so its derivative by itself is 1.`,
    back1: (n, u) => `Backward: ${n} is used in ${u}. Take what has arrived there, times the local derivative.`,
    backMany: (n, k) => `Backward: ${n} is used ${k} times. What comes back along each way is added.`,
    lineForward: (a, k) => `Forward, one line of matrices: ${k > 1 ? `all ${k} entries of ${a}` : a} at once.`,
    lineBack: (a, k) => `Backward, one line of matrices: ${k > 1 ? `all ${k} entries of ${a}` : a} at once.`,
    oneEntry: "One of its entries:", isEntry: (a) => `This number is an entry of a matrix: ${a}`,
    isBoth: (a, d) => `${a} is also ${d}`, from: "from",
    untouched: (d, g, l, m) => `${d} = ${g}: if it moves by 0.01, ${l} moves by about ${m}.`,
    moved: (n, dx, l, dl, said) => `${n} moved by ${dx}: ${l} moved by ${dl}; the gradient had said ${said}.`,
    alone: "(Others have moved too.)", branch: "A branch that the Python code took stays taken.", pick: "Choose a number here or click one in the graph.",
    before: "before", after: "after", change1: "change", said: "gradient said", steps: (k) => `${k} step${k > 1 ? "s" : ""}`,
    overshot: (l) => `${l} went up, although the gradient points down: this step was too long. Try a smaller rate.`,
    descended: (l) => `${l} went down.`, startDescent: (k) => `Each of the ${k} parameters moves by −rate · its gradient.`, none: "There is no parameter to move.", broke: "The numbers are no longer finite: reset, and take a smaller rate.",
    ask: (n) => `What is ${n}?`, check: "Check", reveal: "Reveal", right: "Right.", wrong: "Not yet.",
    slipSign: "The sign is wrong.", slipFactor: (f) => `The factor ${f} is missing.`, slipWay: (u) => `The way through ${u} is missing.`,
    slipValue: (n) => `That is the value of ${n}, not its gradient.`, slipLocal: "That is the local derivative alone: multiply it by what has arrived.",
    slipArrived: "That is what has arrived: multiply it by the local derivative.", slipTerm: (t) => `The term ${t} is missing.`,
    slipInside: (f) => `That is what is inside ${f}: apply it.`, slipTransposed: "That is the entry with row and column exchanged.", slipProduct: "The operands are added where they should be multiplied.",
    slipGradient: (n) => `That is the gradient of ${n}, not its value.`, notNumber: "That is no number.",
  },
  zh: {
    predict: "先猜再看", language: "語言", first: "回到開頭（Home）", back: "上一步（←）",
    play: "播放（空白鍵）", next: "下一步（→）", last: "到最後（End）", timeline: "步驟",
    mode: "一步是什麼", element: "元素", elementNote: "一次一個數字",
    matrix: "矩陣", matrixNote: "一次一行矩陣算式", graph: "計算圖",
    program: "從這些純量裡找到的矩陣程式", change: "改變一個數字",
    leaf: "哪一個數字", slide: "它的值", reset: "還原", chain: (l, n, k) => `從 ${l} 回到 ${n} 的連鎖：${k} 步`,
    descend: "下降：沿著梯度的反方向走一步", rate: "學習率", once: "走一步", hundred: "走 100 步",
    current: "正在計算", use: "由這些算出", positive: "梯度大於 0", negative: "小於 0", boxes: "方框：先是值，再是梯度",
    start: (l) => `左邊的數字是給定的。一步一步往前：先算出直到 ${l} 的每個值，再往回算每個導數。`,
    startKeys: "→ 是下一步，E 和 M 切換元素與矩陣，空白鍵播放。點圖裡的數字就能改變它。",
    forward: (n) => `前向：計算 ${n}。`,
    seed: (l) => `開始反向：${l} 對自己的導數是 1。`,
    back1: (n, u) => `反向：${n} 用在 ${u}。把已傳到那裡的導數乘上局部導數。`,
    backMany: (n, k) => `反向：${n} 用了 ${k} 次。沿每條路傳回來的都要相加。`,
    lineForward: (a, k) => `前向，一行矩陣算式：${k > 1 ? `${a} 的 ${k} 個元素` : a}一次算完。`,
    lineBack: (a, k) => `反向，一行矩陣算式：${k > 1 ? `${a} 的 ${k} 個元素` : a}一次算完。`,
    oneEntry: "其中一個元素：", isEntry: (a) => `這個數字是矩陣的一個元素：${a}`,
    isBoth: (a, d) => `${a} 也是 ${d}`, from: "來自",
    untouched: (d, g, l, m) => `${d} = ${g}：它變動 0.01 時，${l} 約變動 ${m}。`,
    moved: (n, dx, l, dl, said) => `${n} 變動了 ${dx}：${l} 變動了 ${dl}；梯度原本預測 ${said}。`,
    alone: "（其他數字也變了。）", branch: "Python 程式當時走的分支不會改變。", pick: "在這裡選一個數字，或點圖裡的數字。",
    before: "之前", after: "之後", change1: "變動", said: "梯度預測", steps: (k) => `${k} 步`,
    overshot: (l) => `梯度指向下降，${l} 卻變大了：這一步太大。試試較小的學習率。`,
    descended: (l) => `${l} 變小了。`, startDescent: (k) => `${k} 個參數各自移動 −學習率 · 梯度。`, none: "沒有可以移動的參數。", broke: "數字已不是有限的：請還原，並用較小的學習率。",
    ask: (n) => `${n} 是多少？`, check: "檢查", reveal: "看答案", right: "答對了。", wrong: "還不對。",
    slipSign: "正負號錯了。", slipFactor: (f) => `少乘了 ${f}。`, slipWay: (u) => `少加了經過 ${u} 的那條路。`,
    slipValue: (n) => `那是 ${n} 的值，不是它的梯度。`, slipLocal: "那只是局部導數：還要乘上已傳到的導數。",
    slipArrived: "那是已傳到的導數：還要乘上局部導數。", slipTerm: (t) => `少加了 ${t}。`,
    slipInside: (f) => `那是 ${f} 裡面的數：還要套用它。`, slipTransposed: "那是行列互換後的元素。", slipProduct: "該相乘的地方相加了。",
    slipGradient: (n) => `那是 ${n} 的梯度，不是它的值。`, notNumber: "那不是數字。",
  },
};
let W = WORDS.en;

// Steps: in element mode a value or a derivative, in matrix mode a line of the program.

const isBackward = LINES.map((_, k) => !N.some((n) => n.v && n.v[0] === k));
const elements = [{ kind: "start", ids: [] }, ...D.forward.map((i) => ({ kind: "v", ids: [i] })),
  ...D.backward.map((i) => ({ kind: "g", ids: [i] }))];
const lines = [{ kind: "start", ids: [] }, ...LINES.map((_, k) => {
  const kind = isBackward[k] ? "g" : "v";
  return { kind, line: k, ids: N.map((_, i) => i).filter((i) => N[i][kind] && N[i][kind][0] === k && (kind === "g" || N[i].op)) };
})];
const cells = ARRAYS.map((a) => a.e.map(() => []));  // the numbers of the graph that are an entry
N.forEach((n, i) => {
  for (const kind of ["v", "g"]) if (n[kind] && n[kind][1] !== null) cells[n[kind][1]][n[kind][2]].push([kind, i]);
});
const LEAVES = N.map((_, i) => i).filter((i) => !N[i].op && N[i].named);
const PARAMETERS = LEAVES.filter((i) => !N[i].data && N[i].reached);

let mode = "element", at = 0, picked = null, timer = null, predicting = false, shown = false, focus = [null, 0];
const steps = () => (mode === "element" ? elements : lines);

// The values and derivatives that have been computed by now.
function done() {
  const v = new Set(), g = new Set(), now = steps()[at];
  N.forEach((n, i) => { if (!n.op) v.add(i); });
  const taken = steps().slice(0, at + 1);
  for (const step of taken) step.ids.forEach((i) => (step.kind === "v" ? v : g).add(i));
  if (now.kind === "g") N.forEach((_, i) => v.add(i));
  if (mode === "matrix") {  // and what has no line of its own, but is needed for what has
    for (let i = N.length - 1; i >= 0; i--) if (v.has(i)) operandsOf(N[i]).forEach((x) => v.add(x));
    if (now.kind === "g") {
      N.forEach((n, i) => { if (n.g && !isBackward[n.g[0]]) g.add(i); });
      for (const i of [...D.backward].reverse()) if (g.has(i)) users[i].forEach(([c]) => N[c].reached && g.add(c));
    }
  }
  return { v, g };
}
function line_of(step) {
  if (step.kind === "start") return null;
  if (mode === "matrix") return step.line;
  let [i] = step.ids;
  for (let k = 0; k < N.length; k++) {  // what has no place is written where it is used
    if (N[i][step.kind]) return N[i][step.kind][0];
    if (!users[i].length) break;
    i = users[i][0][0];
  }
  const last = LINES.map((_, k) => k).filter((k) => !isBackward[k]);
  return last[last.length - 1];
}

// Showing a step

function hidden() {
  return predicting && !shown && steps()[at].kind !== "start" && !(steps()[at].kind === "g" && steps()[at].ids[0] === ROOT);
}
function forward_lines(i) {
  const lines = [text(N[i].f, false), text(N[i].f, true), num(value[i], 6)];
  return lines.filter((line, k) => line !== lines[k + 1]);
}
function backward_lines(i) {
  const ways = users[i].filter(([c]) => N[c].reached);
  const through = (c) => (c === ROOT ? "" : derivative(c));
  const join = (parts) => parts.filter((x) => x !== "").join(" · ") || "1";
  const plain = (rule) => !Array.isArray(rule) && rule.c === 1;
  const symbols = ways.map(([c]) => join([through(c), `∂${N[c].n}/∂${N[i].n}`])).join(" + ");
  const rules = ways.map(([c, rule]) => join([through(c), plain(rule) && c !== ROOT ? "" : ways.length > 1 || c !== ROOT ? factor(rule, false) : text(rule, false)])).join(" + ");
  const numbers = ways.map(([c, rule]) => join([c === ROOT ? "" : bracketed(gradient[c]), plain(rule) && c !== ROOT ? "" : bracketed(number_of(rule))])).join(" + ");
  const lines = [symbols, rules, numbers, num(gradient[i], 6)];
  return lines.filter((line, k) => line !== lines[k + 1] && line !== derivative(i));
}
const left_of = (step) => (step.kind === "v" ? N[step.ids[0]].n : derivative(step.ids[0]));
const lines_for = (step) => (step.kind === "v" ? forward_lines(step.ids[0]) : backward_lines(step.ids[0]));

function sentence(step) {
  if (step.kind === "v") return W.forward(N[step.ids[0]].n);
  const [i] = step.ids, ways = users[i].filter(([c]) => N[c].reached);
  if (i === ROOT) return W.seed(N[ROOT].n);
  return ways.length > 1 ? W.backMany(N[i].n, ways.length) : W.back1(N[i].n, N[ways[0][0]].n);
}
function entry_name(array, place) {
  const shape = ARRAYS[array].shape, index = [];
  for (let k = shape.length - 1, rest = place; k >= 0; k--) { index.unshift(rest % shape[k]); rest = Math.floor(rest / shape[k]); }
  return ARRAYS[array].n + (index.length ? `[${index.join(",")}]` : "");
}
function show_now(step) {
  const box = $("now");
  if (step.kind === "start") {
    box.replaceChildren(el("p", {}, W.start(N[ROOT].n)), el("p", {}, W.startKeys));
  } else if (mode === "element") {
    const home = N[step.ids[0]][step.kind], parts = [el("p", {}, sentence(step))];
    if (hidden()) parts.push(question(left_of(step)));
    else parts.push(...formula(left_of(step), ...lines_for(step)));
    if (home && home[1] !== null && ARRAYS[home[1]].shape.length) {
      const name = entry_name(home[1], home[2]), made = ARRAYS[home[1]].f[home[2]];
      parts.push(el("div", { class: "chip" }, W.isEntry(name + (made && !hidden() ? ` = ${made}` : ""))));
    } else if (home && home[1] !== null && step.kind === "g" && ARRAYS[home[1]].e.length === 1 && !isBackward[home[0]]) {
      parts.push(el("div", { class: "chip" }, W.isBoth(ARRAYS[home[1]].n, derivative(step.ids[0]))));
    }
    box.replaceChildren(...parts);
  } else {
    const [line, array] = LINES[step.line], a = ARRAYS[array], place = focused(step);
    const words = isBackward[step.line] ? W.lineBack : W.lineForward;
    const shape = (k) => `${ARRAYS[k].n}${ARRAYS[k].shape.length ? ` (${ARRAYS[k].shape.join("×")})` : ""}`;
    const parts = [el("p", {}, words(a.n, a.e.length)), el("div", { class: "formula result" }, line.replace(/\s+#.*/, "")),
      el("div", { class: "formula" }, `${shape(array)} ${W.from} ${a.reads.map(shape).join(", ")}`)];
    if (hidden()) parts.push(question(entry_name(array, place)));
    else if (a.f.length) parts.push(el("div", { class: "chip" }, `${W.oneEntry} ${entry_name(array, place)} = ${a.f[place]} = ${num(entries[array][place], 6)}`));
    box.replaceChildren(...parts);
  }
}
function focused(step) {
  const array = LINES[step.line][1];
  return focus[0] === array ? focus[1] : (step.line * 5) % ARRAYS[array].e.length;
}

// The matrices of the current line: the current entry, and what it is made of.
function show_program(step, known) {
  const line = line_of(step);
  const reached = line === null ? -1 : line;
  $("lines").replaceChildren(...LINES.map(([text_of], k) => {
    const current = k === line;
    const item = el("li", { class: current ? "current" : k <= reached ? "done" : "" }, text_of);
    if (current) item.setAttribute("aria-current", "step");
    item.addEventListener("click", () => { set_mode("matrix"); go(k + 1); });
    return item;
  }));
  if (line === null) return $("matrices").replaceChildren();
  let array = LINES[line][1], place = null, inner = null;
  if (mode === "matrix") place = focused(step);
  else {
    const home = N[step.ids[0]][step.kind];
    if (home && home[1] !== null) [, inner, place] = home;
  }
  if (inner !== null) array = inner;
  const reads = ARRAYS[array].reads, uses = place === null ? [] : ARRAYS[array].u[place];
  const all = [array, ...reads.filter((k) => k !== array)];
  $("matrices").replaceChildren(...all.map((k) => matrix(k, k === array ? place : null,
    uses.filter(([a]) => a === k).map(([, j]) => j), known, k === array && mode === "matrix", reached)));
}
function matrix(k, current, uses, known, whole, reached) {
  const a = ARRAYS[k], [rows, columns] = a.shape.length > 1 ? [a.shape[0], a.e.length / a.shape[0]] : [a.e.length, 1];
  const own = LINES.findIndex(([, array]) => array === k);
  const visible = (j) => typeof a.e[j] === "number" || (cells[k][j].length
    ? cells[k][j].some(([kind, i]) => known[kind].has(i)) : own >= 0 ? own <= reached : true);
  const table = el("table", { class: "entries" });
  for (let r = 0; r < rows; r++) {
    const row = el("tr");
    for (let c = 0; c < columns; c++) {
      const j = r * columns + c, asked = current === j && hidden();
      const classes = [j === current ? "current" : "", uses.includes(j) ? "use" : "", visible(j) || asked ? "" : "off", asked ? "asked" : ""];
      const cell = el("td", { class: classes.join(" ").trim() }, asked || (hidden() && whole) ? "?" : num(entries[k][j]));
      cell.addEventListener("click", () => click_cell(k, j));
      row.append(cell);
    }
    table.append(row);
  }
  return el("figure", {}, el("figcaption", {}, a.n + (a.shape.length ? ` (${a.shape.join("×")})` : "")), table);
}
function click_cell(array, place) {
  const own = LINES.findIndex(([, k]) => k === array);
  if (mode === "matrix" && steps()[at].line === own) { focus = [array, place]; render(); return; }
  const [kind, i] = cells[array][place][0] || [];
  if (kind === undefined) return;
  if (!N[i].op && kind === "v") { pick(i); return; }
  set_mode("element");
  go(elements.findIndex((s) => s.kind === kind && s.ids[0] === i));
}

const shapes = [...document.querySelectorAll("#drawing .node")].map((node) => {
  const place = /(?:^| )v(\d+)(?: |$)/.exec(node.getAttribute("class"));
  return place && { node, i: +place[1], box: node.classList.contains("box"), shape: node.querySelector("polygon, ellipse, path") };
}).filter(Boolean);
const edges = [...document.querySelectorAll("#drawing .edge")].map((node) => {
  const ends = /from(\d+) to(\d+)/.exec(node.getAttribute("class"));
  return ends && { node, from: +ends[1], to: +ends[2] };
}).filter(Boolean);
function color(g, largest) {
  const size = largest ? Math.min(1, Math.abs(g) / largest) : 0, strength = Math.log1p(999 * size) / Math.log(1000);
  return `rgb(${(g > 0 ? [242, 142, 43] : [86, 160, 220]).map((c) => Math.round(255 + strength * (c - 255))).join(",")})`;
}
function short(x) { return num(x, 3); }
function show_graph(step, known) {
  const now = new Set(step.ids), used = new Set();
  for (const i of now) {
    (step.kind === "v" ? operandsOf(N[i]) : users[i].map(([c]) => c)).forEach((x) => now.has(x) || used.add(x));
  }
  const largest = Math.max(...[...gradient].map(Math.abs).filter(isFinite));
  const paper = getComputedStyle(document.documentElement).getPropertyValue("--node");
  for (const { node, i, box, shape } of shapes) {
    const asked = hidden() && now.has(i);
    node.classList.toggle("off", !known.v.has(i) || (asked && step.kind === "v"));
    node.classList.toggle("nograd", !known.g.has(i) || (asked && step.kind === "g"));
    node.classList.toggle("current", now.has(i));
    node.classList.toggle("use", used.has(i));
    node.classList.toggle("picked", picked === i);
    if (box) {
      const texts = [...node.querySelectorAll("text")].slice(-2);
      texts[0].textContent = short(value[i]);
      texts[1].textContent = short(gradient[i]);
    }
    shape.style.fill = known.g.has(i) && !asked ? color(gradient[i], largest) : paper;
  }
  for (const { node, from, to } of edges) {
    node.classList.toggle("current", step.kind === "v" ? now.has(to) : step.kind === "g" && now.has(from) && known.g.has(to));
  }
}
for (const { node, i, box } of shapes) {
  if (box) [...node.querySelectorAll("text")].slice(-2).forEach((t, k) => t.classList.add(["value", "gradient"][k]));
  if (box && LEAVES.includes(i)) {
    node.classList.add("leaf");
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", N[i].n);
    node.addEventListener("click", () => pick(i));
    node.addEventListener("keydown", (e) => { if (e.key === "Enter") pick(i); });
  }
  node.addEventListener("mousemove", (e) => tip(e, `${N[i].n} = ${num(value[i], 6)}` + (N[i].reached ? `\n${derivative(i)} = ${num(gradient[i], 6)}` : "") +
    N[i].p.map(([o, rule]) => `\n∂${N[i].n}/∂${N[o].n} = ${text(rule, false)}${Array.isArray(rule) || typeof rule === "number" ? ` = ${num(number_of(rule))}` : ""}`).join("")));
  node.addEventListener("mouseleave", () => { $("tip").hidden = true; });
}
function tip(e, words) {
  if (hidden()) return;
  const box = $("tip");
  box.textContent = words;
  box.hidden = false;
  box.style.left = `${Math.max(4, Math.min(innerWidth - box.offsetWidth - 8, e.clientX + 14))}px`;
  box.style.top = `${Math.max(4, Math.min(innerHeight - box.offsetHeight - 8, e.clientY + 14))}px`;
}

function render() {
  const step = steps()[at], known = done();
  $("timeline").max = steps().length - 1;
  $("timeline").value = at;
  $("count").textContent = `${at} / ${steps().length - 1}`;
  $("first").disabled = $("back").disabled = at === 0;
  $("next").disabled = $("last").disabled = at === steps().length - 1;
  for (const m of ["element", "matrix"]) {
    $(m).setAttribute("aria-checked", m === mode);
    $(m).tabIndex = m === mode ? 0 : -1;
  }
  $("predict").setAttribute("aria-pressed", predicting);
  show_now(step);
  show_program(step, known);
  show_graph(step, known);
  show_change();
  write_address();
}
function go(k) {
  at = Math.max(0, Math.min(steps().length - 1, k));
  shown = false;
  render();
}
function set_mode(m) {
  if (m === mode) return;
  const step = steps()[at], line = line_of(step);
  mode = m;
  focus = [null, 0];
  if (step.kind === "start") at = 0;
  else if (m === "matrix") {
    at = line + 1;
    const home = N[step.ids[0]][step.kind];
    if (home && home[1] === LINES[line][1]) focus = [home[1], home[2]];
  } else {
    const wanted = cells[LINES[step.line][1]][focused_in(step)][0];
    const [kind, i] = wanted || [step.kind, step.ids[step.ids.length - 1]];
    at = Math.max(0, elements.findIndex((s) => s.kind === kind && s.ids[0] === i));
  }
  shown = false;
  render();
}
const focused_in = (step) => { mode = "matrix"; const place = focused(step); mode = "element"; return place; };
function play(on) {
  clearInterval(timer);
  timer = null;
  if (on) {
    if (at === steps().length - 1) at = 0;
    timer = setInterval(() => { if (at === steps().length - 1) play(false); else go(at + 1); }, 1100);
  }
  $("play").setAttribute("aria-pressed", on);
}

// Predict, then reveal

let said = "";
function question(name) {
  const input = el("input", { id: "answer", type: "text", inputmode: "text", autocomplete: "off", "aria-label": W.ask(name) });
  const verdict = el("p", { id: "verdict" });
  const check = el("button", { type: "button" }, W.check), reveal = el("button", { type: "button" }, W.reveal);
  const judge = () => {
    const x = Number(input.value.trim().replace(/−/g, "-").replace(",", "."));
    if (input.value.trim() === "" || isNaN(x)) { verdict.className = "wrong"; verdict.textContent = W.notNumber; return; }
    if (close(x, wanted())) { said = W.right; shown = true; render(); $("now").append(el("p", { class: "right" }, `✓ ${said}`)); return; }
    verdict.className = "wrong";
    verdict.textContent = `✗ ${W.wrong} ${slip(x)}`;
  };
  check.addEventListener("click", judge);
  input.addEventListener("keydown", (e) => { if (e.key === "Enter") judge(); });
  reveal.addEventListener("click", () => { shown = true; render(); });
  return el("div", {}, el("p", {}, el("b", {}, W.ask(name))), el("div", { class: "row" }, input, check, reveal), verdict);
}
// An answer is right to about two digits, as the numbers in the graph have three.
const close = (x, y) => Math.abs(x - y) <= 0.011 * Math.abs(y) + 1e-12;
function wanted() {
  const step = steps()[at];
  if (mode === "matrix") return entries[LINES[step.line][1]][focused(step)];
  return (step.kind === "v" ? value : gradient)[step.ids[0]];
}
// What was forgotten, if an answer is what comes out without it.
function slip(x) {
  const step = steps()[at], right = wanted();
  const found = mode === "matrix" ? entry_slips(step) : step.kind === "v" ? value_slips(step.ids[0]) : gradient_slips(step.ids[0]);
  const match = [...found, [-right, W.slipSign]].find(([y]) => isFinite(y) && close(x, y) && !close(right, y));
  return match ? match[1] : "";
}
function value_slips(i) {
  const n = N[i], out = [], f = n.f;
  if (Array.isArray(f)) {
    if (f[0] === "call" && f.length === 3) out.push([number_of(f[2]), W.slipInside(text(["call", f[1], { c: "…" }]).replace(/\(.*/, ""))]);
    if (f[0] === "sum") f.slice(1).forEach((t, k) => out.push([number_of(f.filter((_, j) => j !== k + 1)), W.slipTerm(text(t, false))]));
    if (f[0] === "product") {
      f.slice(1).forEach((t, k) => out.push([number_of(f.filter((_, j) => j !== k + 1)), W.slipFactor(text(t, false))]));
      out.push([sum(f.slice(1).map(number_of)), W.slipProduct]);
    }
    if (f[0] === "power") out.push([number_of(f[1]), W.slipInside(`(…)${text(["power", 0, f[2]]).replace(N[0].n, "")}`)]);
  }
  return [...out, [gradient[i], W.slipGradient(n.n)]];
}
function gradient_slips(i) {
  const ways = users[i].filter(([c]) => N[c].reached), out = [];
  const total = (changed, k) => sum(ways.map(([c, rule], j) => (j === k ? changed : gradient[c] * number_of(rule))));
  ways.forEach(([c, rule], k) => {
    if (ways.length > 1) out.push([total(0, k), W.slipWay(N[c].n)]);
    if (Array.isArray(rule) && rule[0] === "product") {
      rule.slice(1).forEach((f, j) => out.push([total(gradient[c] * number_of(rule.filter((_, m) => m !== j + 1)), k), W.slipFactor(text(f, false))]));
    }
    if (ways.length === 1) {
      if (c !== ROOT) out.push([number_of(rule), W.slipLocal]);
      out.push([gradient[c], W.slipArrived]);
    }
  });
  out.push([sum(ways.map(([c]) => gradient[c])), W.slipArrived], [value[i], W.slipValue(N[i].n)]);
  return out;
}
function entry_slips(step) {
  const array = LINES[step.line][1], place = focused(step), shape = ARRAYS[array].shape, out = [];
  if (shape.length === 2 && shape[0] === shape[1]) out.push([entries[array][(place % shape[1]) * shape[1] + Math.floor(place / shape[1])], W.slipTransposed]);
  for (const [kind, i] of cells[array][place].slice(0, 1)) out.push(...(kind === "v" ? value_slips(i) : gradient_slips(i)));
  return out;
}

// Changing numbers

const started = new Float64Array(N.length), gradient_at_start = new Float64Array(N.length);
function pick(i) {
  picked = i;
  const reach = Math.max(1, 2 * Math.abs(started[i]));
  Object.assign($("slide"), { min: started[i] - reach, max: started[i] + reach, value: value[i] });
  render();
}
function set_number(x) {
  if (picked === null || !isFinite(x)) return;
  value[picked] = x;
  compute();
  $("tip").hidden = true;
  render();
}
function show_change() {
  const has = picked !== null;
  $("slide").disabled = $("number").disabled = !has;
  $("leaf").value = has ? picked : "";
  if (!has) { $("effect").textContent = W.pick; $("chain").hidden = true; return; }
  if (document.activeElement !== $("slide")) $("slide").value = value[picked];
  if (document.activeElement !== $("number")) $("number").value = +value[picked].toPrecision(12);
  const l = N[ROOT].n, moved = value[picked] - started[picked];
  const others = LEAVES.some((i) => i !== picked && value[i] !== started[i]);
  $("effect").textContent = moved === 0
    ? W.untouched(derivative(picked), num(gradient[picked]), l, num(gradient[picked] * 0.01))
    : `${W.moved(N[picked].n, num(moved), l, num(value[ROOT] - started[ROOT]), num(gradient_at_start[picked] * moved))} ${others ? W.alone : ""} ${D.nodes.some((n) => n.op === "where" || n.op.startsWith("less")) ? W.branch : ""}`;
  const on = new Set([picked]);
  N.forEach((n, i) => { if (n.p.some(([o]) => on.has(o))) on.add(i); });
  const rows = D.backward.filter((i) => on.has(i) && i !== ROOT);
  $("chain").hidden = rows.length === 0 || hidden();
  $("chain").querySelector("summary").textContent = W.chain(l, N[picked].n, rows.length);
  $("chain").querySelector("div").replaceChildren(...rows.map((i) => el("div", {}, formula(derivative(i), ...backward_lines(i)))));
}

// Descending

let history = [];
function descend(count) {
  const rate = Number($("rate").value);
  if (!isFinite(rate) || !(rate > 0) || !PARAMETERS.length) return;
  const before = value[ROOT];
  const promised = -rate * sum(PARAMETERS.map((i) => gradient[i] ** 2));
  if (!history.length) history = [before];
  for (let k = 0; k < count && isFinite(value[ROOT]); k++) {
    const moves = PARAMETERS.map((i) => rate * gradient[i]);
    PARAMETERS.forEach((i, j) => { value[i] -= moves[j]; });
    compute();
    history.push(value[ROOT]);
  }
  render();
  const l = N[ROOT].n, after = value[ROOT];
  const words = [["", l], [W.before, num(before, 6)], [W.after, num(after, 6)], [W.change1, num(after - before)]];
  if (count === 1) words.push([W.said, num(promised)]);
  const table = el("table", {}, el("tr", {}, words.map(([head]) => el("th", {}, head))), el("tr", {}, words.map(([, x], j) => el(j ? "td" : "th", {}, x))));
  const verdict = !isFinite(after) ? W.broke : history.some((x, j) => j >= history.length - count && x > history[j - 1]) ? W.overshot(l) : W.descended(l);
  $("descent").replaceChildren(el("p", { class: verdict === W.descended(l) ? "right" : "wrong" }, `${W.steps(count)}: ${verdict}`), table, curve());
}
function curve() {
  const finite = history.filter(isFinite), top = Math.max(...finite), w = 400, h = 110;
  const x = (k) => 62 + (k / Math.max(1, history.length - 1)) * (w - 70), y = (v) => 8 + (1 - v / (top || 1)) * (h - 26);
  const path = finite.map((v, k) => `${k ? "L" : "M"}${x(k).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  const label = (px, py, anchor, words) => el("svg:text", { x: px, y: py, "text-anchor": anchor }, words);
  return el("svg:svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `${N[ROOT].n}: ${W.steps(history.length - 1)}` },
    el("svg:line", { x1: 62, x2: w - 8, y1: y(0), y2: y(0) }), el("svg:path", { d: path }),
    label(58, y(top) + 8, "end", num(top, 3)), label(58, y(0), "end", "0"), label(w - 8, h - 2, "end", W.steps(history.length - 1)));
}
function restore() {
  LEAVES.forEach((i) => { value[i] = started[i]; });
  history = [];
  compute();
  $("descent").replaceChildren(el("p", {}, PARAMETERS.length ? W.startDescent(PARAMETERS.length) : W.none));
  render();
}

// The address has the state, so that a link leads to a moment: #step=40&mode=matrix&pick=w2[2,1]

let reading = false;
function write_address() {
  if (reading) return;
  const state = [`step=${at}`, `mode=${mode}`];
  if (picked !== null) state.push(`pick=${encodeURIComponent(N[picked].n).replace(/%5B/g, "[").replace(/%5D/g, "]").replace(/%2C/g, ",")}`);
  if (predicting) state.push("predict=1");
  if (W === WORDS.zh) state.push("lang=zh");
  try { window.history.replaceState(null, "", `#${state.join("&")}`); } catch { /* in a sandboxed frame there is no address */ }
}
function read_address() {
  reading = true;
  const state = new URLSearchParams(location.hash.slice(1));
  speak(state.get("lang") || (W === WORDS.zh ? "zh" : D.language));
  if (["element", "matrix"].includes(state.get("mode"))) { mode = state.get("mode"); }
  predicting = state.get("predict") === "1";
  const i = LEAVES.find((leaf) => N[leaf].n === state.get("pick"));
  if (i !== undefined) pick(i);
  go(Math.trunc(Number(state.get("step"))) || 0);
  reading = false;
}

function speak(language) {
  W = WORDS[language] || WORDS.en;
  document.documentElement.lang = W === WORDS.zh ? "zh-Hant" : "en";
  $("language").value = W === WORDS.zh ? "zh" : "en";
  $("language").setAttribute("aria-label", W.language);
  for (const id of ["first", "back", "play", "next", "last", "timeline"]) { $(id).setAttribute("aria-label", W[id]); $(id).title = W[id]; }
  $("mode").setAttribute("aria-label", W.mode);
  for (const m of ["element", "matrix"]) { $(m).querySelector("b").textContent = W[m]; $(m).querySelector("small").textContent = W[`${m}Note`]; }
  $("predict").textContent = W.predict;
  $("graph").setAttribute("aria-label", W.graph);
  for (const id of ["program", "change", "descend"]) $(id).querySelector("h2").textContent = W[id];
  $("leaf").setAttribute("aria-label", W.leaf);
  for (const id of ["slide", "number"]) $(id).setAttribute("aria-label", W.slide);
  for (const [id, word] of [["reset", "reset"], ["restart", "reset"], ["once", "once"], ["hundred", "hundred"]]) $(id).textContent = W[word];
  $("rate").previousElementSibling.textContent = W.rate;
  $("legend").replaceChildren(...["current", "use", "positive", "negative"].map((k) => el("span", {}, el("i", { class: k }), W[k])), el("span", {}, W.boxes));
  if (!history.length) $("descent").replaceChildren(el("p", {}, PARAMETERS.length ? W.startDescent(PARAMETERS.length) : W.none));
}

// Begin

N.forEach((n, i) => { value[i] = n.d; });
compute();
started.set(value);
gradient_at_start.set(gradient);
$("leaf").append(el("option", { value: "", disabled: "" }, "–"), ...LEAVES.map((i) => el("option", { value: i }, N[i].n)));
$("drawing").querySelector("svg").setAttribute("role", "group");
for (const [id, action] of Object.entries({
  first: () => go(0), back: () => go(at - 1), next: () => go(at + 1), last: () => go(Infinity), play: () => play(!timer),
  element: () => set_mode("element"), matrix: () => set_mode("matrix"), reset: restore, restart: restore,
  once: () => descend(1), hundred: () => descend(100),
  predict: () => { predicting = !predicting; shown = false; render(); },
})) $(id).addEventListener("click", action);
$("timeline").addEventListener("input", (e) => go(+e.target.value));
$("leaf").addEventListener("change", (e) => pick(+e.target.value));
$("slide").addEventListener("input", (e) => set_number(+e.target.value));
$("number").addEventListener("input", (e) => { if (e.target.value !== "") set_number(+e.target.value); });
$("language").addEventListener("change", (e) => { speak(e.target.value); render(); });
addEventListener("hashchange", read_address);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
addEventListener("keydown", (e) => {
  const tag = e.target.tagName || "", own = e.target.id === "timeline";
  if (e.ctrlKey || e.metaKey || e.altKey || ((/INPUT|SELECT|TEXTAREA/.test(tag)) && !own)) return;
  const keys = {
    ArrowRight: () => go(at + 1), ArrowLeft: () => go(at - 1), Home: () => go(0), End: () => go(Infinity),
    e: () => set_mode("element"), m: () => set_mode("matrix"), Escape: () => { picked = null; play(false); render(); },
  };
  keys.E = keys.e;
  keys.M = keys.m;
  if (e.key === " " && tag !== "BUTTON" && tag !== "SUMMARY") keys[" "] = () => play(!timer);
  if (keys[e.key]) { keys[e.key](); e.preventDefault(); }
});
read_address();
