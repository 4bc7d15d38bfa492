"use strict";
// Choosing a line shows its boxes in both nets, choosing a box its lines; n and p go on, + - and 0 zoom.
const pane = document.getElementById("picture");
const net = pane.querySelector("svg");
const rows = [...document.querySelectorAll("#differences tbody tr")];
const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
const behavior = reduced ? "auto" : "smooth";
const anchors = (row) => [row.dataset.a, row.dataset.b].filter(Boolean);

function mark(chosenRows, boxes) {
  document.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
  for (const one of [...chosenRows, ...boxes]) one.classList.add("chosen");
}

/** Show the boxes of a line, the lower one of two if they do not fit together. */
function choose(row) {
  const boxes = anchors(row).map((id) => document.getElementById(id));
  mark([row], boxes);
  reveal(boxes);
  row.scrollIntoView({ block: "nearest" });
}

function reveal(boxes) {
  const frame = pane.getBoundingClientRect();
  const places = boxes.map((box) => box.getBoundingClientRect());
  const middle = places.reduce((sum, r) => sum + (r.top + r.bottom) / 2, 0) / places.length;
  const left = Math.min(...places.map((r) => r.left)), right = Math.max(...places.map((r) => r.right));
  const aside = right - left < frame.width ? (left + right) / 2 - frame.width / 2 : left - 30;
  pane.scrollBy({ top: middle - frame.top - frame.height / 2, left: aside - frame.left, behavior });
  const whole = pane.getBoundingClientRect();
  if (whole.bottom < 0 || whole.top > innerHeight || pane.scrollHeight <= pane.clientHeight) {
    boxes[boxes.length - 1].scrollIntoView({ block: "center", behavior });
  }
}

function chooseBox(box) {
  const found = rows.filter((row) => anchors(row).includes(box.id));
  const ids = new Set(found.flatMap(anchors));
  mark(found, [box, ...[...ids].map((id) => document.getElementById(id))]);
  found.find((row) => row.offsetParent)?.scrollIntoView({ block: "center", behavior });
}

function step(by) {
  const seen = rows.filter((row) => row.offsetParent);
  const at = seen.findIndex((row) => row.classList.contains("chosen"));
  const next = seen[at < 0 ? (by > 0 ? 0 : seen.length - 1) : at + by];
  if (next) choose(next);
}

for (const row of rows) {
  row.addEventListener("click", (event) => {
    if (String(getSelection())) return;
    if (event.target.closest("a")) event.preventDefault();
    choose(row);
  });
}
for (const box of net.querySelectorAll(".box[id]:not(.is-same)")) {
  box.setAttribute("tabindex", "0");
  box.addEventListener("click", () => chooseBox(box));
  box.addEventListener("keydown", (event) => event.key === "Enter" && chooseBox(box));
}

const [wide, high] = ["width", "height"].map((name) => Number(net.getAttribute(name)));
let scale = 1;
function zoom(to) {
  const middle = (pane.scrollTop + pane.clientHeight / 2) / scale;
  scale = Math.min(3, Math.max(0.1, to));
  net.setAttribute("width", wide * scale);
  net.setAttribute("height", high * scale);
  pane.scrollTop = middle * scale - pane.clientHeight / 2;
}
const fit = () => zoom(Math.min(1, pane.clientWidth / wide));

const actions = new Map([
  ["p", ["Previous difference", () => step(-1), "Previous"]],
  ["n", ["Next difference", () => step(1), "Next"]],
  ["-", ["Smaller", () => zoom(scale / 1.25), "−"]],
  ["+", ["Larger", () => zoom(scale * 1.25), "+"]],
  ["0", ["As wide as the window", fit, "Fit"]],
]);
const bar = document.createElement("div");
bar.id = "bar";
for (const [key, [label, action, text]] of actions) {
  if ("np".includes(key) && !rows.length) continue;
  const button = bar.appendChild(document.createElement("button"));
  button.textContent = text;
  button.title = `${label} (${key})`;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", action);
}
document.querySelector("header").append(bar);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  if (event.key === "Escape") mark([], []);
  else actions.get(event.key)?.[1]();
});
document.body.classList.add("live");
fit();
