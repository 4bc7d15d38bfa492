/**
 * A scene and the sizes of its boxes -> where everything stands.
 *
 * Every fold, and every copy in an open one, is laid out by itself and then placed as one thing. What is alike is laid out
 * once, so that a net of many equal blocks takes no longer than its blocks do.
 */

import * as dagre from "@dagrejs/dagre"

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Frame} Frame */
/** @typedef {import("./scene.js").FoldState} FoldState */
/** @typedef {import("./scene.js").Structure} Structure */
/** @typedef {{width: number, height: number}} Size */
/** @typedef {{x: number, y: number}} Point */
/** @typedef {{x: number, y: number, width: number, height: number}} Rect   x, y: its corner */
/** @typedef {"TB" | "LR"} Direction */

/**
 * @typedef {object} Placed
 * @property {Map<number, Rect>} boxes
 * @property {Map<Frame, Rect>} frames
 * @property {Map<string, Point[]>} edges   by SceneEdge.key: corners that a line is led along
 * @property {Map<number, number[]>} orders  in which the values leave a box, where it has several
 * @property {Map<Frame, number[]>} lines   where lines cross a frame's upper side, from its left
 * @property {Rect} bounds
 */

/**
 * What the layout asks about what it lays out.
 * @typedef {object} Measures
 * @property {(box: number) => Size} sizeOf
 * @property {(box: number) => number} tops     how many values leave it
 * @property {(box: number) => boolean} feeds   whether it is data, of which the net may read a part much later
 * @property {(box: number, order: number[], top: number) => number} leaves   where a value leaves its box, across the
 *     flow, from its corner, when its values stand in this order
 * @property {(box: number) => string} like     equal for boxes of which all of this is equal
 * @property {(frame: Frame) => number} headWidth   how much room a frame's head wants
 */

/**
 * A part of the picture that is laid out as one: the net itself, a frame, or one copy in an open frame.
 * @typedef {object} Part
 * @property {Frame | null} frame      null: the net itself
 * @property {number} copy             -1: the frame itself
 * @property {(number | Part)[]} children
 * @property {Map<number | Part, number>} places      of its children
 * @property {Map<string, number>} ports    values that cross its rim: "in" or "out", and the value
 * @property {Map<string, Segment>} segments
 *
 * A piece of an edge that lies in one part. An end is a child's place, or a port's as -1 - place. A slot is which value of
 * a box, or which port of a part, is meant.
 * @typedef {{index: number, from: number, fromSlot: number, to: number, toSlot: number}} Segment
 */

/**
 * A part laid out, along its own axes: `a` across the flow, `b` along it. All by place, so that it serves all parts alike.
 * @typedef {object} Plan
 * @property {number} id
 * @property {{a: number, b: number, da: number, db: number}[]} children   corner and size
 * @property {number[]} ports               where on the rim
 * @property {[number, number][][]} lines   of segments
 * @property {(number[] | null)[]} orders   of children
 * @property {number} da
 * @property {number} db
 */

/** @typedef {Map<string, Plan>} Memory   plans by what they are of */

/** @typedef {{x: number, y: number, y2?: number}} Bend   y2: it is led straight from y to there */

export const FRAME_HEAD = 26
const FRAME_PAD = 16
const FAN = 26 // room along the flow in which a line that comes into a part may spread
const GAP = { TB: { rank: 30, node: 28 }, LR: { rank: 34, node: 26 } }
const PORT_GAP = 14
const LONG = 6 // ranks; data that is read again so far on goes by a lane beside all others
const LANE = 16

/**
 * @param {Structure} structure
 * @param {Scene} scene
 * @param {FoldState} state
 * @param {Measures} measures
 * @param {Direction} direction
 * @param {Memory} memory
 * @returns {Placed}
 */
export function place(structure, scene, state, measures, direction, memory) {
  const { root, routes } = split(structure, scene, state)
  /** @type {Map<Part, Plan>} */
  const plans = new Map()
  const waiting = [root]
  for (const part of waiting) waiting.push(...part.children.filter((child) => typeof child === "object"))
  for (const part of waiting.reverse()) plans.set(part, remembered(part, plans, measures, direction, memory))
  return assemble(root, plans, routes, direction)
}

/**
 * The parts with what they hold, and for each edge the segments that it is made of.
 * @param {Structure} structure
 * @param {Scene} scene
 * @param {FoldState} state
 */
function split(structure, scene, state) {
  /** @type {Map<string, Part>} */
  const parts = new Map()
  const root = part(null, -1, null)
  /** @type {Map<number, Part[]>} the parts around each box, outermost first */
  const around = new Map()
  for (const box of scene.boxes) {
    const chain = [root]
    for (const { frame, copy } of structure.around[box]) {
      chain.push(part(frame, -1, /** @type {Part} */ (chain.at(-1))))
      if (!state.closed.has(frame.key)) chain.push(part(frame, copy, /** @type {Part} */ (chain.at(-1))))
    }
    adopt(/** @type {Part} */ (chain.at(-1)), box)
    around.set(box, chain)
  }
  /** @type {Map<string, [Part, number][]>} */
  const routes = new Map()
  for (const edge of scene.edges) {
    const up = /** @type {Part[]} */ (around.get(edge.from))
    const down = /** @type {Part[]} */ (around.get(edge.to))
    let common = 1
    while (common < up.length && common < down.length && up[common] === down[common]) common++
    const value = `${edge.from}.${edge.top}`
    /** @type {[Part, number][]} */
    const route = []
    let from = /** @type {Part | number} */ (edge.from)
    let slot = edge.top
    for (let i = up.length - 1; i >= common; i--) {
      const port = portOf(up[i], `out ${value}`)
      route.push(add(up[i], placeOf(up[i], from), slot, -1 - port, 0))
      from = up[i]
      slot = port
    }
    const entry = (/** @type {number} */ i) => (i < down.length ? portOf(down[i], `in ${value}`) : 0)
    const middle = up[common - 1]
    route.push(add(middle, placeOf(middle, from), slot, placeOf(middle, down[common] ?? edge.to), entry(common)))
    for (let i = common; i < down.length; i++) {
      route.push(add(down[i], -1 - entry(i), 0, placeOf(down[i], down[i + 1] ?? edge.to), entry(i + 1)))
    }
    routes.set(edge.key, route)
  }
  return { root, routes }

  /**
   * @param {Frame | null} frame
   * @param {number} copy
   * @param {Part | null} parent
   * @returns {Part}
   */
  function part(frame, copy, parent) {
    const key = `${frame?.id} ${copy}`
    let found = parts.get(key)
    if (!found) {
      found = { frame, copy, children: [], places: new Map(), ports: new Map(), segments: new Map() }
      parts.set(key, found)
      if (parent) adopt(parent, found)
    }
    return found
  }
}

/**
 * @param {Part} part
 * @param {number | Part} child
 */
function adopt(part, child) {
  part.places.set(child, part.children.length)
  part.children.push(child)
}

/**
 * @param {Part} part
 * @param {number | Part} child
 * @returns {number}
 */
function placeOf(part, child) {
  return /** @type {number} */ (part.places.get(child))
}

/**
 * @param {Part} part
 * @param {string} key
 * @returns {number}
 */
function portOf(part, key) {
  const known = part.ports.get(key)
  if (known !== undefined) return known
  part.ports.set(key, part.ports.size)
  return part.ports.size - 1
}

/**
 * @param {Part} part
 * @param {number} from
 * @param {number} fromSlot
 * @param {number} to
 * @param {number} toSlot
 * @returns {[Part, number]}
 */
function add(part, from, fromSlot, to, toSlot) {
  const key = `${from}.${fromSlot} ${to}.${toSlot}`
  let segment = part.segments.get(key)
  if (!segment) {
    segment = { index: part.segments.size, from, fromSlot, to, toSlot }
    part.segments.set(key, segment)
  }
  return [part, segment.index]
}

/**
 * The plan of a part: a known one, if one of its likes was laid out before.
 * @param {Part} part
 * @param {Map<Part, Plan>} plans
 * @param {Measures} measures
 * @param {Direction} direction
 * @param {Memory} memory
 * @returns {Plan}
 */
function remembered(part, plans, measures, direction, memory) {
  const children = part.children.map((c) => (typeof c === "number" ? measures.like(c) : `#${plans.get(c)?.id}`))
  const ways = [...part.ports.keys()].map((key) => key.slice(0, 3))
  const head = part.frame && part.copy < 0 ? measures.headWidth(part.frame) : part.frame ? "copy" : "net"
  const key = [direction, head, ...children, ...ways, ...part.segments.keys()].join("|")
  let found = memory.get(key)
  if (!found) {
    found = { ...plan(part, plans, measures, direction), id: memory.size }
    memory.set(key, found)
  }
  return found
}

/**
 * Lay out one part, the parts in it being planned already.
 * @param {Part} part
 * @param {Map<Part, Plan>} plans
 * @param {Measures} measures
 * @param {Direction} direction
 * @returns {Omit<Plan, "id">}
 */
function plan(part, plans, measures, direction) {
  const graph = new dagre.graphlib.Graph({ multigraph: true })
  const rank = part.children.every((c) => typeof c === "object" && c.copy >= 0) ? 4 : GAP[direction].rank
  graph.setGraph({ ranksep: rank, nodesep: GAP[direction].node, edgesep: 18 })
  graph.setDefaultEdgeLabel(() => ({}))
  const leans = part.children.map((child) => lean(child, plans))
  const sizes = part.children.map((child, i) => {
    const size = typeof child === "number" ? turned(measures.sizeOf(child), direction) : /** @type {Plan} */ (plans.get(child))
    graph.setNode(String(i), { width: size.da + 2 * Math.abs(leans[i]), height: size.db })
    return size
  })
  const ways = [...part.ports.keys()].map((key) => key.slice(0, 3))
  ways.forEach((_, port) => graph.setNode(String(-1 - port), { width: PORT_GAP, height: 0 }))
  const far = longOnes(part, measures)
  for (const { index, from, to } of part.segments.values()) {
    if (!far.has(index)) graph.setEdge(String(from), String(to), { weight: 1 }, `s${index}`)
  }
  hold(graph, ways)
  dagre.layout(graph)

  const children = sizes.map(({ da, db }, i) => {
    const { x, y } = graph.node(String(i))
    return { a: x - da / 2 - leans[i], b: y - db / 2, da, db }
  })
  /** @type {Map<number, number>} half of the extent of each rank, by where its middle lies */
  const ranks = new Map()
  for (const { b, db } of children) ranks.set(Math.round(b + db / 2), Math.max(ranks.get(Math.round(b + db / 2)) ?? 0, db / 2))
  /** @type {Bend[][]} of each segment */
  const bends = Array.from({ length: part.segments.size }, () => [])
  for (const edge of graph.edges()) {
    const name = edge.name ?? ""
    if (name.startsWith("s")) bends[Number(name.slice(1))] = graph.edge(edge).points.slice(1, -1)
  }
  lanes(part, far, children, ranks, bends, rank)
  const ports = ways.map((_, port) => /** @type {number} */ (graph.node(String(-1 - port)).x))
  const { ends, orders } = attach(part, plans, children, ports, bends, measures)
  return fitted(part, { children, ranks, bends, ports, ends, orders }, measures, direction)
}

/**
 * How far from a part's middle the line leaves it, or else comes in: this is what is set into the line of the trunk.
 * @param {number | Part} child
 * @param {Map<Part, Plan>} plans
 */
function lean(child, plans) {
  if (typeof child === "number") return 0
  const { ports, da } = /** @type {Plan} */ (plans.get(child))
  const keys = [...child.ports.keys()]
  const at = Math.max(keys.findIndex((key) => key.startsWith("out")), 0)
  return ports.length ? ports[at] - da / 2 : 0
}

/**
 * Hold ports at the first and the last rank, by edges that are not drawn.
 * @param {any} graph
 * @param {string[]} ways
 */
function hold(graph, ways) {
  const ends = [
    { way: "in ", rim: "first", loose: graph.sources() },
    { way: "out", rim: "last", loose: graph.sinks() },
  ]
  for (const { way, rim, loose } of ends) {
    const ports = ways.flatMap((w, port) => (w === way ? [String(-1 - port)] : []))
    if (!ports.length) continue
    graph.setNode(rim, { width: 0, height: 0 })
    const others = loose.filter((/** @type {string} */ v) => Number(v) >= 0)
    for (const [end, weight] of [...ports.map((p) => [p, 8]), ...others.map((/** @type {string} */ v) => [v, 0])]) {
      if (way === "in ") graph.setEdge(rim, end, { weight }, rim)
      else graph.setEdge(end, rim, { weight }, rim)
    }
  }
}

/**
 * Segments from data to what reads it much later than the rest of it is read, such as labels to a loss. They take no part
 * in the layout, which they would only pull apart.
 * @param {Part} part
 * @param {Measures} measures
 * @returns {Set<number>} their indices
 */
function longOnes(part, measures) {
  /** @type {Set<number>} */
  const found = new Set()
  const feeding = part.children.filter((child) => typeof child === "number" && measures.feeds(child))
  if (!feeding.length) return found
  /** @type {number[][]} */
  const readers = part.children.map(() => [])
  for (const { from, to } of part.segments.values()) if (from >= 0 && to >= 0) readers[from].push(to)
  /** @type {number[]} how many ranks lie behind each child */
  const behind = []
  for (const first of readers.keys()) {
    const waiting = [first] // a net may be deeper than the stack
    while (waiting.length) {
      const at = /** @type {number} */ (waiting.at(-1))
      const open = readers[at].filter((child) => behind[child] === undefined)
      if (open.length) waiting.push(...open)
      else {
        behind[at] = Math.max(0, ...readers[at].map((child) => 1 + behind[child]))
        waiting.pop()
      }
    }
  }
  for (const child of feeding) {
    const mine = [...part.segments.values()].filter(({ from, to }) => from === placeOf(part, child) && to >= 0)
    const most = Math.max(...mine.map(({ to }) => behind[to]))
    for (const { index, to } of mine) if (most - behind[to] >= LONG) found.add(index)
  }
  return found
}

/**
 * Lead the long segments along lanes: one for each value, on that side of all where most of its readers are.
 * @param {Part} part
 * @param {Set<number>} far
 * @param {Plan["children"]} children
 * @param {Map<number, number>} ranks
 * @param {Bend[][]} bends
 * @param {number} gap
 */
function lanes(part, far, children, ranks, bends, gap) {
  const bent = bends.flat().map(({ x }) => x)
  let left = Math.min(...children.map(({ a }) => a), ...bent)
  let right = Math.max(...children.map(({ a, da }) => a + da), ...bent)
  const middle = (left + right) / 2
  const long = [...part.segments.values()].filter(({ index }) => far.has(index))
  /** @type {Map<string, number>} */
  const found = new Map()
  for (const { index, from, fromSlot, to } of long) {
    const value = `${from}.${fromSlot}`
    let x = found.get(value)
    if (x === undefined) {
      const readers = long.filter((s) => s.from === from && s.fromSlot === fromSlot).map((s) => children[s.to])
      const at = readers.reduce((sum, { a, da }) => sum + a + da / 2, 0) / readers.length
      x = at > middle ? (right += LANE) : (left -= LANE)
      found.set(value, x)
    }
    const rim = (/** @type {number} */ place, /** @type {number} */ side) => {
      const at = children[place].b + children[place].db / 2
      return at + side * ((ranks.get(Math.round(at)) ?? 0) + gap)
    }
    bends[index] = [{ x, y: rim(from, 1), y2: rim(to, -1) }]
  }
}

/**
 * Where along the rim of its ends each segment begins and stops. Those that come into a box come in side by side, in the
 * order in which they come near, and the values of a box leave it in the order in which they part; a part's are where
 * its ports are.
 * @param {Part} part
 * @param {Map<Part, Plan>} plans
 * @param {Plan["children"]} children
 * @param {number[]} ports
 * @param {Bend[][]} bends
 * @param {Measures} measures
 */
function attach(part, plans, children, ports, bends, measures) {
  const segments = [...part.segments.values()]
  const orders = part.children.map((child, place) =>
    typeof child === "number" && measures.tops(child) > 1 ? ordered(place, measures.tops(child)) : null,
  )
  const ends = segments.map(({ from, fromSlot, to, toSlot }) => [along(from, fromSlot, true), along(to, toSlot, false)])
  part.children.forEach((child, place) => {
    if (typeof child === "object") return
    const near = (/** @type {number} */ index) => bends[index].at(-1)?.x ?? ends[index][0]
    const coming = segments.filter(({ to }) => to === place).sort((p, q) => near(p.index) - near(q.index))
    const { a, da } = children[place]
    const gap = Math.min(PORT_GAP, (da - 24) / Math.max(coming.length - 1, 1))
    coming.forEach(({ index }, i) => (ends[index][1] = a + da / 2 + gap * (i - (coming.length - 1) / 2)))
  })
  return { ends, orders }

  /**
   * @param {number} end
   * @param {number} slot
   * @param {boolean} leaves
   * @returns {number}
   */
  function along(end, slot, leaves) {
    if (end < 0) return ports[-1 - end]
    const child = part.children[end]
    const { a, da } = children[end]
    if (typeof child === "object") return a + /** @type {Plan} */ (plans.get(child)).ports[slot]
    return a + (leaves ? measures.leaves(child, orders[end] ?? [], slot) : da / 2)
  }

  /**
   * The values of a box by where their lines lead to.
   * @param {number} place
   * @param {number} tops
   * @returns {number[]}
   */
  function ordered(place, tops) {
    const middle = children[place].a + children[place].da / 2
    const leads = Array.from({ length: tops }, (_, top) => {
      const at = segments
        .filter(({ from, fromSlot }) => from === place && fromSlot === top)
        .map(({ index, to, toSlot }) => bends[index][0]?.x ?? along(to, toSlot, false))
      return at.length ? at.reduce((p, q) => p + q, 0) / at.length : middle
    })
    return [...leads.keys()].sort((p, q) => leads[p] - leads[q] || p - q)
  }
}

/**
 * The part cut to its content, with lines from rim to rim.
 * @param {Part} part
 * @param {{children: Plan["children"], ranks: Map<number, number>, bends: Bend[][], ports: number[], ends: number[][], orders: Plan["orders"]}} found
 * @param {Measures} measures
 * @param {Direction} direction
 * @returns {Omit<Plan, "id">}
 */
function fitted(part, { children, ranks, bends, ports, ends, orders }, measures, direction) {
  const beside = [...bends.flat().map(({ x }) => x), ...ports]
  const low = Math.min(...children.map(({ a }) => a), ...beside.map((x) => x - 10))
  const high = Math.max(...children.map(({ a, da }) => a + da), ...beside.map((x) => x + 10))
  const first = Math.min(...children.map(({ b }) => b))
  const last = Math.max(...children.map(({ b, db }) => b + db))

  const pad = { before: 0, after: 0, first: 0, last: 0 }
  let straight = 0 // how far lines go on straight before they spread
  if (part.copy >= 0) {
    pad.first = pad.last = FAN
    if (!part.ports.size) pad.first = pad.last = 0
  } else if (part.frame) {
    Object.assign(pad, { before: FRAME_PAD, after: FRAME_PAD, first: FAN, last: FRAME_PAD })
    const open = part.children.some((child) => typeof child === "object" && child.frame === part.frame)
    const wanted = measures.headWidth(part.frame)
    if (direction === "TB") {
      straight = FRAME_HEAD + 2
      pad.first = FRAME_HEAD + (open ? 4 : FAN)
      const missing = Math.max(0, wanted - (high - low + 2 * FRAME_PAD))
      pad.before += missing / 2
      pad.after += missing / 2
    } else {
      pad.before += FRAME_HEAD
      pad.last += Math.max(0, wanted - (last - first + pad.first + pad.last))
    }
    if (part.ports.size && !open) pad.last += 10
  }
  const [da, db] = [high - low + pad.before + pad.after, last - first + pad.first + pad.last]
  const [shiftA, shiftB] = [pad.before - low, pad.first - first]
  /** @type {Plan["lines"]} */
  const lines = []
  for (const { index, from, to } of part.segments.values()) {
    /** @type {[number, number][]} */
    const line = []
    line.push([ends[index][0] + shiftA, from < 0 ? 0 : children[from].b + children[from].db + shiftB])
    if (from < 0 && straight) line.push([ends[index][0] + shiftA, straight])
    for (const { x, y, y2 } of bends[index]) {
      const half = ranks.get(Math.round(y)) ?? 0
      line.push([x + shiftA, (y2 === undefined ? y - half : y) + shiftB], [x + shiftA, (y2 ?? y + half) + shiftB])
    }
    line.push([ends[index][1] + shiftA, to < 0 ? db : children[to].b + shiftB])
    lines.push(line)
  }
  return {
    children: children.map((c) => ({ ...c, a: c.a + shiftA, b: c.b + shiftB })),
    ports: ports.map((a) => a + shiftA),
    lines,
    orders,
    da,
    db,
  }
}

/**
 * All plans in one picture.
 * @param {Part} root
 * @param {Map<Part, Plan>} plans
 * @param {Map<string, [Part, number][]>} routes
 * @param {Direction} direction
 * @returns {Placed}
 */
function assemble(root, plans, routes, direction) {
  const { da, db } = planOf(root)
  /** @type {Placed} */
  const placed = {
    boxes: new Map(),
    frames: new Map(),
    edges: new Map(),
    orders: new Map(),
    lines: new Map(),
    bounds: laid(0, 0, da, db),
  }
  /** @type {Map<Part, {a: number, b: number}>} */
  const corners = new Map([[root, { a: 0, b: 0 }]])
  for (const [part, corner] of corners) {
    const { children, orders } = planOf(part)
    part.children.forEach((child, place) => {
      const { a, b, da, db } = children[place]
      const at = { a: a + corner.a, b: b + corner.b }
      if (typeof child === "number") {
        placed.boxes.set(child, laid(at.a, at.b, da, db))
        const order = orders[place]
        if (order) placed.orders.set(child, order)
        return
      }
      corners.set(child, at)
      if (child.copy >= 0 || !child.frame) return
      placed.frames.set(child.frame, laid(at.a, at.b, da, db))
      const entries = [...child.ports].filter(([key]) => key.startsWith("in")).map(([, port]) => planOf(child).ports[port])
      placed.lines.set(child.frame, direction === "TB" ? entries : [])
    })
  }
  for (const [edge, route] of routes) {
    const points = route.flatMap(([part, segment]) => {
      const corner = /** @type {{a: number, b: number}} */ (corners.get(part))
      return planOf(part).lines[segment].map(([a, b]) => laid(a + corner.a, b + corner.b, 0, 0))
    })
    placed.edges.set(edge, points.map(({ x, y }) => ({ x, y })))
  }
  return placed

  /** @param {Part} part */
  function planOf(part) {
    return /** @type {Plan} */ (plans.get(part))
  }

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
 * A line along corners: straight along the flow, and bent where it changes its place across it.
 * @param {Point[]} points
 * @param {Direction} direction
 * @returns {string}
 */
export function path(points, direction) {
  const tb = direction === "TB"
  let { x, y } = points[0]
  let d = `M${r(x)},${r(y)}`
  for (const p of points.slice(1)) {
    if (Math.abs(p.x - x) + Math.abs(p.y - y) < 0.5) continue
    const bend = tb ? (y + p.y) / 2 : (x + p.x) / 2
    if (Math.abs(tb ? p.x - x : p.y - y) < 0.5) d += `L${r(p.x)},${r(p.y)}`
    else if (tb) d += `C${r(x)},${r(bend)} ${r(p.x)},${r(bend)} ${r(p.x)},${r(p.y)}`
    else d += `C${r(bend)},${r(y)} ${r(bend)},${r(p.y)} ${r(p.x)},${r(p.y)}`
    ;({ x, y } = p)
  }
  return d
}

/** @param {number} v */
function r(v) {
  return Math.round(v * 10) / 10
}
