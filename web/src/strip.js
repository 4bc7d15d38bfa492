/** A strip along the diagram that shows all of it at once, and which part of it is seen; a press there goes there. */

import { painter } from "./colours.js"
import { h } from "./dom.js"

/** @typedef {import("./diagram.js").Diagram} Diagram */

const THICK = 36

export class Strip {
  /**
   * @param {HTMLElement} element
   * @param {(x: number, y: number) => void} go
   */
  constructor(element, go) {
    this.canvas = h("canvas")
    this.window = h("div", { class: "strip-window" })
    this.root = h("div", { class: "strip", "aria-hidden": "true" }, this.canvas, this.window)
    this.bounds = { x: 0, y: 0, width: 1, height: 1 }
    element.append(this.root)
    this.root.addEventListener("pointerdown", (event) => {
      this.root.setPointerCapture(event.pointerId)
      this.press(event, go)
    })
    this.root.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) this.press(event, go)
    })
  }

  /**
   * @param {PointerEvent} event
   * @param {(x: number, y: number) => void} go
   */
  press(event, go) {
    const at = this.root.getBoundingClientRect()
    const { x, y, width, height } = this.bounds
    const across = (event.clientX - at.left) / at.width
    const down = (event.clientY - at.top) / at.height
    if (at.height > at.width) go(x + width / 2, y + down * height)
    else go(x + across * width, y + height / 2)
    event.preventDefault()
  }

  /**
   * Draw it anew, to the diagram's size and colours.
   * @param {Diagram} diagram
   */
  draw(diagram) {
    const { placed, net, layers, firstLayer } = diagram
    const size = diagram.size()
    const upright = diagram.direction === "TB"
    const width = upright ? THICK : size.width
    const height = upright ? size.height : THICK
    this.root.classList.toggle("flat", !upright)
    this.bounds = placed.bounds
    const ratio = globalThis.devicePixelRatio || 1
    this.canvas.width = Math.round(width * ratio)
    this.canvas.height = Math.round(height * ratio)
    const context = this.canvas.getContext("2d")
    if (!context) return
    const { x, y, width: w, height: t } = placed.bounds
    const paint = painter(net, diagram.colour, diagram.theme)
    const inset = 6 * ratio
    const room = upright ? this.canvas.width - 2 * inset : this.canvas.height - 2 * inset
    const sx = upright ? room / Math.max(w, 1) : this.canvas.width / Math.max(w, 1)
    const sy = upright ? this.canvas.height / Math.max(t, 1) : room / Math.max(t, 1)
    context.globalAlpha = diagram.colour === "kind" ? 0.7 : 1
    for (const [box, q] of placed.boxes) {
      const members = net.boxes[box].members.length
      const left = (q.x - x) * sx + (upright ? inset : 0)
      const top = (q.y - y) * sy + (upright ? 0 : inset)
      const tall = Math.max(q.height * sy, ratio)
      for (let row = 0; row < members; row++) {
        const { member } = layers[firstLayer[box] + row]
        const colours = paint(member)
        context.fillStyle = diagram.hits.has(box) ? "#e69f00" : diagram.colour === "kind" ? colours.stroke : colours.fill
        context.fillRect(left, top + (row * tall) / members, Math.max(q.width * sx, ratio), Math.max(tall / members, 0.5))
      }
    }
    this.see(diagram)
  }

  /**
   * Show which part is seen; hide all where that is everything.
   * @param {Diagram} diagram
   */
  see(diagram) {
    const { x, y, width, height } = this.bounds
    const size = diagram.size()
    const t = diagram.transform()
    const [left, top] = t.invert([0, 0])
    const [right, bottom] = t.invert([size.width, size.height])
    const upright = diagram.direction === "TB"
    const from = upright ? (top - y) / height : (left - x) / width
    const to = upright ? (bottom - y) / height : (right - x) / width
    this.root.hidden = from <= 0.005 && to >= 0.995
    const low = Math.min(Math.max(from, 0), 1)
    const high = Math.min(Math.max(to, 0), 1)
    const extent = `${Math.max(100 * (high - low), 1)}%`
    const { style } = this.window
    style.top = upright ? `${100 * low}%` : "0"
    style.left = upright ? "0" : `${100 * low}%`
    style.height = upright ? extent : "100%"
    style.width = upright ? "100%" : extent
  }

  remove() {
    this.root.remove()
  }
}
