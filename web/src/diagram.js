/**
 * The diagram: a net drawn in an element, to zoom, walk and fold. It knows nothing of the page around it.
 *
 *     const diagram = mount(element, net, { direction: "TB" })
 *     diagram.on("select", (layer) => ...)
 */

import { select as d3select } from "d3-selection"
import { zoom as d3zoom, zoomIdentity } from "d3-zoom"
import { isLight, painter } from "./colours.js"
import { s } from "./dom.js"
import { cellOf, cellSize, drawBox, drawEdge, drawFrame, drawPills, headWidth, pillAt, spoken } from "./draw.js"
import { place } from "./layout.js"
import { Strip } from "./strip.js"
import { Structure, shownCopy } from "./scene.js"
import { Wiring } from "./trace.js"

/** @typedef {import("./types.js").Net} Net */
/** @typedef {import("./types.js").Member} Member */
/** @typedef {import("./scene.js").Frame} Frame */
/** @typedef {import("./layout.js").Rect} Rect */

/**
 * A layer of the net: its index among all layers, its box, and its place in the box.
 * @typedef {{index: number, box: number, row: number, member: Member}} Layer
 */

/**
 * @typedef {object} Options
 * @property {"TB" | "LR"} [direction]
 * @property {"light" | "dark"} [theme]
 * @property {string} [colour]          "kind", or a figure's key
 * @property {boolean} [folded]         whether folds are closed at first
 */

/**
 * What is told: `select` (Layer or null), `fold` (), `zoom` (scale), `say` (text for a live region).
 * @typedef {"select" | "fold" | "zoom" | "say"} Told
 */

const LEAST = 0.02
const MOST = 4
const READABLE = 0.66 // below this scale the words are too small

/**
 * @param {HTMLElement} element
 * @param {Net} net
 * @param {Options} [options]
 */
export function mount(element, net, options = {}) {
  return new Diagram(element, net, options)
}

export class Diagram {
  /**
   * @param {HTMLElement} element
   * @param {Net} net
   * @param {Options} options
   */
  constructor(element, net, options) {
    this.element = element
    /** @type {"TB" | "LR"} */
    this.direction = options.direction ?? "TB"
    /** @type {"light" | "dark"} */
    this.theme = options.theme ?? "light"
    this.colour = options.colour ?? "kind"
    this.startFolded = options.folded ?? true
    /** @type {Record<string, ((value: any) => void)[]>} */
    this.listeners = {}
    /** @type {Layer | null} */
    this.selected = null
    /** @type {Set<number>} */
    this.hits = new Set()
    this.focused = -1
    this.came = -1 // the box that an arrow key led away from
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.waiting = undefined
    this.net = net
    this.structure = new Structure(net)
    /** @type {import("./scene.js").FoldState} */
    this.state = { closed: new Set(), shown: new Map() }
    /** @type {import("./scene.js").Scene} */
    this.scene = { boxes: [], frames: [], edges: [] }
    this.wiring = new Wiring(this.scene)
    /** @type {import("./layout.js").Placed} */
    this.placed = { boxes: new Map(), frames: new Map(), edges: new Map(), orders: new Map(), lines: new Map(), bounds: { x: 0, y: 0, width: 1, height: 1 } }
    /** @type {Layer[]} */
    this.layers = []
    /** @type {number[]} the index of each box's first layer */
    this.firstLayer = []
    /** @type {import("./layout.js").Memory} */
    this.memory = new Map()
    /** @type {import("./draw.js").Cell[]} of each box */
    this.cells = []
    this.measured = "" // the direction that they were measured for
    /** @type {Map<number, SVGGElement>} by box */
    this.groups = new Map()
    /** @type {Map<number, SVGGElement>} by box */
    this.pills = new Map()
    /** @type {Map<string, SVGPathElement>} by edge */
    this.lines = new Map()

    this.world = s("g", { class: "world" })
    this.svg = s(
      "svg",
      { class: "diagram", role: "application", "aria-roledescription": "diagram", width: "100%", height: "100%" },
      s(
        "defs",
        null,
        ["arrow", "arrow-up", "arrow-down"].map((id) =>
          s(
            "marker",
            { id: `nc-${id}`, class: id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto", markerUnits: "userSpaceOnUse" },
            s("path", { d: "M0.5,0.5 7.5,4 0.5,7.5z" }),
          ),
        ),
      ),
      this.world,
    )
    element.append(this.svg)
    this.strip = new Strip(element, (x, y) => this.centreOn(x, y))
    this.zoom = d3zoom()
      .scaleExtent([LEAST, MOST])
      .filter((event) => (event.type === "wheel" ? event.ctrlKey || event.metaKey : !event.button))
      .on("zoom", (event) => this.moved(event.transform))
    this.selection = d3select(/** @type {Element} */ (this.svg)).call(this.zoom).on("dblclick.zoom", null)
    this.listen()
    this.take(net, true)
    this.seen = this.size()
    this.start()
    this.observer = new ResizeObserver(() => this.resized())
    this.observer.observe(element)
  }

  // What the page around may ask.

  /**
   * Draw another net, or the same one after an edit: what is folded, selected and looked at stays as far as it can.
   * @param {Net} net
   */
  update(net) {
    const selected = this.selected?.member.name
    const fresh = net.name !== this.net.name
    this.take(net)
    if (fresh) this.start()
    this.select(selected === undefined ? null : selected, { reveal: false })
  }

  /**
   * Select a layer, by its index or name; null: none.
   * @param {number | string | null} which
   * @param {{reveal?: boolean, focus?: boolean}} [how]   reveal: move it into view;  focus: take the keyboard there
   */
  select(which, { reveal = true, focus = false } = {}) {
    const layer = this.layer(which)
    if (layer) this.show(layer.box)
    const before = this.selected
    this.selected = layer
    this.markSelected()
    if (layer && reveal) this.reveal(layer.box)
    if (layer && focus) this.focus(layer.box)
    if (before?.index !== layer?.index) this.tell("select", layer)
  }

  /**
   * @param {number | string | null} which
   * @returns {Layer | null}
   */
  layer(which) {
    if (which === null) return null
    return (typeof which === "number" ? this.layers[which] : this.layers.find((l) => l.member.name === which)) ?? null
  }

  /** See all of it. */
  fit() {
    const { width, height } = this.size()
    const b = this.placed.bounds
    const scale = Math.min((width - 56) / (b.width + 32), (height - 24) / (b.height + 32), 1.25)
    this.look(b.x + b.width / 2, b.y + b.height / 2, scale)
  }

  /**
   * @param {string} key   "kind", or a figure's key
   */
  colourBy(key) {
    this.colour = key
    this.paint()
  }

  /** @param {"light" | "dark"} theme */
  wear(theme) {
    this.theme = theme
    this.paint()
  }

  /** @param {"TB" | "LR"} direction */
  turn(direction) {
    this.direction = direction
    this.arrange()
    this.start()
  }

  /**
   * @param {Told} event
   * @param {(value: any) => void} fn
   */
  on(event, fn) {
    ;(this.listeners[event] ??= []).push(fn)
    return this
  }

  /** @param {boolean} closed */
  foldAll(closed) {
    const anchor = this.anchor(this.selected?.box)
    this.state = { closed: new Set(closed ? this.structure.frames.map((f) => f.key) : []), shown: this.state.shown }
    if (this.selected) this.state = this.structure.showing(this.selected.box, this.state)
    this.arrange(anchor)
    this.say(closed ? "All blocks folded" : "All blocks unfolded")
    this.tell("fold", null)
  }

  /**
   * @param {string} key   Frame.key
   * @param {boolean} [closed]
   */
  fold(key, closed = !this.state.closed.has(key)) {
    const frame = this.structure.frames.find((f) => f.key === key)
    if (!frame) return
    const shown = this.scene.boxes.find((box) => this.structure.framesAround(box).some((f) => f.key === key))
    const anchor = this.anchor(this.selected && this.isIn(this.selected.box, key) ? this.selected.box : shown)
    const set = new Set(this.state.closed)
    if (closed) set.add(key)
    else set.delete(key)
    this.state = { closed: set, shown: this.state.shown }
    if (closed && this.selected) this.state = this.structure.showing(this.selected.box, this.state)
    this.arrange(anchor)
    this.say(`${frame.fold.names[0]} to ${frame.fold.names.at(-1)}, ${frame.fold.copies.length} copies, ${closed ? "folded" : "unfolded"}`)
    this.tell("fold", null)
  }

  /**
   * Show another copy of a closed fold; the selection goes with it.
   * @param {string} key
   * @param {number} step
   */
  step(key, step) {
    const frame = this.structure.frames.find((f) => f.key === key)
    if (!frame) return
    const { copies, names } = frame.fold
    const now = shownCopy(frame, this.state)
    const next = Math.min(Math.max(now + step, 0), copies.length - 1)
    if (next === now) return
    const at = this.selected ? this.placeIn(this.selected.box, frame, now) : -1
    this.state.shown.set(key, next)
    this.arrange()
    this.say(`${names[next]}, copy ${next + 1} of ${copies.length}`)
    if (this.selected && at >= 0) {
      const box = this.structure.shownFor(copies[next][at], this.state)
      this.select(this.firstLayer[box] + Math.min(this.selected.row, this.net.boxes[box].members.length - 1), { reveal: false })
    }
    this.tell("fold", null)
  }

  /**
   * Mark boxes, as those that a search found.
   * @param {Iterable<number>} layers
   */
  mark(layers) {
    this.hits = new Set([...layers].map((i) => this.structure.shownFor(this.layers[i].box, this.state)))
    for (const [box, g] of this.groups) g.classList.toggle("hit", this.hits.has(box))
    this.strip.draw(this)
  }

  /** @param {number} factor */
  scaleBy(factor) {
    this.selection.call(this.zoom.scaleBy, factor)
  }

  /** Life size, around the middle of what is seen. */
  lifeSize() {
    this.selection.call(this.zoom.scaleTo, 1)
  }

  /**
   * The frames around a layer's box that repeat, outermost first.
   * @param {Layer} layer
   * @returns {{key: string, names: string[], copy: number, copies: number, closed: boolean}[]}
   */
  blocksOf(layer) {
    return this.structure.around[layer.box].map(({ frame, copy }) => ({
      key: frame.key,
      names: frame.fold.names,
      copy,
      copies: frame.fold.copies.length,
      closed: this.state.closed.has(frame.key),
    }))
  }

  /**
   * Do something while the diagram looks as it does at life size, with nothing selected, traced or found.
   * @template T
   * @param {() => T} work
   * @returns {T}
   */
  plainly(work) {
    const was = this.svg.getAttribute("class") ?? "diagram"
    this.svg.setAttribute("class", "diagram plain")
    try {
      return work()
    } finally {
      this.svg.setAttribute("class", was)
    }
  }

  /**
   * Where the layers that are drawn stand on the screen, and how large; those in the middle first.
   * @returns {{scale: number, places: {name: string, x: number, y: number}[]}}
   */
  seenAt() {
    const t = this.transform()
    const { width, height } = this.size()
    const places = this.scene.boxes.map((box) => {
      const found = rect(this.placed.boxes, box)
      const [x, y] = t.apply([found.x, found.y])
      const far = Math.hypot(x + (found.width * t.k) / 2 - width / 2, y + (found.height * t.k) / 2 - height / 2)
      return { name: this.net.boxes[box].members[0].name, x, y, far: box === this.selected?.box ? -1 : far }
    })
    return { scale: t.k, places: places.sort((a, b) => a.far - b.far) }
  }

  /**
   * Have a layer stand where it stood in another diagram: the first of those that this net has as well.
   * @param {ReturnType<Diagram["seenAt"]>} seen
   */
  resume({ scale, places }) {
    const names = new Map(this.layers.map((layer) => [layer.member.name, layer.box]))
    const same = places.find(({ name }) => names.has(name))
    if (!same) return this.start()
    const box = /** @type {number} */ (names.get(same.name))
    this.show(box)
    const { x, y } = rect(this.placed.boxes, box)
    this.selection.call(this.zoom.transform, zoomIdentity.translate(same.x - x * scale, same.y - y * scale).scale(scale))
  }

  /** Whether there is anything to fold. */
  get foldable() {
    return this.structure.frames.length > 0
  }

  destroy() {
    this.observer.disconnect()
    this.svg.remove()
    this.strip.remove()
  }

  // From here on: its own affairs.

  /**
   * @param {Net} net
   * @param {boolean} [first]
   */
  take(net, first = false) {
    const known = new Set(first ? [] : this.structure.frames.map((f) => f.key))
    const before = this.state
    this.net = net
    this.measured = ""
    this.memory.clear()
    this.structure = new Structure(net)
    const closed = this.structure.frames.filter((f) => (known.has(f.key) ? before.closed.has(f.key) : this.startFolded))
    this.state = { closed: new Set(closed.map((f) => f.key)), shown: before.shown }
    this.layers = []
    this.firstLayer = []
    net.boxes.forEach((box, i) => {
      this.firstLayer.push(this.layers.length)
      box.members.forEach((member, row) => this.layers.push({ index: this.layers.length, box: i, row, member }))
    })
    this.svg.setAttribute("aria-label", `Diagram of ${net.name || "the net"}: arrow keys follow the edges`)
    this.arrange()
  }

  /**
   * Lay out and draw what the state shows.
   * @param {{box: number, x: number, y: number} | null} [anchor]   a box to keep at its place on the screen
   */
  arrange(anchor = null) {
    this.scene = this.structure.scene(this.state)
    this.wiring = new Wiring(this.scene)
    this.measure()
    const { cells, direction } = this
    this.placed = place(
      this.structure,
      this.scene,
      this.state,
      {
        sizeOf: (box) => cellSize(cells[box], direction),
        tops: (box) => cells[box].pills.length,
        feeds: (box) => this.net.boxes[box].category === "data",
        leaves: (box, order, top) => pillAt(cells[box], order, top, direction),
        like: (box) => {
          const { width, height, pills } = cells[box]
          return `${width} ${height} ${pills.map((p) => p.width)} ${this.net.boxes[box].category === "data"}`
        },
        headWidth,
      },
      direction,
      this.memory,
    )
    for (const [box, rect] of this.placed.boxes) Object.assign(rect, { width: cells[box].width, height: cells[box].height })
    this.draw()
    if (anchor) {
      const rect = this.placed.boxes.get(this.structure.shownFor(anchor.box, this.state))
      const t = this.transform()
      if (rect) {
        const [x, y] = [anchor.x - rect.x * t.k, anchor.y - rect.y * t.k]
        this.selection.call(this.zoom.transform, zoomIdentity.translate(x, y).scale(t.k))
      }
    }
  }

  /** The cells of all boxes; as wide as the widest of those that are alike, so that copies do not jump. */
  measure() {
    if (this.measured === this.direction) return
    this.measured = this.direction
    this.cells = this.net.boxes.map((box) => cellOf(box, this.direction))
    /** @type {Map<number, {width: number, pills: number[]}>} */
    const most = new Map()
    const likes = this.net.boxes.map((_, box) => this.structure.likeIn(box))
    this.cells.forEach(({ width, pills }, box) => {
      const other = most.get(likes[box]) ?? { width: 0, pills: [] }
      most.set(likes[box], {
        width: Math.max(width, other.width),
        pills: pills.map((p, i) => Math.max(p.width, other.pills[i] ?? 0)),
      })
    })
    this.cells.forEach((cell, box) => {
      const { width, pills } = /** @type {{width: number, pills: number[]}} */ (most.get(likes[box]))
      cell.width = width
      cell.pills.forEach((pill, i) => (pill.width = pills[i]))
    })
  }

  draw() {
    const { net, scene, placed, direction } = this
    const hadFocus = this.svg.contains(document.activeElement)
    this.groups = new Map()
    this.pills = new Map()
    this.lines = new Map()
    const frames = s("g")
    for (const frame of scene.frames) {
      frames.append(drawFrame(frame, this.state, rect(placed.frames, frame), placed.lines.get(frame) ?? []))
    }
    const edges = s("g")
    for (const edge of scene.edges) {
      const points = placed.edges.get(edge.key) ?? []
      const line = drawEdge(edge, points, direction)
      this.lines.set(edge.key, line)
      edges.append(line)
    }
    const pills = s("g")
    const boxes = s("g")
    for (const box of scene.boxes) {
      const g = drawBox(net.boxes[box], box, this.firstLayer[box], rect(placed.boxes, box))
      this.groups.set(box, g)
      boxes.append(g)
      const leaving = drawPills(this.cells[box], rect(placed.boxes, box), placed.orders.get(box) ?? [], direction)
      this.pills.set(box, leaving)
      pills.append(leaving)
      if (this.hits.has(box)) g.classList.add("hit")
    }
    this.world.replaceChildren(frames, edges, pills, boxes)
    this.markSelected()
    const keep = this.groups.has(this.focused) ? this.focused : (this.selected?.box ?? scene.boxes[0] ?? -1)
    this.rove(this.structure.shownFor(Math.max(keep, 0), this.state))
    if (hadFocus) this.groups.get(this.focused)?.focus({ preventScroll: true })
    this.paint()
    this.bound()
  }

  paint() {
    const paint = painter(this.net, this.colour, this.theme)
    const heat = this.colour !== "kind"
    this.world.classList.toggle("heat", heat)
    for (const [box, g] of this.groups) {
      for (const fill of g.querySelectorAll(".fill")) {
        const { member } = this.layers[Number(fill.getAttribute("data-layer"))]
        fill.setAttribute("fill", paint(member).fill)
      }
      const texts = g.querySelectorAll("text")
      this.net.boxes[box].members.forEach((member, row) => {
        const dark = heat && !isLight(paint(member).fill)
        for (const text of row ? [texts[row + 1]] : [texts[0], texts[1]]) text.classList.toggle("on-dark", dark)
      })
      g.querySelector(".card")?.setAttribute("stroke", paint(this.net.boxes[box].members[0]).stroke)
    }
    this.strip.draw(this)
  }

  bound() {
    const { x, y, width, height } = this.placed.bounds
    const margin = 600
    this.zoom.translateExtent([
      [x - margin, y - margin],
      [x + width + margin, y + height + margin],
    ])
  }

  /** Where to look first: all of it if the words can be read then; else its beginning. */
  start() {
    const { width, height } = this.size()
    const b = this.placed.bounds
    if (Math.min((width - 56) / (b.width + 32), (height - 24) / (b.height + 32)) >= READABLE) {
      this.fit()
      return
    }
    const tb = this.direction === "TB"
    const across = tb ? (width - 72) / (b.width + 32) : (height - 48) / (b.height + 32)
    const scale = Math.min(Math.max(across, READABLE), 1)
    const first = this.placed.boxes.get(this.scene.boxes[0])
    const wide = across < READABLE && first
    const x = tb ? width / 2 - (wide ? first.x + first.width / 2 : b.x + b.width / 2) * scale : 32 - b.x * scale
    const y = tb ? 32 - b.y * scale : height / 2 - (wide ? first.y + first.height / 2 : b.y + b.height / 2) * scale
    this.selection.call(this.zoom.transform, zoomIdentity.translate(x, y).scale(scale))
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {number} [scale]
   */
  look(x, y, scale = this.transform().k) {
    const { width, height } = this.size()
    this.selection.call(this.zoom.transform, zoomIdentity.translate(width / 2 - x * scale, height / 2 - y * scale).scale(scale))
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  centreOn(x, y) {
    this.look(x, y)
  }

  /**
   * Move a box into view; nothing where it is seen well already.
   * @param {number} box
   */
  reveal(box) {
    const found = this.placed.boxes.get(box)
    if (!found) return
    const { width, height } = this.size()
    const t = this.transform()
    const [left, top] = t.apply([found.x, found.y])
    const [right, bottom] = t.apply([found.x + found.width, found.y + found.height])
    const seen = left > 24 && top > 24 && right < width - 56 && bottom < height - 40
    if (seen && t.k >= READABLE * 0.7) return
    this.look(found.x + found.width / 2, found.y + found.height / 2, Math.max(t.k, READABLE + 0.1))
  }

  transform() {
    const t = /** @type {any} */ (this.svg).__zoom
    return /** @type {import("d3-zoom").ZoomTransform} */ (t ?? zoomIdentity)
  }

  size() {
    return { width: this.element.clientWidth || 800, height: this.element.clientHeight || 600 }
  }

  /** @param {import("d3-zoom").ZoomTransform} t */
  moved(t) {
    this.world.setAttribute("transform", t.toString())
    const far = t.k < 0.22 ? "far farther" : t.k < 0.42 ? "far" : ""
    const wanted = ["diagram", far, this.svg.classList.contains("tracing") ? "tracing" : ""].filter(Boolean).join(" ")
    if (this.svg.getAttribute("class") !== wanted) this.svg.setAttribute("class", wanted)
    this.strip.see(this)
    this.tell("zoom", t.k)
  }

  /** What lies in the middle of the view stays there. */
  resized() {
    const { width, height } = this.size()
    const before = this.seen
    this.seen = { width, height }
    if (width === before.width && height === before.height) return
    const t = this.transform()
    const [x, y] = [t.x + (width - before.width) / 2, t.y + (height > before.height ? 0 : Math.min(0, this.focusShift(t, height)))]
    this.selection.call(this.zoom.transform, zoomIdentity.translate(x, y).scale(t.k))
    this.strip.draw(this)
  }

  /**
   * How far up the selected box must move to be seen in a view of this height.
   * @param {import("d3-zoom").ZoomTransform} t
   * @param {number} height
   */
  focusShift(t, height) {
    const found = this.selected && this.placed.boxes.get(this.selected.box)
    return found ? height - 24 - t.applyY(found.y + found.height) : 0
  }

  listen() {
    this.svg.addEventListener("wheel", (event) => this.wheeled(event), { passive: false })
    this.svg.addEventListener("click", (event) => this.clicked(event))
    this.svg.addEventListener("pointerover", (event) => this.hovered(event))
    this.svg.addEventListener("pointerleave", () => this.trace(-1))
    this.svg.addEventListener("keydown", (event) => this.pressed(event))
    this.svg.addEventListener("focusin", (event) => {
      const box = closest(event.target, "[data-box]")
      if (box) this.rove(Number(box.getAttribute("data-box")))
    })
  }

  /** @param {WheelEvent} event */
  wheeled(event) {
    if (event.ctrlKey || event.metaKey) return // zooms
    event.preventDefault()
    const unit = event.deltaMode === 1 ? 20 : event.deltaMode === 2 ? 400 : 1
    const [dx, dy] = event.shiftKey && !event.deltaX ? [event.deltaY, 0] : [event.deltaX, event.deltaY]
    const { k } = this.transform()
    this.selection.call(this.zoom.translateBy, (-dx * unit) / k, (-dy * unit) / k)
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    if (event.defaultPrevented) return // the end of a drag
    const action = closest(event.target, "[data-action]")
    if (action) {
      this.act(action.getAttribute("data-action") ?? "")
      return
    }
    const layer = closest(event.target, "[data-layer]")
    if (layer) this.select(Number(layer.getAttribute("data-layer")), { reveal: false })
    else this.select(null)
  }

  /** @param {string} action */
  act(action) {
    const [verb, key] = [action.slice(0, action.indexOf(":")), action.slice(action.indexOf(":") + 1)]
    if (verb === "fold") this.fold(key)
    else this.step(key, verb === "next" ? 1 : -1)
  }

  /** @param {PointerEvent} event */
  hovered(event) {
    const found = closest(event.target, "[data-box]")
    clearTimeout(this.waiting)
    this.waiting = setTimeout(() => this.trace(found ? Number(found.getAttribute("data-box")) : -1), found ? 90 : 30)
  }

  /**
   * Show the ways from a box to the inputs and the outputs; -1: none.
   * @param {number} box
   */
  trace(box) {
    clearTimeout(this.waiting)
    const on = box >= 0 && this.groups.has(box)
    this.svg.classList.toggle("tracing", on)
    const up = on ? this.wiring.reach(box, "up") : null
    const down = on ? this.wiring.reach(box, "down") : null
    for (const [other, g] of this.groups) {
      const near = other === box || !!up?.boxes.has(other) || !!down?.boxes.has(other)
      g.classList.toggle("on", near)
      this.pills.get(other)?.classList.toggle("on", near)
    }
    for (const [key, line] of this.lines) {
      line.classList.toggle("up", !!up?.edges.has(key))
      line.classList.toggle("down", !!down?.edges.has(key))
    }
  }

  markSelected() {
    for (const g of this.world.querySelectorAll(".selected, .chosen")) {
      g.classList.remove("selected", "chosen")
      g.removeAttribute("aria-pressed")
    }
    const g = this.selected && this.groups.get(this.selected.box)
    if (!g || !this.selected) return
    g.classList.add("selected")
    g.setAttribute("aria-pressed", "true")
    g.querySelector(`.fill[data-layer="${this.selected.index}"]`)?.classList.add("chosen")
  }

  /**
   * Have a box drawn, whichever copy of its folds was shown.
   * @param {number} box
   */
  show(box) {
    if (this.groups.has(box)) return
    this.state = this.structure.showing(box, this.state)
    this.arrange()
    this.tell("fold", null)
  }

  /** @param {number} box */
  focus(box) {
    this.rove(box)
    this.groups.get(box)?.focus({ preventScroll: true })
  }

  /**
   * The one box that the Tab key leads to.
   * @param {number} box
   */
  rove(box) {
    this.groups.get(this.focused)?.setAttribute("tabindex", "-1")
    this.groups.get(box)?.setAttribute("tabindex", "0")
    this.focused = box
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || this.focused < 0) return
    const way = this.wayOf(event.key)
    if (way && event.shiftKey) this.walkRows(way)
    else if (way) this.walk(way)
    else if (event.key === "Enter" || event.key === " ") this.select(this.firstLayer[this.focused], { reveal: false })
    else if (event.key === "Home") this.go(this.scene.boxes[0])
    else if (event.key === "End") this.go(/** @type {number} */ (this.scene.boxes.at(-1)))
    else if (event.key === "u") this.foldHere()
    else if (event.key === "[" || event.key === "]") this.stepHere(event.key === "]" ? 1 : -1)
    else return
    event.preventDefault()
    event.stopPropagation()
  }

  /**
   * What an arrow key means, as the net flows.
   * @param {string} key
   * @returns {"before" | "behind" | "left" | "right" | null}
   */
  wayOf(key) {
    const tb = { ArrowUp: "before", ArrowDown: "behind", ArrowLeft: "left", ArrowRight: "right" }
    const lr = { ArrowLeft: "before", ArrowRight: "behind", ArrowUp: "left", ArrowDown: "right" }
    return /** @type {any} */ ((this.direction === "TB" ? tb : lr)[/** @type {"ArrowUp"} */ (key)] ?? null)
  }

  /** @param {"before" | "behind" | "left" | "right"} way */
  walk(way) {
    const here = this.focused
    if (way === "left" || way === "right") {
      const next = this.beside(here, way)
      if (next >= 0) this.go(next, this.came)
      else this.say("Nothing beside")
      return
    }
    const edges = (way === "before" ? this.wiring.into : this.wiring.outOf).get(here) ?? []
    const ends = edges.map((e) => (way === "before" ? e.from : e.to))
    // Back where one came from, else the nearest: the next step of the trunk.
    const next = ends.includes(this.came) ? this.came : way === "before" ? Math.max(-1, ...ends) : Math.min(Infinity, ...ends)
    if (!ends.length) this.say(way === "before" ? "An input of the net" : "An output of the net")
    else this.go(next, here)
  }

  /**
   * Among the layers of one box.
   * @param {"before" | "behind" | "left" | "right"} way
   */
  walkRows(way) {
    const { members } = this.net.boxes[this.focused]
    const row = this.selected?.box === this.focused ? this.selected.row : 0
    const next = row + (way === "behind" || way === "right" ? 1 : -1)
    if (next < 0 || next >= members.length) return
    this.select(this.firstLayer[this.focused] + next, { reveal: false })
    this.say(`${members[next].name}, ${members[next].type}`)
  }

  /**
   * The nearest box beside one, at about the same height.
   * @param {number} box
   * @param {"left" | "right"} way
   * @returns {number} -1: none
   */
  beside(box, way) {
    const tb = this.direction === "TB"
    const middle = (/** @type {Rect} */ q) => (tb ? [q.x + q.width / 2, q.y + q.height / 2] : [q.y + q.height / 2, q.x + q.width / 2])
    const [a, b] = middle(rect(this.placed.boxes, box))
    let best = -1
    let least = Infinity
    for (const [other, found] of this.placed.boxes) {
      const [c, d] = middle(found)
      const across = way === "left" ? a - c : c - a
      const along = Math.abs(d - b)
      if (other === box || across < 8 || along > 90) continue
      const far = across + 3 * along
      if (far < least) [best, least] = [other, far]
    }
    return best
  }

  /**
   * Take the keyboard to a box, and tell of it.
   * @param {number} box
   * @param {number} [came]
   */
  go(box, came = -1) {
    this.came = came
    this.focus(box)
    this.select(this.firstLayer[box], { reveal: true })
    const ways = this.wiring.outOf.get(box)?.length ?? 0
    this.say(`${spoken(this.net.boxes[box])}${ways > 1 ? `; read by ${ways}` : ""}`)
  }

  foldHere() {
    const frame = this.structure.framesAround(this.focused).at(-1)
    if (frame) this.fold(frame.key)
    else this.say("No repeated block here")
  }

  /** @param {number} by */
  stepHere(by) {
    const frame = this.structure.framesAround(this.focused).findLast((f) => this.state.closed.has(f.key))
    if (!frame) return
    const at = this.placeIn(this.focused, frame, shownCopy(frame, this.state))
    this.step(frame.key, by)
    if (at >= 0) this.focus(this.structure.shownFor(frame.fold.copies[shownCopy(frame, this.state)][at], this.state))
  }

  /**
   * @param {number} box
   * @param {string} key
   */
  isIn(box, key) {
    return this.structure.framesAround(box).some((f) => f.key === key)
  }

  /**
   * The place of a box in a copy of a fold; -1 where it is not in it.
   * @param {number} box
   * @param {Frame} frame
   * @param {number} copy
   */
  placeIn(box, frame, copy) {
    return frame.fold.copies[copy].indexOf(box)
  }

  /**
   * @param {number | undefined | null} box
   * @returns {{box: number, x: number, y: number} | null}
   */
  anchor(box) {
    const found = box === undefined || box === null ? undefined : this.placed.boxes.get(this.structure.shownFor(box, this.state))
    if (!found || box === undefined || box === null) return null
    const [x, y] = this.transform().apply([found.x, found.y])
    return { box, x, y }
  }

  /** @param {string} text */
  say(text) {
    this.tell("say", text)
  }

  /**
   * @param {Told} event
   * @param {any} value
   */
  tell(event, value) {
    for (const fn of this.listeners[event] ?? []) fn(value)
  }
}

/**
 * @template K
 * @param {Map<K, Rect>} rects
 * @param {K} key
 * @returns {Rect}
 */
function rect(rects, key) {
  return /** @type {Rect} */ (rects.get(key))
}

/**
 * @param {EventTarget | null} target
 * @param {string} selector
 * @returns {Element | null}
 */
function closest(target, selector) {
  return target instanceof Element ? target.closest(selector) : null
}
