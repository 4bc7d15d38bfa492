/** Small charts. */

import { s } from "./dom.js"
import { digits, exact } from "./format.js"

/**
 * A histogram. Heights are on a root scale, so that thin tails are seen.
 * @param {import("./types.js").Statistics} stats
 */
export function histogram({ bins, min, max }) {
  const most = Math.max(...bins, 1)
  const [w, t] = [272, 64]
  const wide = w / bins.length
  const zero = min < 0 && max > 0 ? (w * -min) / (max - min) : null
  return s(
    "svg",
    { class: "histogram", viewBox: `0 0 ${w} ${t + 14}`, role: "img", "aria-label": `Histogram from ${digits(min)} to ${digits(max)}` },
    bins.map((n, i) => {
      const tall = n ? Math.max(1, t * Math.sqrt(n / most)) : 0
      const from = min + ((max - min) * i) / bins.length
      const to = min + ((max - min) * (i + 1)) / bins.length
      const bar = s("rect", { x: i * wide + 0.3, y: t - tall, width: Math.max(wide - 0.6, 0.5), height: tall })
      bar.append(s("title", null, `${digits(from)} to ${digits(to)}: ${exact(n)}`))
      return bar
    }),
    s("path", { class: "axis", d: `M0,${t + 0.5}h${w}` }),
    zero === null ? null : s("path", { class: "axis zero", d: `M${zero.toFixed(1)},0v${t}` }),
    s("text", { x: 0, y: t + 12 }, digits(min)),
    zero === null || zero < 40 || zero > w - 40 ? null : s("text", { x: zero, y: t + 12, "text-anchor": "middle" }, "0"),
    s("text", { x: w, y: t + 12, "text-anchor": "end" }, digits(max)),
  )
}

/**
 * A bar that shows a part of the whole.
 * @param {number} part   0 .. 1
 */
export function bar(part) {
  return s(
    "svg",
    { class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { width: 100, height: 4, class: "whole" }),
    s("rect", { width: Math.max(part > 0 ? 0.8 : 0, 100 * part), height: 4, class: "part" }),
  )
}
