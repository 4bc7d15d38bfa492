/** Numbers and shapes as people read them. */

/**
 * Three digits and a letter: 60.2 M.
 * @param {number} n
 * @returns {string}
 */
export function count(n) {
  return scaled(n, ["", " k", " M", " G", " T"])
}

/**
 * @param {number} n
 * @returns {string}
 */
export function bytes(n) {
  return scaled(n, [" B", " kB", " MB", " GB", " TB"])
}

/**
 * @param {number} seconds
 * @returns {string}
 */
export function duration(seconds) {
  if (seconds >= 1) return `${digits(seconds)} s`
  return seconds >= 1e-3 ? `${digits(seconds * 1e3)} ms` : `${digits(seconds * 1e6)} µs`
}

/**
 * @param {number} n
 * @param {string[]} units
 */
function scaled(n, units) {
  let i = 0
  while (Math.abs(n) >= 999.5 && i < units.length - 1) {
    n /= 1000
    i++
  }
  return digits(n) + units[i]
}

/**
 * Three significant digits, without an exponent in the middle range.
 * @param {number} n
 * @returns {string}
 */
export function digits(n) {
  if (n === 0 || !Number.isFinite(n)) return String(n)
  const size = Math.abs(n)
  if (size >= 1e6 || size < 1e-4) return n.toExponential(2).replace("e+", "e")
  return String(Number(n.toPrecision(size >= 100 ? Math.ceil(Math.log10(size + 1)) : 3)))
}

/**
 * All digits, in groups of three.
 * @param {number} n
 * @returns {string}
 */
export function exact(n) {
  return Number.isInteger(n) ? n.toLocaleString("en-US") : String(n)
}

/**
 * A shape; null is one that is not known.
 * @param {number[] | null} shape
 * @returns {string}
 */
export function dims(shape) {
  return shape === null ? "?" : shape.length ? shape.join(" × ") : "scalar"
}

/**
 * @param {number} part
 * @param {number} whole
 * @returns {string}
 */
export function percent(part, whole) {
  const p = whole ? (100 * part) / whole : 0
  return p === 0 ? "0 %" : p < 0.1 ? "< 0.1 %" : `${p >= 10 ? Math.round(p) : p.toFixed(1)} %`
}

/**
 * "1 layer", "2 layers"
 * @param {number} n
 * @param {string} what
 */
export function plural(n, what) {
  return `${exact(n)} ${what}${n === 1 ? "" : what.endsWith("x") ? "es" : "s"}`
}
