/** How wide text is, and how to make it fit. */

const FAMILY = 'system-ui, -apple-system, "Segoe UI", "Noto Sans", "Liberation Sans", "DejaVu Sans", sans-serif'

/** @type {CanvasRenderingContext2D | null} */
let context = null
/** @type {Map<string, number>} */
const known = new Map()

/** @typedef {{size: number, weight: number}} Font */

/**
 * @param {string} text
 * @param {Font} font
 * @returns {number} pixels
 */
export function width(text, font) {
  const key = `${font.weight} ${font.size} ${text}`
  let found = known.get(key)
  if (found === undefined) {
    context ??= document.createElement("canvas").getContext("2d")
    if (!context) return text.length * font.size * 0.6
    context.font = `${font.weight} ${font.size}px ${FAMILY}`
    found = context.measureText(text).width
    known.set(key, found)
  }
  return found
}

/**
 * The text, with its middle left out where it is wider than `room`: the ends of layers' names tell them apart.
 * @param {string} text
 * @param {Font} font
 * @param {number} room
 * @returns {string}
 */
export function fit(text, font, room) {
  if (width(text, font) <= room) return text
  const letters = Array.from(text)
  let low = 0
  let high = letters.length
  while (low < high) {
    const keep = (low + high + 1) >> 1
    if (width(cut(letters, keep), font) <= room) low = keep
    else high = keep - 1
  }
  return cut(letters, low)
}

/**
 * @param {string[]} letters
 * @param {number} keep
 */
function cut(letters, keep) {
  const head = Math.ceil(keep * 0.4)
  return `${letters.slice(0, head).join("")}…${letters.slice(letters.length - (keep - head)).join("")}`
}

export { FAMILY }
