/** The diagram as SVG or PNG, the figures as CSV: files made here, with nothing fetched. */

import { ramp } from "./colours.js"
import { s } from "./dom.js"
import { legendOf } from "./legend.js"
import { FAMILY, width as textWidth } from "./measure.js"

/** @typedef {import("./types.js").Net} Net */
/** @typedef {import("./diagram.js").Diagram} Diagram */
/** @typedef {import("./diagram.js").Layer} Layer */

const MARGIN = 24
const LEGEND = 34
const STYLES = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "font-size", "font-weight", "text-anchor"]
const USUAL = { "fill-opacity": "1", "stroke-dasharray": "none", "stroke-linecap": "butt", "stroke-linejoin": "miter", opacity: "1", "text-anchor": "start" }
const FORBIDDEN = /[^\t\n\r\x20-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu // in XML
const LARGEST = 16000 // pixels of a canvas's side
const MOST_PIXELS = 120e6

/**
 * What is drawn now, all of it, as an SVG file that needs no style sheet.
 * @param {Diagram} diagram
 * @returns {{text: string, width: number, height: number}}
 */
export function svgOf(diagram) {
  const { x, y, width, height } = diagram.placed.bounds
  const w = Math.ceil(Math.max(width, 420) + 2 * MARGIN)
  const t = Math.ceil(height + 2 * MARGIN + LEGEND)
  const background = getComputedStyle(diagram.element).backgroundColor
  const clone = /** @type {SVGSVGElement} */ (
    diagram.plainly(() => {
      const copy = /** @type {SVGSVGElement} */ (diagram.svg.cloneNode(true))
      inline(diagram.svg, copy)
      return copy
    })
  )
  for (const name of ["class", "role", "aria-roledescription", "aria-label", "style"]) clone.removeAttribute(name)
  clone.setAttribute("xmlns", "http://www.w3.org/2000/svg")
  clone.setAttribute("width", String(w))
  clone.setAttribute("height", String(t))
  clone.setAttribute("viewBox", `0 0 ${w} ${t}`)
  clone.setAttribute("font-family", FAMILY)
  for (const id of ["nc-arrow-up", "nc-arrow-down"]) clone.querySelector(`#${id}`)?.remove()
  const world = /** @type {SVGGElement} */ (clone.querySelector("[data-world]"))
  world.removeAttribute("data-world")
  world.setAttribute("transform", `translate(${(w - width) / 2 - x},${MARGIN + LEGEND - y})`)
  clone.insertBefore(s("rect", { width: w, height: t, fill: background }), world)
  clone.insertBefore(legend(diagram), world)
  clone.prepend(s("title", null, diagram.net.name || "net"))
  return { text: new XMLSerializer().serializeToString(clone).replace(FORBIDDEN, "\ufffd"), width: w, height: t }
}

/**
 * Put on each element, as attributes, what the style sheet gives it; take away what is not seen, and what is for the page.
 * @param {Element} from
 * @param {Element} to
 */
function inline(from, to) {
  const pairs = [...from.children].map((child, i) => /** @type {[Element, Element]} */ ([child, to.children[i]]))
  for (const [mine, copy] of pairs) {
    if (mine.tagName === "title" || mine.tagName === "defs") {
      if (mine.tagName === "defs") inline(mine, copy)
      continue
    }
    const style = getComputedStyle(mine)
    if (style.display === "none" || style.visibility === "hidden" || mine.classList.contains("hit")) {
      copy.remove()
      continue
    }
    if (mine.tagName !== "g" && mine.tagName !== "marker") {
      for (const name of STYLES) {
        const value = style.getPropertyValue(name)
        const text = mine.tagName === "text" || mine.tagName === "tspan"
        if ((name.startsWith("font") || name === "text-anchor") && !text) continue
        if (value && value !== USUAL[/** @type {"opacity"} */ (name)] && !(name === "stroke-width" && style.stroke === "none")) copy.setAttribute(name, value)
      }
      const halo = style.getPropertyValue("paint-order")
      if (halo && halo !== "normal") copy.setAttribute("paint-order", halo)
      const arrow = style.getPropertyValue("marker-end")
      if (arrow && arrow !== "none") copy.setAttribute("marker-end", arrow.replace(/"/g, ""))
    }
    if (mine.classList.contains("world")) copy.setAttribute("data-world", "")
    for (const { name } of [...copy.attributes]) {
      if (["class", "tabindex", "role", "style"].includes(name) || name.startsWith("aria-") || (name.startsWith("data-") && name !== "data-world")) copy.removeAttribute(name)
    }
    inline(mine, copy)
  }
}

/** @param {Diagram} diagram */
function legend(diagram) {
  const ink = getComputedStyle(diagram.element).color
  const { title, entries, most } = legendOf(diagram)
  const font = { size: 11, weight: 400 }
  const g = s("g", { transform: `translate(${MARGIN},14)`, "font-size": 11, fill: ink })
  let at = 0
  if (most !== null) {
    g.append(s("text", { x: 0, y: 10 }, `${title}: 0`))
    at = textWidth(`${title}: 0`, font) + 8
    for (let i = 0; i < 40; i++) g.append(s("rect", { x: at + 3 * i, y: 0, width: 3.2, height: 11, fill: ramp(i / 39, diagram.theme) }))
    g.append(s("text", { x: at + 128, y: 10 }, most))
  }
  for (const { label, fill, stroke } of entries) {
    g.append(s("rect", { x: at, y: 0, width: 11, height: 11, rx: 3, fill, stroke }), s("text", { x: at + 16, y: 10 }, label))
    at += Math.ceil(textWidth(label, font)) + 32
  }
  return g
}

/**
 * @param {Diagram} diagram
 * @returns {Promise<globalThis.Blob>}
 */
export async function pngOf(diagram) {
  const { text, width, height } = svgOf(diagram)
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }))
  try {
    const image = new Image()
    image.src = url
    await image.decode()
    const scale = Math.min(2, LARGEST / width, LARGEST / height, Math.sqrt(MOST_PIXELS / (width * height)))
    const canvas = document.createElement("canvas")
    canvas.width = Math.round(width * scale)
    canvas.height = Math.round(height * scale)
    canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height)
    return await new Promise((done, failed) => {
      canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("the picture is too large"))), "image/png")
    })
  } finally {
    URL.revokeObjectURL(url)
  }
}

/**
 * All figures of all layers, a line each.
 * @param {Net} net
 * @param {Layer[]} layers
 * @returns {string}
 */
export function csvOf(net, layers) {
  const figures = net.figures.filter(({ key }) => layers.some((l) => l.member.figures[key] !== undefined))
  const head = ["layer", "type", "bottoms", "tops", "shapes", ...figures.map((f) => f.key), "line"]
  const rows = layers.map(({ member }) => [
    member.name,
    member.type,
    member.bottoms.map((v) => v.blob).join(" "),
    member.tops.map((v) => v.blob).join(" "),
    member.tops.map((v) => (v.shape ? v.shape.join("x") : "?")).join(" "),
    ...figures.map(({ key }) => member.figures[key] ?? ""),
    member.lines?.[0] ?? "",
  ])
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n"
}

/**
 * A cell. One that a spreadsheet would take for a formula is told to be text.
 * @param {string | number} value
 * @returns {string}
 */
function cell(value) {
  if (typeof value === "number") return String(value)
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/**
 * @param {globalThis.Blob | string} content
 * @param {string} name
 * @param {string} type
 */
export function save(content, name, type) {
  const url = URL.createObjectURL(new Blob([content], { type }))
  const link = document.createElement("a")
  link.href = url
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}
