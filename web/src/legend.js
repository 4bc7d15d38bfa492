/** What the colours of the diagram mean. */

import { largest, painter, ramp } from "./colours.js"
import { h } from "./dom.js"
import { short } from "./figures.js"

/** @typedef {import("./diagram.js").Diagram} Diagram */

/**
 * @param {Diagram} diagram
 * @returns {{title: string, entries: {label: string, fill: string, stroke: string}[], most: string | null}}
 */
export function legendOf({ net, colour, theme }) {
  const figure = net.figures.find((f) => f.key === colour)
  if (figure) return { title: figure.label, entries: [], most: short(figure, largest(net, colour)) }
  const used = new Set(net.boxes.flatMap((box) => box.members.map((m) => m.category)))
  const paint = painter(net, "kind", theme)
  const entries = Object.entries(net.categories)
    .filter(([category]) => used.has(category))
    .map(([category, { label }]) => ({ label, ...paint(/** @type {any} */ ({ category })) }))
  return { title: "Kind", entries, most: null }
}

/**
 * @param {HTMLElement} element
 * @param {Diagram} diagram
 */
export function drawLegend(element, diagram) {
  const { title, entries, most } = legendOf(diagram)
  if (most !== null) {
    const scale = h("span", { class: "scale" })
    const stops = [0, 0.25, 0.5, 0.75, 1].map((p) => ramp(p, diagram.theme))
    scale.style.background = `linear-gradient(to right, ${stops.join(",")})`
    element.replaceChildren(h("b", null, title), h("span", null, "0"), scale, h("span", null, most))
    return
  }
  element.replaceChildren(
    ...entries.map(({ label, fill, stroke }) => {
      const swatch = h("span", { class: "swatch" })
      swatch.style.background = fill
      swatch.style.borderColor = stroke
      return h("span", { class: "entry" }, swatch, label)
    }),
  )
}
