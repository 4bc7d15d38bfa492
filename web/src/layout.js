/** A scene and the sizes of its boxes -> where everything stands. Every fold is laid out by itself, then placed as one. */

import * as dagre from "@dagrejs/dagre"

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Frame} Frame */
/** @typedef {import("./scene.js").SceneEdge} SceneEdge */
/** @typedef {import("./scene.js").Structure} Structure */
/** @typedef {{width: number, height: number}} Size */
/** @typedef {{x: number, y: number}} Point */
/** @typedef {{x: number, y: number, width: number, height: number}} Rect   x, y: its corner */
/** @typedef {"TB" | "LR"} Direction */

/**
 * @typedef {object} Placed
 * @property {Map<number, Rect>} boxes
 * @property {Map<Frame, Rect>} frames
 * @property {Map<string, Point[]>} edges   by SceneEdge.key; between the points of a pair the line runs straight
 * @property {Rect} bounds
 */

export const FRAME_HEAD = 26
const FRAME_PAD = 16
const GAP = { TB: { rank: 30, node: 28 }, LR: { rank: 34, node: 26 } }
const PORT_GAP = 14

/**
 * A part of the picture that is laid out as one: the net itself, or a frame.
 * @typedef {object} Part
 * @property {Frame | null} frame
 * @property {(number | Frame)[]} children
 * @property {Map<string, Segment>} segments
 * @property {Map<string, string>} ports   those on its rim: key -> "in" or "out"
 */

/**
 * A piece of an edge that lies in one part. Ends are a box, a frame, or a port's key.
 * @typedef {{from: End, to: End, value: string}} Segment
 * @typedef {number | Frame | string} End
 */

/**
 * One part laid out, along its own axes: `a` across the flow, `b` along it.
 * @typedef {object} Plan
 * @property {Map<number | Frame, {a: number, b: number, da: number, db: number}>} children   corner and size
 * @property {Map<string, number>} ports       where on the rim, along a
 * @property {Map<string, [number, number][]>} lines  by segment key
 * @property {number} da
 * @property {number} db
 */

/**
 * What the layout asks about what it lays out.
 * @typedef {object} Measures
 * @property {(box: number) => Size} sizeOf
 * @property {(box: number, top: number) => number} leaves   where a value leaves its box, across the flow, from its corner
 * @property {(frame: Frame) => number} headWidth   how much room a frame's head wants
 */

/**
 * @param {Structure} structure
 * @param {Scene} scene
 * @param {Measures} measures
 * @param {Direction} direction
 * @returns {Placed}
 */
export function place(structure, scene, measures, direction) {
  const { parts, routes } = split(structure, scene)
  const root = /** @type {Part} */ (parts.get(null))
  /** @type {Map<Frame | null, Plan>} */
  const plans = new Map()
  for (const frame of [...scene.frames].reverse()) {
    plans.set(frame, plan(/** @type {Part} */ (parts.get(frame)), plans, measures, direction))
  }
  plans.set(null, plan(root, plans, measures, direction))
  return assemble(plans, scene, routes, direction)
}

/**
 * The parts with what they hold, and for each edge the segments that it is made of.
 * @param {Structure} structure
 * @param {Scene} scene
 */
function split(structure, scene) {
  /** @type {Map<Frame | null, Part>} */
  const parts = new Map()
  for (const frame of [null, ...scene.frames]) {
    parts.set(frame, { frame, children: [], segments: new Map(), ports: new Map() })
  }
  for (const frame of scene.frames) part(frame.parent).children.push(frame)
  for (const box of scene.boxes) part(structure.framesAround(box).at(-1) ?? null).children.push(box)

  /** @type {Map<string, [Frame | null, string][]>} */
  const routes = new Map()
  for (const edge of scene.edges) {
    const up = [null, ...structure.framesAround(edge.from)]
    const down = [null, ...structure.framesAround(edge.to)]
    let common = 1
    while (common < up.length && common < down.length && up[common] === down[common]) common++
    const value = `${edge.from}.${edge.top}`
    /** @type {[Frame | null, string][]} */
    const route = []
    /** @type {End} */
    let from = edge.from
    for (let i = up.length - 1; i >= common; i--) {
      route.push(add(up[i], from, `out ${value}`, value))
      from = /** @type {Frame} */ (up[i])
    }
    route.push(add(up[common - 1], from, down[common] ?? edge.to, value))
    for (let i = common; i < down.length; i++) route.push(add(down[i], `in ${value}`, down[i + 1] ?? edge.to, value))
    routes.set(edge.key, route)
  }
  return { parts, routes }

  /** @param {Frame | null} frame */
  function part(frame) {
    return /** @type {Part} */ (parts.get(frame))
  }

  /**
   * @param {Frame | null} frame
   * @param {End} from
   * @param {End} to
   * @param {string} value
   * @returns {[Frame | null, string]}
   */
  function add(frame, from, to, value) {
    const key = `${name(from)} > ${name(to)} : ${value}`
    const { segments, ports } = part(frame)
    if (!segments.has(key)) segments.set(key, { from, to, value })
    if (typeof from === "string") ports.set(from, "in")
    if (typeof to === "string") ports.set(to, "out")
    return [frame, key]
  }
}

/**
 * @param {End} end
 * @returns {string}
 */
function name(end) {
  return typeof end === "object" ? `f${end.id}` : String(end)
}

/**
 * Lay out one part, its frames being planned already.
 * @param {Part} part
 * @param {Map<Frame | null, Plan>} plans
 * @param {Measures} measures
 * @param {Direction} direction
 * @returns {Plan}
 */
function plan(part, plans, measures, direction) {
  const graph = new dagre.graphlib.Graph({ multigraph: true })
  graph.setGraph({ ranksep: GAP[direction].rank, nodesep: GAP[direction].node, edgesep: 18 })
  graph.setDefaultEdgeLabel(() => ({}))
  /** @type {Map<number | Frame, {da: number, db: number}>} */
  const sizes = new Map()
  for (const child of part.children) {
    const size = typeof child === "number" ? turned(measures.sizeOf(child), direction) : /** @type {Plan} */ (plans.get(child))
    sizes.set(child, { da: size.da, db: size.db })
    graph.setNode(name(child), { width: size.da, height: size.db })
  }
  for (const port of part.ports.keys()) graph.setNode(port, { width: PORT_GAP, height: 0 })
  for (const [key, { from, to }] of part.segments) graph.setEdge(name(from), name(to), { weight: 1 }, key)
  hold(graph, part)
  dagre.layout(graph)
  return measured(graph, part, sizes, plans, measures, direction)
}

/**
 * Hold ports at the first and the last rank, by edges that are not drawn.
 * @param {any} graph
 * @param {Part} part
 */
function hold(graph, part) {
  const ends = [
    { way: "in", rim: "first rank", loose: graph.sources() },
    { way: "out", rim: "last rank", loose: graph.sinks() },
  ]
  for (const { way, rim, loose } of ends) {
    const ports = [...part.ports].filter(([, w]) => w === way).map(([key]) => key)
    if (!ports.length) continue
    graph.setNode(rim, { width: 0, height: 0 })
    const others = loose.filter((/** @type {string} */ v) => !part.ports.has(v))
    for (const [end, weight] of [...ports.map((p) => [p, 8]), ...others.map((/** @type {string} */ v) => [v, 0])]) {
      if (way === "in") graph.setEdge(rim, end, { weight }, rim)
      else graph.setEdge(end, rim, { weight }, rim)
    }
  }
}

/**
 * What dagre found, with lines from rim to rim and the part's own size.
 * @param {any} graph
 * @param {Part} part
 * @param {Map<number | Frame, {da: number, db: number}>} sizes
 * @param {Map<Frame | null, Plan>} plans
 * @param {Measures} measures
 * @param {Direction} direction
 * @returns {Plan}
 */
function measured(graph, part, sizes, plans, measures, direction) {
  /** @type {Plan["children"]} */
  const children = new Map()
  /** @type {Map<number, number>} half of the extent of each rank, by where its middle lies */
  const ranks = new Map()
  for (const [child, { da, db }] of sizes) {
    const { x, y } = graph.node(name(child))
    children.set(child, { a: x - da / 2, b: y - db / 2, da, db })
    const rank = Math.round(y)
    ranks.set(rank, Math.max(ranks.get(rank) ?? 0, db / 2))
  }
  const bends = new Map()
  for (const edge of graph.edges()) {
    if (part.segments.has(edge.name)) bends.set(edge.name, graph.edge(edge).points.slice(1, -1))
  }
  /** @type {Map<string, number>} */
  const ports = new Map()
  for (const port of part.ports.keys()) ports.set(port, graph.node(port).x)
  const ends = attach(part, children, ports, bends, plans, measures)

  let low = Infinity
  let high = -Infinity
  let first = Infinity
  let last = -Infinity
  for (const { a, b, da, db } of children.values()) {
    low = Math.min(low, a)
    high = Math.max(high, a + da)
    first = Math.min(first, b)
    last = Math.max(last, b + db)
  }
  for (const points of bends.values()) {
    for (const { x } of points) {
      low = Math.min(low, x - 10)
      high = Math.max(high, x + 10)
    }
  }
  for (const a of ports.values()) {
    low = Math.min(low, a - 10)
    high = Math.max(high, a + 10)
  }
  if (!children.size) low = high = first = last = 0

  const pad = { before: 0, after: 0, first: 0, last: 0 }
  if (part.frame) {
    Object.assign(pad, { before: FRAME_PAD, after: FRAME_PAD, first: FRAME_PAD, last: FRAME_PAD })
    if (direction === "TB") {
      pad.first += FRAME_HEAD
      const missing = measures.headWidth(part.frame) - (high - low + 2 * FRAME_PAD)
      if (missing > 0) pad.before += missing / 2
      if (missing > 0) pad.after += missing / 2
    } else {
      pad.before += FRAME_HEAD
      pad.last += Math.max(0, measures.headWidth(part.frame) - (last - first + 2 * FRAME_PAD))
    }
    if (part.ports.size) pad.last += 12
  }
  const shiftA = pad.before - low
  const shiftB = pad.first - first
  const da = high - low + pad.before + pad.after
  const db = last - first + pad.first + pad.last

  /** @type {Plan["lines"]} */
  const lines = new Map()
  for (const [key, segment] of part.segments) {
    const [start, end] = /** @type {[number, number]} */ (ends.get(key))
    /** @type {[number, number][]} */
    const line = []
    const begin = typeof segment.from === "string" ? 0 : sideOf(segment.from, 1) + shiftB
    line.push([start + shiftA, begin])
    for (const { x, y } of bends.get(key) ?? []) {
      const half = ranks.get(Math.round(y)) ?? 0
      line.push([x + shiftA, y - half + shiftB], [x + shiftA, y + half + shiftB])
    }
    line.push([end + shiftA, typeof segment.to === "string" ? db : sideOf(segment.to, 0) + shiftB])
    lines.set(key, line)
  }
  for (const child of children.values()) {
    child.a += shiftA
    child.b += shiftB
  }
  for (const [port, a] of ports) ports.set(port, a + shiftA)
  return { children, ports, lines, da, db }

  /**
   * @param {number | Frame} child
   * @param {0 | 1} far
   */
  function sideOf(child, far) {
    const { b, db } = /** @type {{b: number, db: number}} */ (children.get(child))
    return b + far * db
  }
}

/**
 * Where along the rim of its ends each segment begins and stops. Those that come into a box come in side by side, in the
 * order in which they come near; a frame's are where its ports are.
 * @param {Part} part
 * @param {Plan["children"]} children
 * @param {Map<string, number>} ports
 * @param {Map<string, Point[]>} bends
 * @param {Map<Frame | null, Plan>} plans
 * @param {Measures} measures
 * @returns {Map<string, [number, number]>}
 */
function attach(part, children, ports, bends, plans, measures) {
  /** @type {Map<string, [number, number]>} */
  const ends = new Map()
  /** @type {Map<number, {key: string, near: number}[]>} */
  const entering = new Map()
  for (const [key, { from, to, value }] of part.segments) {
    const start = along(from, `out ${value}`, value)
    const end = along(to, `in ${value}`, "")
    ends.set(key, [start, end])
    if (typeof to === "number") {
      const list = entering.get(to) ?? []
      list.push({ key, near: bends.get(key)?.at(-1)?.x ?? start })
      entering.set(to, list)
    }
  }
  for (const [box, list] of entering) {
    const { a, da } = /** @type {{a: number, da: number}} */ (children.get(box))
    const gap = Math.min(PORT_GAP, (da - 24) / Math.max(list.length - 1, 1))
    list.sort((p, q) => p.near - q.near)
    list.forEach(({ key }, i) => {
      const pair = /** @type {[number, number]} */ (ends.get(key))
      pair[1] = a + da / 2 + gap * (i - (list.length - 1) / 2)
    })
  }
  return ends

  /**
   * @param {End} end
   * @param {string} port
   * @param {string} value    that leaves here; "" where one comes in
   * @returns {number}
   */
  function along(end, port, value) {
    if (typeof end === "string") return /** @type {number} */ (ports.get(end))
    const { a, da } = /** @type {{a: number, da: number}} */ (children.get(end))
    if (typeof end === "object") return a + (plans.get(end)?.ports.get(port) ?? da / 2)
    return a + (value ? measures.leaves(end, Number(value.slice(value.indexOf(".") + 1))) : da / 2)
  }
}

/**
 * All plans in one picture.
 * @param {Map<Frame | null, Plan>} plans
 * @param {Scene} scene
 * @param {Map<string, [Frame | null, string][]>} routes
 * @param {Direction} direction
 * @returns {Placed}
 */
function assemble(plans, scene, routes, direction) {
  /** @type {Map<Frame | null, {a: number, b: number}>} */
  const corners = new Map([[null, { a: 0, b: 0 }]])
  /** @type {Placed} */
  const placed = { boxes: new Map(), frames: new Map(), edges: new Map(), bounds: { x: 0, y: 0, width: 0, height: 0 } }
  for (const frame of [null, ...scene.frames]) {
    const corner = /** @type {{a: number, b: number}} */ (corners.get(frame))
    const { children } = /** @type {Plan} */ (plans.get(frame))
    for (const [child, { a, b, da, db }] of children) {
      const rect = laid(a + corner.a, b + corner.b, da, db)
      if (typeof child === "number") placed.boxes.set(child, rect)
      else {
        placed.frames.set(child, rect)
        corners.set(child, { a: a + corner.a, b: b + corner.b })
      }
    }
  }
  for (const [edge, route] of routes) {
    /** @type {Point[]} */
    const points = []
    for (const [frame, key] of route) {
      const corner = /** @type {{a: number, b: number}} */ (corners.get(frame))
      for (const [a, b] of /** @type {Plan} */ (plans.get(frame)).lines.get(key) ?? []) {
        const { x, y } = laid(a + corner.a, b + corner.b, 0, 0)
        points.push({ x, y })
      }
    }
    placed.edges.set(edge, points)
  }
  const { da, db } = /** @type {Plan} */ (plans.get(null))
  placed.bounds = laid(0, 0, da, db)
  return placed

  /**
   * @param {number} a
   * @param {number} b
   * @param {number} da
   * @param {number} db
   * @returns {Rect}
   */
  function laid(a, b, da, db) {
    return direction === "TB" ? { x: a, y: b, width: da, height: db } : { x: b, y: a, width: db, height: da }
  }
}

/**
 * @param {Size} size
 * @param {Direction} direction
 */
function turned({ width, height }, direction) {
  return direction === "TB" ? { da: width, db: height } : { da: height, db: width }
}

/**
 * A line through points, straight along the flow and bent where it changes its place across it.
 * @param {Point[]} points
 * @param {Direction} direction
 * @returns {string}
 */
export function path(points, direction) {
  const [first, ...rest] = points
  let d = `M${r(first.x)},${r(first.y)}`
  let { x, y } = first
  for (const p of rest) {
    if (direction === "TB" ? Math.abs(p.x - x) < 0.5 : Math.abs(p.y - y) < 0.5) {
      d += `L${r(p.x)},${r(p.y)}`
    } else if (direction === "TB") {
      const bend = (y + p.y) / 2
      d += `C${r(x)},${r(bend)} ${r(p.x)},${r(bend)} ${r(p.x)},${r(p.y)}`
    } else {
      const bend = (x + p.x) / 2
      d += `C${r(bend)},${r(y)} ${r(bend)},${r(p.y)} ${r(p.x)},${r(p.y)}`
    }
    ;({ x, y } = p)
  }
  return d
}

/** @param {number} v */
function r(v) {
  return Math.round(v * 10) / 10
}
