/** The elements of a diagram: boxes, frames, edges, labels. Colours are put on later. */

import { s } from "./dom.js"
import { dims } from "./format.js"
import { path } from "./layout.js"
import { fit, width } from "./measure.js"
import { shownCopy } from "./scene.js"

/** @typedef {import("./types.js").Net} Net */
/** @typedef {import("./types.js").Box} Box */
/** @typedef {import("./types.js").Member} Member */
/** @typedef {import("./scene.js").Frame} Frame */
/** @typedef {import("./layout.js").Rect} Rect */
/** @typedef {import("./layout.js").Point} Point */
/** @typedef {import("./layout.js").Direction} Direction */

const TITLE = { size: 13, weight: 600 }
const TEXT = { size: 11, weight: 400 }
const TYPE = { size: 11, weight: 500 }
const SHAPE = { size: 10.5, weight: 400 }
const TIMES = { size: 11.5, weight: 600 }
const STEM = 5 // the line between a card and a pill
const PILL = 16
const PILL_PAD = 12
const PILL_GAP = 8
export const HEAD = 42
export const ROW = 19
const PAD = 13
/** @type {Record<string, number>} */
const CORNERS = { data: 15, combine: 12 }
const WIDEST = 264
const NARROWEST = 112

/**
 * What a box takes: its card, and beside it (below, or to the right) a pill for each value that leaves it, on the line.
 * @typedef {object} Cell
 * @property {number} width     of the card
 * @property {number} height
 * @property {Pill[]} pills
 *
 * @typedef {object} Pill
 * @property {string} text
 * @property {string} full
 * @property {number} width
 * @property {boolean} output
 */

/**
 * @param {Box} box
 * @param {Direction} direction
 * @returns {Cell}
 */
export function cellOf(box, direction) {
  const [first, ...rest] = box.members
  const room = box.tops.length > 3 ? 84 : WIDEST
  const pills = box.tops.map(({ blob, shape, output }) => {
    const full = box.tops.length > 1 || blob !== first.name ? `${blob}: ${dims(shape)}` : dims(shape)
    const text = fit(full, SHAPE, room)
    return { text, full, width: Math.ceil(width(text, SHAPE)) + PILL_PAD, output }
  })
  const lines = [width(first.name, TITLE), briefWidth(first), ...rest.map((m) => briefWidth(m))]
  const wanted = Math.min(Math.max(NARROWEST, ...lines) + 2 * PAD, WIDEST)
  const cell = { width: Math.ceil(wanted), height: HEAD + ROW * rest.length, pills }
  if (direction === "TB") cell.width = Math.max(cell.width, pills.reduce((sum, p) => sum + p.width + PILL_GAP, -PILL_GAP))
  else cell.height = Math.max(cell.height, pills.length * (PILL + 3))
  return cell
}

/**
 * The size of a cell with its pills.
 * @param {Cell} cell
 * @param {Direction} direction
 * @returns {{width: number, height: number}}
 */
export function cellSize({ width, height, pills }, direction) {
  if (!pills.length) return { width, height }
  if (direction === "TB") return { width, height: height + STEM + PILL }
  return { width: width + STEM + Math.max(...pills.map((p) => p.width)), height }
}

/**
 * Where the middle of a pill lies, across the flow, from the cell's corner.
 * @param {Cell} cell
 * @param {number[]} order   of the pills; empty: as the net has them
 * @param {number} top
 * @param {Direction} direction
 */
export function pillAt({ width, height, pills }, order, top, direction) {
  const place = order.length ? order.indexOf(top) : top
  if (direction === "LR") return (height / pills.length) * (place + 0.5)
  const spare = (width - pills.reduce((sum, p) => sum + p.width, 0)) / pills.length
  let at = spare / 2
  for (let i = 0; i < place; i++) at += pills[order[i] ?? i].width + spare
  return at + pills[top].width / 2
}

/** @param {Member} member */
function briefWidth({ type, brief }) {
  return width(type, TYPE) + (brief ? width(`  ${brief}`, TEXT) : 0)
}

/**
 * @param {Box} box
 * @param {number} index
 * @param {number} firstLayer   the index of its first layer
 * @param {Rect} rect
 */
export function drawBox(box, index, firstLayer, rect) {
  const [first, ...rest] = box.members
  const room = rect.width - 2 * PAD
  const cut = box.loss || box.category === "loss"
  const fault = box.members.find((m) => m.fault)
  const radius = cut ? 9 : (CORNERS[box.category] ?? 7)
  const g = s("g", {
    class: `box${box.loss ? " loss" : ""}${fault ? " opaque" : ""}`,
    transform: `translate(${rect.x},${rect.y})`,
    "data-box": index,
    "data-layer": firstLayer,
    tabindex: -1,
    role: "button",
    "aria-label": spoken(box),
  })
  g.append(
    s("title", null, tooltip(box)),
    s("rect", { class: "ring", x: -4, y: -4, width: rect.width + 8, height: rect.height + 8, rx: radius + 4 }),
    s("path", { class: "fill", "data-layer": firstLayer, d: band(0, HEAD, rect.width, radius, rest.length ? 0 : radius, cut) }),
    ...rest.flatMap((_, i) => [
      s("path", {
        class: "fill",
        "data-layer": firstLayer + 1 + i,
        d: band(HEAD + ROW * i, ROW, rect.width, 0, i === rest.length - 1 ? radius : 0, cut),
      }),
      s("path", { class: "rule", d: `M0,${HEAD + ROW * i}h${rect.width}` }),
    ]),
    s("path", { class: "card", d: band(0, rect.height, rect.width, radius, radius, cut) }),
    s("text", { class: "name", x: PAD, y: 18 }, fit(first.name, TITLE, room)),
    line(first, 33, room),
  )
  rest.forEach((member, i) => {
    const text = line(member, HEAD + ROW * i + 13, room)
    text.setAttribute("data-layer", String(firstLayer + 1 + i))
    g.append(text)
  })
  return g
}

/**
 * A rectangle from the left rim, with round or cut corners above and below.
 * @param {number} y
 * @param {number} height
 * @param {number} w
 * @param {number} above
 * @param {number} below
 * @param {boolean} cut
 */
function band(y, height, w, above, below, cut) {
  const [p, q] = [above, below]
  const turn = (/** @type {number} */ r, /** @type {number} */ dx, /** @type {number} */ dy) =>
    r ? (cut ? `l${dx},${dy}` : `a${r},${r} 0 0 1 ${dx},${dy}`) : ""
  const down = height - p - q
  return (
    `M${p},${y}h${w - 2 * p}${turn(p, p, p)}v${down}${turn(q, -q, q)}` +
    `h${2 * q - w}${turn(q, -q, -q)}v${-down}${turn(p, p, -p)}z`
  )
}

/**
 * A layer's type and what matters of its settings.
 * @param {Member} member
 * @param {number} y
 * @param {number} room
 */
function line({ type, brief }, y, room) {
  const kind = fit(type, TYPE, room)
  const left = room - width(`${kind}  `, TYPE)
  const text = s("text", { class: "line", x: PAD, y }, s("tspan", { class: "type" }, kind))
  if (brief && kind === type && left > 24) text.append(s("tspan", { class: "brief", dx: 6 }, fit(brief, TEXT, left)))
  return text
}

/** @param {Box} box */
function tooltip(box) {
  const lines = box.members.map(({ name, type, brief }) => `${name}  ${type} ${brief}`.trimEnd())
  const tops = box.tops.map(({ blob, shape }) => `${blob}: ${dims(shape)}`)
  const faults = box.members.filter((m) => m.fault).map((m) => m.fault)
  return [...lines, ...faults, "", ...tops].join("\n").trim()
}

/**
 * A box as a screen reader says it.
 * @param {Box} box
 */
export function spoken(box) {
  const [first, ...rest] = box.members
  const parts = [`${first.name}, ${first.type} ${first.brief}`.trim()]
  if (rest.length) parts.push(`then ${rest.map((m) => m.type).join(", ")}`)
  for (const { blob, shape, output } of box.tops) parts.push(`${output ? "output " : ""}${blob}: ${dims(shape)}`)
  if (box.members.some((m) => m.fault)) parts.push("not understood")
  return parts.join("; ")
}

/**
 * @param {Frame} frame
 * @param {import("./scene.js").FoldState} state
 * @returns {string}
 */
export function frameTitle(frame, state) {
  const { names } = frame.fold
  return state.closed.has(frame.key) ? names[shownCopy(frame, state)] : `${names[0]} … ${names.at(-1)}`
}

/**
 * How wide a frame must be, so that its head has room beside the line that comes in.
 * @param {Frame} frame
 */
export function headWidth(frame) {
  return 2 * (buttonsWidth(frame) + 22)
}

/** @param {Frame} frame */
function buttonsWidth(frame) {
  return chipWidth(frame) + 42
}

/** @param {Frame} frame */
function chipWidth(frame) {
  return Math.ceil(width(`× ${frame.fold.copies.length}`, TIMES)) + 30
}

/**
 * @param {Frame} frame
 * @param {import("./scene.js").FoldState} state
 * @param {Rect} rect
 * @param {number[]} lines    where lines come in at its upper side, from its left
 */
export function drawFrame(frame, state, rect, lines) {
  const { copies } = frame.fold
  const closed = state.closed.has(frame.key)
  const at = shownCopy(frame, state)
  const title = frameTitle(frame, state)
  const g = s("g", { class: `frame ${closed ? "closed" : "open"}`, transform: `translate(${rect.x},${rect.y})` })
  g.append(s("title", null, `${title}\n${closed ? `copy ${at + 1} of ${copies.length}` : `${copies.length} copies`}`))
  if (closed) g.append(...[8, 4].map((d) => s("path", { class: "sheet", d: sheet(rect.width, rect.height, d) })))
  g.append(s("rect", { class: "rim", width: rect.width, height: rect.height, rx: 12 }))

  const [from, to] = widestGap(rect.width, lines)
  const chip = chipWidth(frame)
  const buttons = closed ? chip + 42 : chip
  const right = from > rect.width - to // the head stands at the end of the gap that lies at a corner
  const x = right ? to - buttons : from
  const head = s("g", { class: "fold-buttons", transform: `translate(${x},8)` })
  head.append(
    button(`fold:${frame.key}`, closed ? "Unfold" : "Fold", 0, chip, [
      s("rect", { class: "chip", width: chip, height: 18, rx: 9 }),
      s("path", { class: "sign", d: closed ? "M11,5.5v7M7.5,9h7" : "M7.5,9h7" }),
      s("text", { x: 20, y: 13, class: "times" }, `× ${copies.length}`),
    ]),
  )
  if (closed) {
    head.append(
      button(`back:${frame.key}`, "Previous copy", chip + 4, 18, [s("path", { class: "sign", d: "M11,5 7.5,9l3.5,4" })], at === 0),
      button(`next:${frame.key}`, "Next copy", chip + 23, 18, [s("path", { class: "sign", d: "M7.5,5 11,9 7.5,13" })], at === copies.length - 1),
    )
  }
  g.append(head)
  const room = to - from - buttons - 12
  if (room > 36) {
    const place = right ? { x: x - 9, "text-anchor": "end" } : { x: x + buttons + 9 }
    g.append(s("text", { class: "frame-name", y: 21, ...place }, fit(title, TEXT, room)))
  }
  return g
}

/**
 * The widest part of a frame's upper side that no line crosses.
 * @param {number} w
 * @param {number[]} lines
 * @returns {[number, number]}
 */
function widestGap(w, lines) {
  const stops = [4, ...lines.toSorted((a, b) => a - b), w - 4]
  /** @type {[number, number]} */
  let best = [0, 0]
  for (let i = 0; i + 1 < stops.length; i++) {
    if (stops[i + 1] - stops[i] > best[1] - best[0] + 0.5) best = [stops[i], stops[i + 1]]
  }
  return [best[0] + 8, best[1] - 8]
}

/**
 * The part of a sheet that shows from below the one on top of it.
 * @param {number} w
 * @param {number} h
 * @param {number} d
 */
function sheet(w, h, d) {
  return `M${12 + d},${h + d - 0.5}H${w + d - 12}a12,12 0 0 0 12,-12V${12 + d}`
}

/**
 * @param {string} action
 * @param {string} label
 * @param {number} x
 * @param {number} w
 * @param {SVGElement[]} children
 * @param {boolean} [off]
 */
function button(action, label, x, w, children, off = false) {
  return s(
    "g",
    { class: `button${off ? " off" : ""}`, "data-action": action, transform: `translate(${x},0)`, role: "button", "aria-label": label, "aria-disabled": off ? "true" : null },
    s("rect", { class: "hit", y: -3, width: w, height: 24 }),
    children,
  )
}

/**
 * @param {import("./scene.js").SceneEdge} edge
 * @param {Point[]} points
 * @param {Direction} direction
 */
export function drawEdge(edge, points, direction) {
  return s("path", { class: "edge", "data-edge": edge.key, d: path(points, direction) })
}

/**
 * What leaves a box: on a short line, a pill with the shape; outlined where nobody in the net reads it.
 * @param {Cell} cell
 * @param {Rect} rect   of the card
 * @param {number[]} order
 * @param {Direction} direction
 */
export function drawPills(cell, rect, order, direction) {
  const g = s("g", { class: "pills", "aria-hidden": "true" })
  cell.pills.forEach((pill, top) => {
    const at = pillAt(cell, order, top, direction)
    if (direction === "TB") {
      const x = rect.x + at
      const y = rect.y + rect.height
      g.append(
        s("path", { class: "stem", d: `M${x},${y}v${STEM}` }),
        s("rect", { class: pill.output ? "pill output" : "pill", x: x - pill.width / 2, y: y + STEM, width: pill.width, height: PILL, rx: PILL / 2 }),
        s("text", { class: "shape", x, y: y + STEM + 11.5, "text-anchor": "middle" }, pill.text, pill.text === pill.full ? null : s("title", null, pill.full)),
      )
    } else {
      const x = rect.x + rect.width
      const y = rect.y + at
      const end = cell.pills.reduce((most, p) => Math.max(most, p.width), 0) - pill.width
      g.append(
        s("path", { class: "stem", d: `M${x},${y}h${STEM}` }),
        s("path", { class: "stem", d: `M${x + STEM + pill.width},${y}h${end}` }),
        s("rect", { class: pill.output ? "pill output" : "pill", x: x + STEM, y: y - PILL / 2, width: pill.width, height: PILL, rx: PILL / 2 }),
        s("text", { class: "shape", x: x + STEM + pill.width / 2, y: y + 3.5, "text-anchor": "middle" }, pill.text, pill.text === pill.full ? null : s("title", null, pill.full)),
      )
    }
  })
  return g
}
