/** What colour a layer has: that of its kind, or of one of its figures. */

/** @typedef {import("./types.js").Net} Net */
/** @typedef {import("./types.js").Member} Member */
/** @typedef {import("./types.js").Paint} Paint */
/** @typedef {"light" | "dark"} Theme */

// Steps of one hue range from faint to strong, of even lightness steps, so that they also read in grey.
const RAMPS = {
  light: ["#f4f6f8", "#dbe9f4", "#b5d3e8", "#86b5db", "#5391c8", "#2f6bac", "#1b4785"],
  dark: ["#20262e", "#22384c", "#23506f", "#266c95", "#3a8dba", "#67b1d6", "#a6d6ec"],
}

/**
 * @param {Net} net
 * @param {string} key    "kind", or a figure's key
 * @param {Theme} theme
 * @returns {(member: Member) => Paint}
 */
export function painter(net, key, theme) {
  if (key === "kind") {
    const fallback = { fill: theme === "dark" ? "#2a3038" : "#eceff2", stroke: theme === "dark" ? "#6b7580" : "#8b95a0" }
    return (member) => net.categories[member.category]?.[theme] ?? fallback
  }
  const most = largest(net, key)
  const stroke = theme === "dark" ? "#4b5a68" : "#9fb0bf"
  return (member) => {
    const value = member.figures[key]
    const part = typeof value === "number" && most > 0 ? Math.sqrt(value / most) : 0
    return { fill: ramp(part, theme), stroke }
  }
}

/**
 * The largest value of a figure over all layers.
 * @param {Net} net
 * @param {string} key
 * @returns {number}
 */
export function largest(net, key) {
  let most = 0
  for (const box of net.boxes) {
    for (const { figures } of box.members) {
      const value = figures[key]
      if (typeof value === "number" && value > most) most = value
    }
  }
  return most
}

/**
 * @param {number} part   0 .. 1
 * @param {Theme} theme
 * @returns {string}
 */
export function ramp(part, theme) {
  const stops = RAMPS[theme]
  const at = Math.min(Math.max(part, 0), 1) * (stops.length - 1)
  const i = Math.min(Math.floor(at), stops.length - 2)
  const [a, b] = [rgb(stops[i]), rgb(stops[i + 1])]
  return `rgb(${a.map((v, k) => Math.round(v + (b[k] - v) * (at - i))).join(",")})`
}

/**
 * Whether black reads better than white on a colour.
 * @param {string} colour   #rrggbb or rgb(r,g,b)
 * @returns {boolean}
 */
export function isLight(colour) {
  const [r, g, b] = rgb(colour).map((v) => (v <= 10 ? v / 3294 : ((v / 255 + 0.055) / 1.055) ** 2.4))
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 // there both have the same contrast
}

/**
 * @param {string} colour
 * @returns {number[]}
 */
function rgb(colour) {
  if (colour.startsWith("#")) return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16))
  return (colour.match(/\d+/g) ?? []).slice(0, 3).map(Number)
}
