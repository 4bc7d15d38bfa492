/** The prototxt beside the diagram: a line leads to its layer, a layer to its lines. */

import { h } from "./dom.js"
import { pieces } from "./prototxt.js"

/** @typedef {import("./types.js").Net} Net */
/** @typedef {import("./diagram.js").Layer} Layer */

const CHUNK = 100 // lines that are coloured together, once they come near
const LINE = 18 // pixels; as in page.css

export class Source {
  /**
   * @param {HTMLElement} element   scrolls
   * @param {Net} net
   * @param {Layer[]} layers
   * @param {(layer: number) => void} choose
   */
  constructor(element, net, layers, choose) {
    this.element = element
    this.layers = layers
    this.lines = net.text.split("\n")
    if (this.lines.at(-1) === "") this.lines.pop()
    this.band = h("div", { class: "band", hidden: true })
    this.hover = h("div", { class: "band faint", hidden: true })
    const digits = String(this.lines.length).length
    const gutter = h("div", { class: "gutter", "aria-hidden": "true" }, this.lines.map((_, i) => String(i + 1).padStart(digits)).join("\n"))
    this.code = h("div", { class: "code", role: "document", tabindex: 0, "aria-label": "The net's prototxt" })
    for (let i = 0; i < this.lines.length; i += CHUNK) {
      const lines = this.lines.slice(i, i + CHUNK)
      const chunk = h("pre", { "data-first": i }, `${lines.join("\n")}\n`)
      chunk.style.height = `${lines.length * LINE}px`
      this.code.append(chunk)
    }
    this.sheet = h("div", { class: "sheet" }, this.band, this.hover, gutter, this.code)
    element.replaceChildren(this.sheet)
    const near = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          if (!isIntersecting) continue
          near.unobserve(target)
          this.colour(/** @type {HTMLElement} */ (target))
        }
      },
      { root: element, rootMargin: "600px" },
    )
    for (const chunk of this.code.children) near.observe(chunk)

    /** @type {Map<number, number>} line -> layer; of several, the one that takes the fewest lines */
    this.at = new Map()
    const spans = layers.filter((l) => l.member.lines).sort((a, b) => length(b) - length(a) || b.index - a.index)
    for (const { index, member } of spans) {
      const [first, last] = /** @type {[number, number]} */ (member.lines)
      for (let line = first; line <= last; line++) this.at.set(line, index)
    }
    this.code.addEventListener("click", (event) => {
      const layer = this.layerAt(event)
      if (layer !== undefined && getSelection()?.isCollapsed) choose(layer)
    })
    this.code.addEventListener("pointermove", (event) => this.lay(this.hover, this.layerAt(event)))
    this.code.addEventListener("pointerleave", () => this.lay(this.hover, undefined))
  }

  /** @param {HTMLElement} chunk */
  colour(chunk) {
    const first = Number(chunk.dataset.first)
    const parts = this.lines.slice(first, first + CHUNK).flatMap((line) => [
      ...pieces(line).map(([kind, text]) => (kind ? h("span", { class: kind }, text) : text)),
      "\n",
    ])
    chunk.replaceChildren(...parts)
  }

  /**
   * @param {MouseEvent} event
   * @returns {number | undefined}
   */
  layerAt(event) {
    const line = Math.floor((event.clientY - this.code.getBoundingClientRect().top) / LINE) + 1
    return this.at.get(line)
  }

  /**
   * Highlight a layer's lines, and bring them into view.
   * @param {Layer | null} layer
   */
  select(layer) {
    this.lay(this.band, layer?.index)
    const lines = layer?.member.lines
    if (!lines) return
    const top = (lines[0] - 1) * LINE
    const bottom = lines[1] * LINE
    const { scrollTop, clientHeight } = this.element
    if (top < scrollTop + LINE || bottom > scrollTop + clientHeight - LINE) {
      this.element.scrollTop = Math.max(0, Math.min(top - 3 * LINE, (top + bottom) / 2 - clientHeight / 3))
    }
  }

  /** @param {number} line */
  goTo(line) {
    this.element.scrollTop = Math.max(0, line * LINE - this.element.clientHeight / 3)
    this.place(this.band, [line, line])
  }

  /**
   * @param {HTMLElement} band
   * @param {number | undefined} layer
   */
  lay(band, layer) {
    this.place(band, layer === undefined ? null : this.layers[layer].member.lines)
  }

  /**
   * @param {HTMLElement} band
   * @param {[number, number] | null} lines
   */
  place(band, lines) {
    band.hidden = !lines
    if (!lines) return
    band.style.top = `${(lines[0] - 1) * LINE}px`
    band.style.height = `${(lines[1] - lines[0] + 1) * LINE}px`
  }
}

/** @param {Layer} layer */
function length({ member }) {
  return member.lines ? member.lines[1] - member.lines[0] : 0
}
