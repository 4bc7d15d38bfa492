/** The server's problems -> marks in the text, and a list below it. */

import { lintGutter, setDiagnostics } from "@codemirror/lint"
import { h } from "../dom.js"
import { plural } from "../format.js"

/** @typedef {import("@codemirror/lint").Diagnostic} Diagnostic */
/** @typedef {import("@codemirror/state").Text} Text */
/** @typedef {import("@codemirror/view").EditorView} EditorView */

/**
 * What netcompiler/serve/analysis.py tells. Places count from 1, in characters.
 * @typedef {object} Problem
 * @property {"error" | "ask" | "warning"} severity
 * @property {string} what
 * @property {string} [layer]
 * @property {string} [expected]
 * @property {string} [got]
 * @property {string} [hint]
 * @property {number} [line]
 * @property {number} [column]
 * @property {number} [end]
 * @property {string[]} [asks]    inputs that need a shape
 */

/**
 * A problem with its place in the text as it is now; -1 where it has none.
 * @typedef {{problem: Problem, from: number, to: number}} Placed
 */

const SEVERITY = /** @type {const} */ ({ error: "error", ask: "info", warning: "warning" })

export const marks = lintGutter()

/**
 * Where problems stand.
 * @param {Problem[]} problems
 * @param {Text} doc                the text that they were found in
 * @param {(at: number) => number} moved   where a place of it is now
 * @returns {Placed[]}
 */
export function placed(problems, doc, moved) {
  return problems.map((problem) => {
    if (!problem.line || !problem.column || problem.line > doc.lines) return { problem, from: -1, to: -1 }
    const line = doc.line(problem.line)
    let from = line.from + units(line.text, problem.column - 1)
    let to = line.from + units(line.text, (problem.end ?? problem.column) - 1)
    if (to <= from) to = Math.min(from + 1, line.to)
    if (to <= from) from = Math.max(to - 1, line.from)
    return { problem, from: moved(from), to: moved(to) }
  })
}

/**
 * The server counts characters, an editor's places count units of UTF-16.
 * @param {string} text
 * @param {number} characters
 */
function units(text, characters) {
  let at = 0
  for (let i = 0; i < characters && at < text.length; i++) at += /** @type {number} */ (text.codePointAt(at)) > 0xffff ? 2 : 1
  return at
}

/**
 * Put the marks under the text.
 * @param {EditorView} view
 * @param {Placed[]} found
 * @param {(problem: Problem) => Node | null} extra   what else a problem shows
 */
export function mark(view, found, extra) {
  /** @type {Diagnostic[]} */
  const diagnostics = found
    .filter(({ from }) => from >= 0)
    .map(({ problem, from, to }) => ({
      from,
      to,
      severity: SEVERITY[problem.severity],
      message: problem.what,
      renderMessage: () => told(problem, extra),
    }))
  view.dispatch(setDiagnostics(view.state, diagnostics))
}

/**
 * A problem in full.
 * @param {Problem} problem
 * @param {(problem: Problem) => Node | null} extra
 */
function told(problem, extra) {
  const rows = /** @type {[string, string | undefined][]} */ ([
    ["expected", problem.expected],
    ["got", problem.got],
    ["hint", problem.hint],
  ])
  return h(
    "div",
    { class: "told" },
    h("p", null, problem.layer && h("span", { class: "who" }, problem.layer, " "), problem.what),
    h(
      "dl",
      null,
      rows.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
    ),
    extra(problem),
  )
}

/** The list of problems below the text. */
export class ProblemList {
  /**
   * @param {(from: number) => void} go
   * @param {(problem: Problem) => Node | null} extra
   */
  constructor(go, extra) {
    this.go = go
    this.extra = extra
    this.button = h("button", { type: "button", class: "count", "aria-expanded": "false", "aria-controls": "problems", onclick: () => this.open(this.list.hidden !== false) })
    this.list = h("ol", { class: "problems", id: "problems", "aria-label": "Problems", hidden: true })
    this.spoken = h("div", { class: "unseen", role: "status", "aria-live": "polite" })
    /** @type {Placed[]} */
    this.found = []
    this.key = ""
  }

  /** @param {boolean} on */
  open(on) {
    this.list.hidden = !on || !this.found.length
    this.button.setAttribute("aria-expanded", String(!this.list.hidden))
  }

  /** @param {Placed[]} found */
  show(found) {
    this.found = found
    const key = JSON.stringify(found.map((f) => f.problem))
    if (key === this.key) return
    this.key = key
    const errors = found.filter((f) => f.problem.severity === "error").length
    const asks = found.filter((f) => f.problem.severity === "ask").length
    const warnings = found.length - errors - asks
    const words = [
      errors && plural(errors, "error"),
      asks && `${plural(asks, "input")} without a shape`,
      warnings && plural(warnings, "warning"),
    ].filter(Boolean)
    this.button.textContent = words.join(", ") || "No problems"
    this.spoken.textContent = this.button.textContent
    this.button.dataset.state = errors ? "error" : asks ? "ask" : warnings ? "warning" : "fine"
    this.button.disabled = !found.length
    this.open(!this.list.hidden || asks > 0)
    this.list.replaceChildren(
      ...found.slice(0, 200).map(({ problem }, i) =>
        h(
          "li",
          { class: problem.severity },
          h(
            "button",
            { type: "button", class: "plain", onclick: () => this.found[i].from >= 0 && this.go(this.found[i].from) },
            h("span", { class: "where" }, problem.line ? `${problem.line}:${problem.column}` : ""),
            h("span", { class: "what" }, problem.layer ? `${problem.layer}: ` : "", problem.what),
            problem.hint && h("span", { class: "hint" }, problem.hint),
          ),
          this.extra(problem),
        ),
      ),
      ...(found.length > 200 ? [h("li", { class: "more" }, `and ${found.length - 200} more`)] : []),
    )
  }
}
