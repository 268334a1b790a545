"use strict";
// The page of a lesson. Its data are the graph, formulas and the matrix program, as lesson.py writes them:
// a node is given by its place, an entry of an array is [array, place, sign], and a tree is a number
// {c: 0.5}, a node's place, or a list with its type at the head: ["product", 3, ["negative", 4]].

const $ = (id) => document.getElementById(id);
const D = JSON.parse($("data").textContent);
const N = D.nodes, ARRAYS = D.arrays, LINES = D.lines, ROOT = D.root;

// The primitives, on numbers. Derivatives are not here: each node has them as formulas from the engine's table.
const sum = (xs) => xs.reduce((s, x) => s + x, 0);
// The remainder has the sign of y, as in Python.
const rest = (x, y) => (x % y && x % y < 0 !== y < 0 ? (x % y) + y : x % y);
// erf by a series of positive terms; erfc, for large x, by a continued fraction.
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, out = x;
  for (let n = 1; n < 150; n++) out += term *= (2 * x * x) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * out;
}
function erfc(x) {
  if (x < 2) return 1 - erf(x);
  let below = x;
  for (let n = 200; n > 0; n--) below = x + n / 2 / below;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / below;
}
const BERNOULLI = [1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330];
const modulo = (x) => x - Math.floor(x);
// Stirling's series from 20 on; Γ(x + 1) = x Γ(x) below that, and reflections below 0.
function lgamma(x) {
  if (x === 1 || x === 2) return 0;
  if (x <= 0) return Math.log(Math.PI / Math.abs(Math.sin(Math.PI * (x - Math.round(x))))) - lgamma(1 - x);
  let product = 1;
  for (; x < 20; x++) product *= x;
  const series = BERNOULLI.map((b, j) => b / (2 * j + 2) / (2 * j + 1) / x ** (2 * j + 1));
  return (x - 0.5) * (Math.log(x) - 1) + 0.5 * Math.log(2 * Math.PI) - 0.5 + sum(series) - Math.log(product);
}
function polygamma(n, x) {
  if (x <= 0) {
    return polygamma(n, modulo(x) || 1) + (-1) ** n * (polygamma(n, 1 - x) - polygamma(n, Math.ceil(x) - x));
  }
  let total = 0, factorial = 1;
  for (; x < 20; x++) total += x ** (-n - 1);
  for (let k = 2; k <= n; k++) factorial *= k;
  let term = ((n + 1) * factorial) / x ** (n + 2) / 2;
  let out = (n ? factorial / x ** n / n : -Math.log(x)) + factorial * (0.5 / x ** (n + 1) + total);
  BERNOULLI.forEach((b, j) => {
    out += b * term;
    term *= ((n + 2 * j + 2) * (n + 2 * j + 3)) / x / x / (2 * j + 3) / (2 * j + 4);
  });
  return n % 2 ? out : -out;
}
function logsumexp(xs) {
  const largest = Math.max(...xs);
  return largest + Math.log(sum(xs.map((x) => Math.exp(x - largest))));
}
const PRIMITIVES = {
  add: (x, y) => x + y, sub: (x, y) => x - y, mul: (x, y) => x * y, div: (x, y) => x / y, pow: Math.pow,
  neg: (x) => -x, exp: Math.exp, log: Math.log, sqrt: Math.sqrt, sin: Math.sin, cos: Math.cos, tanh: Math.tanh,
  sigmoid: (x) => (x < -709 ? Math.exp(x) : 1 / (1 + Math.exp(-x))),
  relu: (x) => (x <= 0 ? 0 : x),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  abs: Math.abs, sign: (x) => (x === 0 || x !== x ? x : Math.sign(x)),
  step: (x, y) => (x > y ? 1 : x < y ? 0 : x === y ? 0.5 : NaN),
  maximum: Math.max, minimum: Math.min,
  tan: Math.tan, asin: Math.asin, acos: Math.acos, atan: Math.atan, sinh: Math.sinh, cosh: Math.cosh,
  asinh: Math.asinh, acosh: Math.acosh, atanh: Math.atanh, log1p: Math.log1p, expm1: Math.expm1, log2: Math.log2,
  log10: Math.log10, cbrt: Math.cbrt, atan2: Math.atan2, hypot: Math.hypot, erf: erf, erfc: erfc, lgamma: lgamma,
  logaddexp: (x, y) => Math.max(x, y) + Math.log1p(Math.exp(-Math.abs(x - y))), polygamma: polygamma,
  floor: Math.floor, ceil: Math.ceil, remainder: rest,
  floor_divide: (x, y) => Math.round((x - rest(x, y)) / y),
  copysign: (x, y) => (y < 0 || Object.is(y, -0) ? -Math.abs(x) : Math.abs(x)),
  detach: (x) => x, less: (x, y) => Number(x < y), less_equal: (x, y) => Number(x <= y),
  equal: (x, y) => Number(x === y), logical_and: Math.min, logical_or: Math.max, logical_not: (x) => 1 - x,
  where: (x, ys) => (x ? ys[0] : ys[1]),
  dot: (xs, ys) => sum(xs.map((x, i) => x * ys[i])), total: sum,
  logsumexp: (...xs) => logsumexp(xs.flat()),
  largest: (...xs) => Math.max(...xs.flat()), smallest: (...xs) => Math.min(...xs.flat()),
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
  ARRAYS.forEach((a, k) => a.e.forEach((e, j) => { entries[k][j] = compute_entry(e, entry); }));
}
// An entry: a node's number, a row of the table, or a sum of products. `of` gives the numbers of its factors.
function compute_entry(e, of) {
  if (typeof e === "number") return value[e];
  const [row, terms] = e;
  if (!row) return sum(terms.map((term) => term.map(of).reduce((p, f) => p * f, 1)));
  const xs = terms[0].map(of);
  if (row === "where") return PRIMITIVES.where(xs[0], xs.slice(1));
  return xs.length > 2 ? xs.reduce((x, y) => PRIMITIVES[row](x, y)) : PRIMITIVES[row](...xs);
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
// A tree as text, in names or in numbers, and the precedence of that text.
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

// A DOM element with its children: text is never markup.
function el(tag, attributes, ...children) {
  const node = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, x] of Object.entries(attributes || {})) node.setAttribute(name, x);
  node.append(...children.flat().filter((x) => x !== null && x !== undefined && x !== ""));
  return node;
}
// Equations below one another; a line breaks between its terms.
const formula = (left, ...lines) => lines.map((line, i) =>
  el("div", { class: "formula" + (i === lines.length - 1 ? " result" : "") },
    `${i ? "   " : left} = `, line.split(/(?= [+−] )/).map((term) => el("span", term.length < 40 ? { class: "term" } : {}, term))));

// Words

const WORDS = {
  en: {
    predict: "Predict first", language: "Language", first: "To the start (Home)", back: "One step back (←)",
    play: "Play (space)", next: "One step on (→)", last: "To the end (End)", timeline: "Step", controls: "Steps",
    mode: "Size of a step", element: "Element", elementNote: "one number at a time",
    matrix: "Matrix", matrixNote: "one line at a time", graph: "The graph of the computation", zoom: "Larger",
    program: "The matrix program found in these scalars", change: "Change a number",
    leaf: "Which number", slide: "Its value", reset: "Reset it", chain: (l, n, k) => `The chain from ${l} back to ${n}: ${k} derivatives`,
    descend: "Descend: steps against the gradient", rate: "Rate", once: "One step", hundred: "100 steps", restart: "Reset all",
    current: "computed now", use: "computed from these", positive: "gradient above 0", negative: "below 0", value: "value", gradient: "gradient",
    start: (l) => `The boxes with a value are given. Step forward: first every value up to ${l} is computed, then every derivative on the way back.`,
    startKeys: "→ steps on, E and M switch between element and matrix, space plays. Click a number in the graph to change it.",
    forward: (n) => `Forward: ${n} is computed.`,
    seed: (l) => `Backward begins: the derivative of ${l} with respect to itself is 1.`,
    backRoot: (n, l) => `Backward: ${n} is used in ${l} itself, so its derivative is the local derivative.`,
    back1: (n, u) => `Backward: ${n} is used in ${u}. Multiply the derivative that has arrived there by the local derivative.`,
    backMany: (n, k) => `Backward: ${n} is used in ${k} places. The derivatives that come back through each are added.`,
    line: (back, a, k) => `${back ? "Backward" : "Forward"}: this line computes ${k > 1 ? `all entries of ${a}, ${k} at once` : a}.`,
    oneEntry: "One of its entries:", kinds: ["number", "vector", "matrix", "array"],
    isEntry: (kind, a) => (kind ? `In the program, an entry of a ${WORDS.en.kinds[Math.min(kind, 3)]}: ${a}` : `In the program: ${a}`),
    inside: (a) => ` (inside the line of ${a})`, also: (a, list) => `${a} is also ${list.join(" and ")}`,
    part: (a) => `An intermediate number, on the way to ${a}`, noLine: "No line of the program computes this number.", from: "from",
    unknown: (n) => `${n}: its derivative is not known yet.`,
    untouched: (d, g, l, m) => `${d} = ${g}: if it moves by 0.01, ${l} moves by about ${m}.`,
    moved: (n, dx, l, dl, said) => `${n} moved by ${dx}: ${l} moved by ${dl}; the gradient had said ${said}.`,
    branch: "(An if of the Python code is not replayed.)", pick: "Choose a number here or click one in the graph.",
    before: "before", after: "after", moves: "change", said: "gradient said", steps: (k) => `${k} step${k > 1 ? "s" : ""}`,
    overshot: (l, k) => (k > 1 ? `${l} rose in ${k} of these steps, although each went down the slope: they were too long. Try a smaller rate.` : `${l} rose, although the step went down the slope: it was too long. Try a smaller rate.`),
    descended: (l) => `${l} went down.`, still: (l) => `${l} no longer changes.`,
    startDescent: (k) => `Each of the ${k} parameters moves by −rate · its gradient.`, none: "There is no parameter to move.",
    badRate: "The rate is a number above 0.", broke: "The numbers are no longer finite: reset, and take a smaller rate.",
    ask: (n) => `What is ${n}?`, check: "Check", reveal: "Reveal", right: "Right.", wrong: "Not yet.",
    slipSign: "The sign is wrong.", slipFactor: (f) => `The factor ${f} is missing.`, slipWay: (u) => `The way through ${u} is missing.`,
    slipValue: (n) => `That is the value of ${n}, not its gradient.`, slipLocal: "That is the local derivative alone: multiply it by the derivative that has arrived.",
    slipArrived: "That is the derivative that has arrived: multiply it by the local derivative.", slipTerm: (t) => `The term ${t} is missing.`,
    slipInside: (f) => `That is the number inside ${f}: apply ${f} to it.`, slipTransposed: "That is the entry with row and column exchanged.",
    slipRows: (a) => `Rows and columns of ${a} are exchanged.`, slipProduct: "The operands are added where they should be multiplied.", notNumber: "That is no number.",
    titles: {},
  },
  zh: {
    predict: "先猜再看", language: "語言", first: "回到開頭（Home）", back: "上一步（←）",
    play: "播放（空白鍵）", next: "下一步（→）", last: "到最後（End）", timeline: "步驟", controls: "步驟",
    mode: "每一步算多少", element: "元素", elementNote: "一次一個數字",
    matrix: "矩陣", matrixNote: "一次一行矩陣算式", graph: "計算圖", zoom: "放大",
    program: "由這些純量歸納出的矩陣程式", change: "改變一個數字",
    leaf: "哪一個數字", slide: "它的值", reset: "還原", chain: (l, n, k) => `從 ${l} 到 ${n} 的連鎖律：${k} 個導數`,
    descend: "梯度下降：沿著梯度的反方向走", rate: "學習率", once: "走一步", hundred: "走 100 步", restart: "全部還原",
    current: "正在計算", use: "由這些算出", positive: "梯度大於 0", negative: "小於 0", value: "值", gradient: "梯度",
    start: (l) => `有數值的方框是給定的。一步一步往前：先算出直到 ${l} 的每個值，再往回算每個導數。`,
    startKeys: "→ 是下一步，E 和 M 切換元素與矩陣，空白鍵播放。點圖裡的數字就能改變它。",
    forward: (n) => `前向傳播：計算 ${n}。`,
    seed: (l) => `反向傳播開始：${l} 對自己的導數是 1。`,
    backRoot: (n, l) => `反向傳播：${n} 直接用來算 ${l}，所以只有局部導數。`,
    back1: (n, u) => `反向傳播：${n} 被 ${u} 用到。把已傳到那裡的導數乘上局部導數。`,
    backMany: (n, k) => `反向傳播：從 ${n} 出發有 ${k} 條路。沿每條路傳回來的都要相加。`,
    line: (back, a, k) => `${back ? "反向" : "前向"}傳播：這條算式計算 ${k > 1 ? `${a} 的全部 ${k} 個元素` : a}。`,
    oneEntry: "其中一個元素：", kinds: ["純量", "向量", "矩陣", "陣列"],
    isEntry: (kind, a) => (kind ? `在程式裡是${WORDS.zh.kinds[Math.min(kind, 3)]}的一個元素：${a}` : `在程式裡：${a}`),
    inside: (a) => `（在 ${a} 那條算式裡）`, also: (a, list) => `${a} 也是 ${list.join("，也是 ")}`,
    part: (a) => `中間的數字，用來算 ${a}`, noLine: "程式不會單獨算出這個數字。", from: "來自",
    unknown: (n) => `還不知道 ${n} 的導數。`,
    untouched: (d, g, l, m) => `${d} = ${g}：它變動 0.01 時，${l} 約變動 ${m}。`,
    moved: (n, dx, l, dl, said) => `${n} 變動了 ${dx}：${l} 變動了 ${dl}；梯度原本預測 ${said}。`,
    branch: "（Python 程式裡的 if 不會重新判斷。）", pick: "在這裡選一個數字，或點圖裡的數字。",
    before: "之前", after: "之後", moves: "變動", said: "梯度預測", steps: (k) => `${k} 步`,
    overshot: (l, k) => (k > 1 ? `每一步都沿梯度的反方向走，但其中 ${k} 步讓 ${l} 變大了：步伐太大。試試較小的學習率。` : `這一步沿梯度的反方向走，${l} 卻變大了：步伐太大。試試較小的學習率。`),
    descended: (l) => `${l} 變小了。`, still: (l) => `${l} 不再變動。`,
    startDescent: (k) => `${k} 個參數各自移動 −學習率 · 梯度。`, none: "沒有可以移動的參數。",
    badRate: "學習率是大於 0 的數字。", broke: "數值已經溢位，請還原並改用較小的學習率。",
    ask: (n) => `${n} 是多少？`, check: "檢查", reveal: "看答案", right: "答對了。", wrong: "還不對。",
    slipSign: "正負號錯了。", slipFactor: (f) => `少乘了 ${f}。`, slipWay: (u) => `少加了經過 ${u} 的那條路。`,
    slipValue: (n) => `那是 ${n} 的值，不是它的梯度。`, slipLocal: "那只是局部導數：還要乘上已傳到的導數。",
    slipArrived: "那是已傳到的導數：還要乘上局部導數。", slipTerm: (t) => `少加了 ${t}。`,
    slipInside: (f) => `那是 ${f} 裡面的數：還要套用 ${f}。`, slipTransposed: "那是轉置後的元素。",
    slipRows: (a) => `${a} 的行和列弄反了。`, slipProduct: "該相乘的地方相加了。", notNumber: "那不是數字。",
    titles: { inputs: "輸入", "output layer": "輸出層", loss: "損失", "hidden layer": "隱藏層" },
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
const cells = ARRAYS.map((a) => a.e.map(() => []));  // the numbers of the graph that each entry holds
N.forEach((n, i) => {
  for (const kind of ["v", "g"]) if (n[kind] && n[kind][1] !== null) cells[n[kind][1]][n[kind][2]].push([kind, i]);
});
const LEAVES = N.map((_, i) => i).filter((i) => !N[i].op && N[i].named);
const PARAMETERS = LEAVES.filter((i) => !N[i].data && N[i].reached);
const turn = new Map(D.backward.map((i, k) => [i, k]));
users.forEach((u) => u.sort(([a], [b]) => turn.get(a) - turn.get(b)));
const ways_of = (i) => users[i].filter(([c]) => N[c].reached);

let mode = "element", at = 0, picked = null, timer = null, predicting = false, shown = false;
let focus = [null, 0], came = null;  // the entry that matrix mode shows, and the element that led to it
const steps = () => (mode === "element" ? elements : lines);

// The values and derivatives that have been computed by now.
function done() {
  const v = new Set(), g = new Set(), now = steps()[at];
  N.forEach((n, i) => { if (!n.op) v.add(i); });
  for (const step of steps().slice(0, at + 1)) step.ids.forEach((i) => (step.kind === "v" ? v : g).add(i));
  if (now.kind === "g") N.forEach((_, i) => v.add(i));
  if (mode === "matrix") {  // also numbers without a line that the lines so far need
    for (let i = N.length - 1; i >= 0; i--) if (v.has(i)) operandsOf(N[i]).forEach((x) => v.add(x));
    if (now.kind === "g") {
      N.forEach((n, i) => { if (n.g && n.g[0] !== null && !isBackward[n.g[0]]) g.add(i); });
      for (const i of [...D.backward].reverse()) if (g.has(i)) ways_of(i).forEach(([c]) => g.add(c));
    }
  }
  return { v, g };
}
// The home of a number in the program, or of the first number computed from it that has one: [line, array, place].
function home_of(kind, i) {
  const seen = new Set(), queue = [i];
  let line_alone = null;
  for (const j of queue) {
    const home = N[j][kind];
    if (home && (j === i || kind === "v" || isBackward[home[0]])) {
      if (home[1] !== null) return { home, own: j === i };
      line_alone ??= { home, own: j === i };
    }
    const next = kind === "v" ? users[j].map(([c]) => c) : N[j].p.map(([o]) => o);
    for (const k of next) if (!seen.has(k)) { seen.add(k); queue.push(k); }
  }
  return line_alone;
}
function line_of(step) {
  if (step.kind === "start") return null;
  if (mode === "matrix") return step.line;
  const found = home_of(step.kind, step.ids[0]);
  return found ? found.home[0] : null;
}

// Showing a step

function hidden() {
  const step = steps()[at];
  return predicting && !shown && step.kind !== "start" && !(mode === "element" && step.kind === "g" && step.ids[0] === ROOT);
}
const without_repeats = (lines) => lines.filter((line, k) => line !== lines[k + 1]);
function forward_lines(i) {
  return without_repeats([text(N[i].f, false), text(N[i].f, true), num(value[i], 6)]);
}
function backward_lines(i) {
  if (i === ROOT) return ["1"];
  const ways = ways_of(i), result = num(gradient[i], 6);
  const plain = (rule) => !Array.isArray(rule) && rule.c === 1;
  const join = (...parts) => parts.filter((x) => x !== "").join(" · ");
  const along = (first, last) => ways.map(([c, rule]) => join(c === ROOT ? "" : first(c), last(c, rule))).join(" + ");
  const local = (rule, c, write) => (plain(rule) && c !== ROOT ? "" : write(rule));
  // (If x is used in several places, the output itself among them, ∂L/∂x is no local derivative: show its rule.)
  const symbols = along((c) => derivative(c), (c, rule) => (c === ROOT && ways.length > 1 ? factor(rule, false) : `∂${N[c].n}/∂${N[i].n}`));
  const rules = along((c) => derivative(c), (c, rule) => local(rule, c, (r) => (ways.length > 1 || c !== ROOT ? factor(r, false) : text(r, false))));
  const numbers = along((c) => bracketed(gradient[c]), (c, rule) => local(rule, c, (r) => bracketed(number_of(r))));
  const lines = [symbols, rules];
  if (/ [·+] /.test(numbers)) lines.push(numbers);
  return without_repeats([...lines.filter((line) => line !== derivative(i)), result]);
}
const left_of = (step) => (step.kind === "v" ? N[step.ids[0]].n : derivative(step.ids[0]));
const lines_for = (step) => (step.kind === "v" ? forward_lines(step.ids[0]) : backward_lines(step.ids[0]));

function sentence(step) {
  if (step.kind === "start") return W.start(N[ROOT].n);
  if (mode === "matrix") return W.line(isBackward[step.line], ARRAYS[LINES[step.line][1]].n, ARRAYS[LINES[step.line][1]].e.length);
  const [i] = step.ids, l = N[ROOT].n;
  if (step.kind === "v") return W.forward(N[i].n);
  if (i === ROOT) return W.seed(l);
  const ways = ways_of(i);
  if (ways.length > 1) return W.backMany(N[i].n, ways.length);
  return ways[0][0] === ROOT ? W.backRoot(N[i].n, l) : W.back1(N[i].n, N[ways[0][0]].n);
}
function index_of(array, place) {
  const shape = ARRAYS[array].shape, index = [];
  for (let k = shape.length - 1, rest = place; k >= 0; k--) { index.unshift(rest % shape[k]); rest = Math.floor(rest / shape[k]); }
  return index;
}
function entry_name(array, place) {
  const index = index_of(array, place);
  return ARRAYS[array].n + (index.length ? `[${index.join(",")}]` : "");
}
const name_of = ([kind, i]) => (kind === "v" ? N[i].n : derivative(i));
const chip = (words) => el("div", { class: "chip" }, words);
// The name of this number in the program, and its other names.
function chips(step) {
  const [i] = step.ids, found = home_of(step.kind, i);
  if (!found) return [chip(W.noLine)];
  const [line, array, place] = found.home;
  const of_line = line === null ? "" : ARRAYS[LINES[line][1]].n;
  if (!found.own || array === null) {
    const to = array === null ? of_line : entry_name(array, place);
    const made = array !== null && !hidden() ? ARRAYS[array].f[place] : "";
    return [chip(W.part(to + (made ? ` = ${made}` : "")))];
  }
  const a = ARRAYS[array], name = entry_name(array, place), made = hidden() ? "" : a.f[place];
  const inside = line === null || array === LINES[line][1] ? "" : W.inside(of_line);
  const out = [chip(W.isEntry(a.shape.length, name + inside + (made ? ` = ${made}` : "")))];
  const others = cells[array][place].map(name_of).filter((n) => n !== left_of(step) && n !== name);
  if (others.length && !hidden()) out.push(chip(W.also(name, [...new Set(others)])));
  return out;
}
function show_now(step) {
  const box = $("now"), parts = [el("p", {}, sentence(step))];
  if (step.kind === "start") parts.push(el("p", {}, W.startKeys));
  else if (mode === "element") {
    parts.push(...(hidden() ? [question(left_of(step))] : formula(left_of(step), ...lines_for(step))), ...chips(step));
  } else {
    const [line, array] = LINES[step.line], a = ARRAYS[array], place = focused(step);
    const shape = (k) => ARRAYS[k].n + (ARRAYS[k].shape.length ? ` (${ARRAYS[k].shape.join("×")})` : "");
    parts.push(el("div", { class: "formula result" }, line.replace(/\s+#.*/, "")), el("div", { class: "formula" }, `${shape(array)} ${W.from} ${a.reads.map(shape).join(", ")}`));
    if (hidden()) parts.push(question(entry_name(array, place)));
    else if (a.shape.length) parts.push(chip(`${W.oneEntry} ${entry_name(array, place)} = ${a.f[place]} = ${num(entries[array][place], 6)}`));
    const others = cells[array][place].map(name_of).filter((n) => n !== entry_name(array, place));
    if (others.length && !hidden()) parts.push(chip(`${entry_name(array, place)}: ${[...new Set(others)].join(" = ")}`));
  }
  box.replaceChildren(...parts);
  box.style.minHeight = `${Math.max(parseFloat(box.style.minHeight) || 0, box.offsetHeight)}px`;  // so that nothing jumps
}
function focused(step) {
  const array = LINES[step.line][1];
  return focus[0] === array ? focus[1] : 0;
}

// The matrices of the current line: the current entry, and the entries that it is computed from.
function show_program(step, known) {
  const line = line_of(step), reached = steps().slice(0, at + 1).reduce((m, s) => Math.max(m, line_in(s)), -1);
  $("lines").replaceChildren(...LINES.map(([words], k) => {
    const current = k === line, button = el("button", { type: "button" }, words);
    const item = el("li", { class: current ? "current" : k <= reached ? "done" : "" }, button);
    if (current) item.setAttribute("aria-current", "step");
    button.addEventListener("click", () => { stop(); set_mode("matrix"); go(k + 1); });
    return item;
  }));
  $("program").querySelector("h2").hidden = !LINES.length;
  if (line === null) return $("matrices").replaceChildren();
  let array = LINES[line][1], place = null, uses = null;
  if (mode === "matrix") place = focused(step);
  else {
    const [i] = step.ids, found = home_of(step.kind, i);
    if (found.own && found.home[1] !== null) [, array, place] = found.home;
    else uses = sources(step.kind, i);  // for an intermediate number
  }
  if (uses === null) uses = place === null ? [] : ARRAYS[array].u[place];
  const text_of = LINES[line][0].replace(/^.*? = /, "");
  const position = (k) => { const found = text_of.search(new RegExp(`\\b${ARRAYS[k].n}\\b`)); return found < 0 ? 1e9 : found; };
  const reads = ARRAYS[array].reads.filter((k) => k !== array).sort((j, k) => position(j) - position(k));
  const rows = as_rows(array, reads);
  const figures = [array, ...reads].map((k) => matrix(k, k === array ? place : null,
    uses.filter(([a]) => a === k).map(([, j]) => j), known, k === array && mode === "matrix", reached, rows.has(k)));
  $("matrices").replaceChildren(figures[0], ...(reads.length ? [el("span", { class: "made" }, "⟸")] : []), ...figures.slice(1));
}
function line_in(step) {
  if (step.kind === "start") return -1;
  if (step.line !== undefined) return step.line;
  const home = N[step.ids[0]][step.kind];
  return home ? home[0] ?? -1 : -1;
}
// The entries that a number without a place is computed from: its operands, or the derivatives and the names in the rules.
function sources(kind, i) {
  const found = [], add = (k, j) => { if (N[j][k] && N[j][k][1] !== null) found.push([N[j][k][1], N[j][k][2]]); };
  if (kind === "v") operandsOf(N[i]).forEach((x) => add("v", x));
  else {
    const names = (tree) => { if (typeof tree === "number") add("v", tree); else if (Array.isArray(tree)) tree.slice(1).forEach(names); };
    ways_of(i).forEach(([c, rule]) => { add("g", c); names(rule); });
  }
  return found;
}
// The vectors to draw as rows: the second one of an outer product, and all in δ w, which takes columns of w.
function as_rows(array, reads) {
  const a = ARRAYS[array], vectors = [array, ...reads].filter((k) => ARRAYS[k].shape.length === 1), rows = new Set();
  if (a.shape.length === 2 && a.shape[1] > 1) {
    const uses = a.u[1];  // those of entry [0,1]
    for (const k of vectors) if (uses.some(([b, j]) => b === k && j === 1) && !uses.some(([b, j]) => b === k && j === 0)) rows.add(k);
  } else if (a.shape.length === 1) {
    const by_column = reads.some((k) => {
      const taken = a.u[0].filter(([b]) => b === k).map(([, j]) => j), width = ARRAYS[k].shape[1];
      return ARRAYS[k].shape.length === 2 && taken.length > 1 && taken.every((j) => j % width === taken[0] % width);
    });
    if (by_column) vectors.forEach((k) => rows.add(k));
  }
  return rows;
}
function matrix(k, current, uses, known, whole, reached, is_row) {
  const a = ARRAYS[k], rank = a.shape.length, width = rank > 1 ? a.shape[rank - 1] : is_row ? a.e.length : 1;
  const own = LINES.findIndex(([, array]) => array === k);
  const visible = (j) => typeof a.e[j] === "number" || (cells[k][j].length
    ? cells[k][j].some(([kind, i]) => known[kind].has(i)) : own >= 0 ? own <= reached : true);
  const height = rank > 2 ? a.shape[rank - 2] : a.e.length / width;
  const tables = [];
  for (let first = 0; first < a.e.length; first += height * width) {
    const table = el("table", { class: "entries" });
    for (let r = 0; r < height; r++) {
      const row = el("tr");
      for (let c = 0; c < width; c++) {
        const j = first + r * width + c, asked = current === j && hidden();
        const classes = [j === current ? "current" : "", uses.includes(j) ? "use" : "", visible(j) || asked ? "" : "off", asked ? "asked" : ""];
        const cell = el("td", { class: classes.join(" ").trim() }, asked || (hidden() && whole) ? "?" : num(entries[k][j]));
        cell.addEventListener("click", () => click_cell(k, j));
        row.append(cell);
      }
      table.append(row);
    }
    if (rank > 2) tables.push(el("figcaption", {}, `[${index_of(k, first).slice(0, -2).join(",")}]`));
    tables.push(table);
  }
  return el("figure", {}, el("figcaption", {}, a.n + (rank ? ` (${a.shape.join("×")})` : "")), tables);
}
function click_cell(array, place) {
  stop();
  const own = LINES.findIndex(([, k]) => k === array), [kind, i] = cells[array][place][0] || [];
  if (kind === "v" && !N[i].op) pick(i);
  else if (mode === "matrix") {
    if (own < 0) return;
    focus = [array, place];
    go(own + 1);
  } else if (kind !== undefined) go(elements.findIndex((s) => s.kind === kind && s.ids[0] === i));
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
      texts[0].textContent = num(value[i], 3);
      texts[1].textContent = num(gradient[i], 3);
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
    node.addEventListener("click", () => pick(i));
  } else node.addEventListener("click", (e) => tip(e, about(i)));
  node.addEventListener("mousemove", (e) => tip(e, about(i)));
  node.addEventListener("mouseleave", () => { $("tip").hidden = true; });
}
function about(i) {
  const n = N[i], known = done(), out = [`${n.n} = ${known.v.has(i) ? num(value[i], 6) : "?"}`];
  if (n.reached) out.push(`${derivative(i)} = ${known.g.has(i) ? num(gradient[i], 6) : "?"}`);
  if (known.v.has(i)) {
    for (const [o, rule] of n.p) out.push(`∂${n.n}/∂${N[o].n} = ${text(rule, false)}${Array.isArray(rule) || typeof rule === "number" ? ` = ${num(number_of(rule))}` : ""}`);
  }
  return out.join("\n");
}
function tip(e, words) {
  const box = $("tip");
  box.hidden = hidden();
  box.textContent = words;
  box.style.left = `${Math.max(4, Math.min(innerWidth - box.offsetWidth - 8, e.clientX + 14))}px`;
  box.style.top = `${Math.max(4, Math.min(innerHeight - box.offsetHeight - 8, e.clientY + 14))}px`;
}
// Scroll a box, and nothing around it, so that its marked part is in view.
function follow(box, part) {
  if (!part) return;
  const outer = box.getBoundingClientRect(), inner = part.getBoundingClientRect();
  if (inner.left < outer.left || inner.right > outer.right) box.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
  if (inner.top < outer.top || inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top - (outer.height - inner.height) / 2;
}

function render() {
  const step = steps()[at], known = done(), last = steps().length - 1;
  Object.assign($("timeline"), { max: last, value: at });
  $("timeline").setAttribute("aria-valuetext", `${at} / ${last}: ${sentence(step)}`);
  $("count").textContent = `${at} / ${last}`;
  $("first").disabled = $("back").disabled = at === 0;
  $("next").disabled = $("last").disabled = at === last;
  for (const m of ["element", "matrix"]) {
    $(m).setAttribute("aria-checked", m === mode);
    $(m).tabIndex = m === mode ? 0 : -1;
  }
  $("matrix").disabled = !LINES.length;
  $("predict").setAttribute("aria-pressed", predicting);
  show_now(step);
  show_program(step, known);
  show_graph(step, known);
  show_change(known);
  follow($("drawing"), document.querySelector("#drawing .node.current"));
  document.querySelectorAll("#matrices figure").forEach((figure) => follow(figure, figure.querySelector(".current, .use")));
  if (!timer) tell(hidden() ? sentence(step) : `${sentence(step)} ${$("now").querySelector(".result")?.textContent || ""}`);
  write_address();
}
function tell(words) {  // to a screen reader
  if ($("live").textContent !== words) $("live").textContent = words;
}
function go(k) {
  at = Math.max(0, Math.min(steps().length - 1, k));
  shown = false;
  typed = "";
  render();
}
function set_mode(m) {
  if (m === mode || (m === "matrix" && !LINES.length)) return;
  const step = steps()[at];
  if (step.kind === "start") at = 0;
  else if (m === "matrix") {
    const found = home_of(step.kind, step.ids[0]);
    const line = found && found.home[0] !== null ? found.home[0] : Math.max(0, steps().slice(0, at + 1).reduce((k, s) => Math.max(k, line_in(s)), 0));
    came = { line, at };
    focus = found && found.home[1] === LINES[line][1] ? [found.home[1], found.home[2]] : [null, 0];
    came.focus = focus;
    at = line + 1;
  } else if (came && came.line === step.line && came.focus === focus) at = came.at;
  else {
    const [kind, i] = cells[LINES[step.line][1]][focused(step)][0] || [step.kind, step.ids[step.ids.length - 1]];
    at = Math.max(0, elements.findIndex((s) => s.kind === kind && s.ids[0] === i));
  }
  mode = m;
  shown = false;
  typed = "";
  render();
}
function stop() { if (timer) play(false); }
function play(on) {
  clearInterval(timer);
  timer = null;
  if (on) {
    timer = setInterval(() => {
      if (hidden()) return stop();  // a question waits for its answer
      go(at + 1);
      if (at === steps().length - 1) stop();
    }, 1100);
    if (at === steps().length - 1) go(0);
  }
  $("play").setAttribute("aria-pressed", on);
}

// Predict, then reveal

let typed = "";
function question(name) {
  const input = el("input", { id: "answer", type: "text", autocomplete: "off", "aria-label": W.ask(name) });
  const verdict = el("p", { id: "verdict", role: "status" });
  const check = el("button", { type: "button" }, W.check), reveal = el("button", { type: "button" }, W.reveal);
  const answered = (words) => {
    shown = true;
    render();
    if (words) $("now").append(el("p", { class: "right", role: "status" }, `✓ ${words}`));
    $("next").focus();
  };
  const judge = () => {
    const x = Number(input.value.trim().replace(/−/g, "-").replace(",", "."));
    if (input.value.trim() !== "" && close(x, wanted())) return answered(W.right);
    verdict.className = "wrong";
    verdict.textContent = input.value.trim() === "" || isNaN(x) ? W.notNumber : `✗ ${W.wrong} ${slip(x)}`;
  };
  input.value = typed;
  input.addEventListener("input", () => { typed = input.value; });
  check.addEventListener("click", judge);
  input.addEventListener("keydown", (e) => {
    if (e.key !== "Enter") return;
    e.preventDefault();  // or the button that gets the focus would take the key too
    judge();
  });
  reveal.addEventListener("click", () => answered(""));
  return el("div", {}, el("p", {}, el("b", {}, W.ask(name))), el("div", { class: "row" }, input, check, reveal), verdict);
}
const ask = () => { if (hidden()) $("answer").focus(); };
// An answer is right to about two digits, as the numbers in the graph have three.
const close = (x, y) => Math.abs(x - y) <= 0.011 * Math.abs(y) + 1e-12;
function wanted() {
  const step = steps()[at];
  if (mode === "matrix") return entries[LINES[step.line][1]][focused(step)];
  return (step.kind === "v" ? value : gradient)[step.ids[0]];
}
// The mistake that explains a wrong answer, if one of the usual mistakes gives this number.
function slip(x) {
  const step = steps()[at], right = wanted();
  const [kind, i] = mode === "element" ? [step.kind, step.ids[0]] : cells[LINES[step.line][1]][focused(step)][0] || [];
  const found = [...matrix_slips(step), ...(kind === "v" ? value_slips(i) : kind === "g" ? gradient_slips(i) : [])];
  const match = [...found, [-right, W.slipSign]].find(([y]) => isFinite(y) && close(x, y) && !close(right, y));
  return match ? match[1] : "";
}
function value_slips(i) {
  const out = [], f = N[i].f;
  if (!Array.isArray(f)) return out;
  const missing = (k) => number_of(f.filter((_, j) => j !== k + 1));
  if (f[0] === "call" && f.length === 3) out.push([number_of(f[2]), W.slipInside(f[1])]);
  if (f[0] === "sum") f.slice(1).forEach((t, k) => out.push([missing(k), W.slipTerm(text(t, false))]));
  if (f[0] === "product") {
    f.slice(1).forEach((t, k) => out.push([missing(k), W.slipFactor(text(t, false))]));
    out.push([sum(f.slice(1).map(number_of)), W.slipProduct]);
  }
  if (f[0] === "power") out.push([number_of(f[1]), W.slipInside(`(…)${text(["power", { c: 1 }, f[2]]).slice(1)}`)]);
  return out;
}
function gradient_slips(i) {
  const ways = ways_of(i), out = [];
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
// Rows and columns exchanged: in the entry itself, or in a matrix that it is computed from.
function matrix_slips(step) {
  const home = mode === "matrix" ? [step.line, LINES[step.line][1], focused(step)] : N[step.ids[0]][step.kind];
  if (!home || home[1] === null) return [];
  const [, array, place] = home, out = [], square = (k) => ARRAYS[k].shape.length === 2 && ARRAYS[k].shape[0] === ARRAYS[k].shape[1];
  const turned = (k, j) => { const n = ARRAYS[k].shape[1]; return (j % n) * n + Math.floor(j / n); };
  if (square(array)) out.push([entries[array][turned(array, place)], W.slipTransposed]);
  const given = (k) => LINES.some(([, own]) => own === k) || typeof ARRAYS[k].e[0] === "number";
  for (const swapped of ARRAYS[array].reads.filter(square)) {
    const of = (x) => {
      if (!Array.isArray(x)) return x.c;
      const [k, j, sign] = x;
      return sign * (k === swapped ? entries[k][turned(k, j)] : given(k) ? entries[k][j] : compute_entry(ARRAYS[k].e[j], of));
    };
    out.push([compute_entry(ARRAYS[array].e[place], of), W.slipRows(ARRAYS[swapped].n)]);
  }
  return out;
}

// Changing numbers

const started = new Float64Array(N.length);
let base = null;  // values and gradient when the number was picked, or when others last moved
function pick(i) {
  picked = i;
  remember();
  render();
}
function remember() { base = { value: value.slice(), gradient: gradient.slice() }; }
function set_number(x) {
  if (picked === null || !isFinite(x)) return;
  value[picked] = x;
  compute();
  $("tip").hidden = true;
  render();
}
function show_change(known) {
  const has = picked !== null, slide = $("slide");
  slide.disabled = $("number").disabled = $("reset").disabled = !has;
  $("leaf").value = has ? picked : "";
  $("chain").hidden = !has;
  if (!has) { say($("effect"), W.pick); return; }
  const x = value[picked], near = started[picked] === 0 ? 1 : Math.max(2 * Math.abs(started[picked]), Math.abs(started[picked]) < 0.01 ? 0 : 1);
  if (document.activeElement !== slide) {
    const reach = Math.max(near, 1.25 * Math.abs(x - started[picked]));
    Object.assign(slide, { min: started[picked] - reach, max: started[picked] + reach, value: x });
  }
  if (document.activeElement !== $("number")) $("number").value = +x.toPrecision(12);
  const l = N[ROOT].n, moved = x - base.value[picked], secret = hidden() || (moved === 0 && !known.g.has(picked));
  say($("effect"), secret ? W.unknown(N[picked].n) : moved === 0
    ? W.untouched(derivative(picked), num(gradient[picked]), l, num(gradient[picked] * 0.01))
    : `${W.moved(N[picked].n, num(moved), l, num(value[ROOT] - base.value[ROOT]), num(base.gradient[picked] * moved))} ${W.branch}`);
  const on = new Set([picked]);
  N.forEach((n, i) => { if (n.p.some(([o]) => on.has(o))) on.add(i); });
  const rows = D.backward.filter((i) => on.has(i) && i !== ROOT);
  $("chain").hidden = rows.length === 0 || hidden();
  $("chain").querySelector("summary").textContent = W.chain(l, N[picked].n, rows.length);
  $("chain").querySelector("div").replaceChildren(...rows.map((i) => el("div", {}, formula(derivative(i), ...backward_lines(i)))));
}
function say(box, words) { if (box.textContent !== words) box.textContent = words; }
function restore(which) {
  which.forEach((i) => { value[i] = started[i]; });
  compute();
  remember();
  render();
}

// Descending

let history = [], taken = null;  // L before, and after each step; the result of the last press
function descend(count) {
  const rate = Number($("rate").value);
  taken = null;
  if (!(rate > 0) || !isFinite(rate)) return show_descent(W.badRate);
  if (!PARAMETERS.length) return show_descent();
  const before = value[ROOT], promised = -rate * sum(PARAMETERS.map((i) => gradient[i] ** 2));
  if (!history.length) history = [before];
  let rose = 0;
  for (let k = 0; k < count && isFinite(value[ROOT]); k++) {
    const moves = PARAMETERS.map((i) => rate * gradient[i]), last = value[ROOT];
    PARAMETERS.forEach((i, j) => { value[i] -= moves[j]; });
    compute();
    history.push(value[ROOT]);
    if (value[ROOT] > last) rose += 1;
  }
  taken = { count, rose, before, after: value[ROOT], promised };
  remember();
  render();
  show_descent();
}
function show_descent(problem) {
  const l = N[ROOT].n;
  if (problem) return $("descent").replaceChildren(el("p", { class: "wrong" }, problem));
  if (!taken) return $("descent").replaceChildren(el("p", {}, PARAMETERS.length ? W.startDescent(PARAMETERS.length) : W.none));
  const { count, rose, before, after, promised } = taken;
  const [verdict, kind] = !isFinite(after) ? [W.broke, "wrong"] : rose ? [W.overshot(l, rose), "wrong"]
    : Math.abs(after - before) <= 1e-12 * Math.abs(before) ? [W.still(l), "right"] : [W.descended(l), "right"];
  const rows = [[`${l}, ${W.before}`, num(before, 6)], [`${l}, ${W.after}`, num(after, 6)], [W.moves, num(after - before)]];
  if (count === 1) rows.push([W.said, num(promised)]);
  $("descent").replaceChildren(el("p", { class: kind }, `${W.steps(count)}: ${verdict}`),
    el("table", {}, rows.map(([head, x]) => el("tr", {}, el("th", {}, head), el("td", {}, x)))), curve());
}
function curve() {
  const finite = history.filter(isFinite), top = Math.max(0, ...finite), bottom = Math.min(0, ...finite), w = 400, h = 120;
  const x = (k) => 66 + (k / Math.max(1, history.length - 1)) * (w - 76), y = (v) => 10 + ((top - v) / (top - bottom || 1)) * (h - 32);
  const path = finite.map((v, k) => `${k ? "L" : "M"}${x(k).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  const label = (px, py, anchor, words) => el("svg:text", { x: px, y: py, "text-anchor": anchor }, words);
  const dots = finite.length > 21 ? [] : finite.map((v, k) => el("svg:circle", { cx: x(k), cy: y(v), r: 2.5 }));
  const ticks = [...new Set([top, 0, bottom])].map((v) => label(61, y(v) + 4, "end", num(v, 3)));
  return el("svg:svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `${N[ROOT].n}: ${W.steps(history.length - 1)}` },
    el("svg:line", { x1: 66, x2: w - 10, y1: y(0), y2: y(0) }), el("svg:path", { d: path }), dots, ticks, label(w - 10, h - 3, "end", W.steps(history.length - 1)));
}

// The address has the state, so that a link leads to this step: #step=40&mode=matrix&pick=w2[2,1]

let reading = false;
function write_address() {
  if (reading) return;
  const state = [`step=${at}`, `mode=${mode}`];
  if (picked !== null) state.push(`pick=${encodeURIComponent(N[picked].n).replace(/%5B/g, "[").replace(/%5D/g, "]").replace(/%2C/g, ",")}`);
  if (predicting) state.push("predict=1");
  if ($("language").value !== D.language) state.push(`lang=${$("language").value}`);
  try { window.history.replaceState(null, "", `#${state.join("&")}`); } catch { /* in a sandboxed frame there is no address */ }
}
function read_address() {
  reading = true;
  try {
    const state = new URLSearchParams(location.hash.slice(1));
    speak(state.get("lang") || D.language);
    mode = state.get("mode") === "matrix" && LINES.length ? "matrix" : "element";
    predicting = state.get("predict") === "1";
    picked = LEAVES.find((leaf) => N[leaf].n === state.get("pick")) ?? null;
    remember();
    go(Math.trunc(Number(state.get("step"))) || 0);
  } finally { reading = false; }
  write_address();
}

function speak(language) {
  W = WORDS[language] || WORDS.en;
  document.documentElement.lang = W === WORDS.zh ? "zh-Hant" : "en";
  $("language").value = W === WORDS.zh ? "zh" : "en";
  $("language").setAttribute("aria-label", W.language);
  for (const id of ["first", "back", "play", "next", "last", "timeline", "zoom"]) { $(id).setAttribute("aria-label", W[id]); $(id).title = W[id]; }
  $("mode").setAttribute("aria-label", W.mode);
  $("controls").setAttribute("aria-label", W.controls);
  for (const m of ["element", "matrix"]) { $(m).querySelector("b").textContent = W[m]; $(m).querySelector("small").textContent = W[`${m}Note`]; }
  $("graph").setAttribute("aria-label", W.graph);
  for (const id of ["program", "change", "descend"]) $(id).querySelector("h2").textContent = W[id];
  $("leaf").setAttribute("aria-label", W.leaf);
  for (const id of ["slide", "number"]) $(id).setAttribute("aria-label", W.slide);
  for (const id of ["predict", "reset", "restart", "once", "hundred"]) $(id).textContent = W[id];
  $("rate").previousElementSibling.textContent = W.rate;
  $("legend").replaceChildren(el("span", { class: "box" }, el("b", {}, W.value), el("b", {}, W.gradient)),
    ...["current", "use", "positive", "negative"].map((k) => el("span", {}, el("i", { class: k }), W[k])));
  for (const [node, title] of titles) {
    const [, words, number] = /^(.*?)( \d+)?$/s.exec(title);
    node.textContent = W.titles[title] || (W.titles[words] ? W.titles[words] + (number || "") : title);
  }
  show_descent();
}

// Begin

N.forEach((n, i) => { value[i] = n.d; });
compute();
started.set(value);
const titles = [...document.querySelectorAll("#drawing .cluster text")].map((node) => [node, node.textContent]);
const drawing = $("drawing").querySelector("svg"), width = drawing.viewBox.baseVal.width;
let large = false;
function size_drawing() {  // its text has 16 units: at least 7 pixels here, or 14
  drawing.style.minWidth = `${width * (large ? 14 : 7) / 16}px`;
  drawing.style.maxWidth = `${width * (large ? 1.6 : 1.1)}px`;
  $("zoom").setAttribute("aria-pressed", large);
}
drawing.setAttribute("role", "img");
size_drawing();
$("leaf").append(el("option", { value: "", disabled: "" }, "–"), ...LEAVES.map((i) => el("option", { value: i }, N[i].n)));
const manual = (action) => () => { stop(); action(); };
for (const [id, action] of Object.entries({
  first: manual(() => go(0)), back: manual(() => go(at - 1)), next: manual(() => { go(at + 1); ask(); }), last: manual(() => go(Infinity)), play: () => play(!timer),
  element: manual(() => set_mode("element")), matrix: manual(() => set_mode("matrix")),
  reset: () => restore(picked === null ? [] : [picked]), restart: () => { history = []; taken = null; restore(LEAVES); show_descent(); },
  once: () => descend(1), hundred: () => descend(100), zoom: () => { large = !large; size_drawing(); render(); },
  predict: manual(() => { predicting = !predicting; shown = false; typed = ""; render(); ask(); }),
})) $(id).addEventListener("click", action);
$("timeline").addEventListener("input", (e) => { stop(); go(+e.target.value); });
$("leaf").addEventListener("change", (e) => pick(+e.target.value));
$("slide").addEventListener("input", (e) => set_number(+e.target.value));
$("slide").addEventListener("change", render);
$("number").addEventListener("input", (e) => { if (e.target.value !== "") set_number(+e.target.value); });
$("language").addEventListener("change", (e) => { speak(e.target.value); render(); });
$("mode").addEventListener("keydown", (e) => {
  if (!e.key.startsWith("Arrow")) return;
  manual(() => set_mode(mode === "element" ? "matrix" : "element"))();
  $(mode).focus();
  e.preventDefault();
  e.stopPropagation();
});
addEventListener("hashchange", read_address);
addEventListener("beforeprint", render);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
addEventListener("keydown", (e) => {
  const { tagName = "", type, id } = e.target;
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const typing = tagName === "SELECT" || (tagName === "INPUT" && type !== "range"), sliding = type === "range" && id !== "timeline";
  const keys = { Escape: () => { picked = null; e.target.blur?.(); render(); } };
  if (!typing) {
    Object.assign(keys, { e: () => set_mode("element"), m: () => set_mode("matrix") }, sliding ? {} : {
      ArrowRight: () => { go(at + 1); ask(); }, ArrowLeft: () => { go(at - 1); ask(); }, Home: () => go(0), End: () => go(Infinity),
    });
    if (!["BUTTON", "SUMMARY"].includes(tagName)) keys[" "] = null;
  }
  const key = e.key.length === 1 ? e.key.toLowerCase() : e.key;
  if (!(key in keys)) return;
  if (key === " ") play(!timer); else manual(keys[key])();
  e.preventDefault();
});
read_address();
