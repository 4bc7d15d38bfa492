/** Figures as text. */

import { bytes, count, digits, duration, exact } from "./format.js"

/** @typedef {import("./types.js").Figure} Figure */

/**
 * In short.
 * @param {Figure} figure
 * @param {number | string | undefined} value
 * @returns {string}
 */
export function short({ unit }, value) {
  if (value === undefined) return ""
  if (typeof value === "string") return value
  if (unit === "bytes") return bytes(value)
  if (unit === "seconds") return duration(value)
  return unit === "ratio" ? digits(value) : count(value)
}

/**
 * With all digits.
 * @param {Figure} figure
 * @param {number | string | undefined} value
 * @returns {string}
 */
export function full({ unit }, value) {
  if (value === undefined) return ""
  if (typeof value === "string") return value
  return unit === "bytes" ? `${exact(value)} bytes` : unit === "seconds" ? `${value} s` : exact(value)
}
