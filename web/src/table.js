/** The table of figures: one row a layer, sorted by any column. */

import { h } from "./dom.js"
import { full, short } from "./figures.js"
import { dims } from "./format.js"

/** @typedef {import("./types.js").Net} Net */
/** @typedef {import("./types.js").Figure} Figure */
/** @typedef {import("./diagram.js").Layer} Layer */

/**
 * @typedef {object} Column
 * @property {string} label
 * @property {string} help
 * @property {boolean} number
 * @property {string} kind     for its width
 * @property {(layer: Layer) => string | number | undefined} value   what is sorted by
 * @property {(layer: Layer) => string} text
 * @property {Figure} [figure]
 */

const ROWS = 150 // that are laid at once

export class Table {
  /**
   * @param {HTMLElement} element   scrolls
   * @param {Net} net
   * @param {Layer[]} layers
   * @param {(layer: number) => void} choose
   */
  constructor(element, net, layers, choose) {
    this.layers = layers
    this.columns = columnsOf(net, layers)
    this.sorted = { column: -1, down: false }
    /** @type {HTMLTableRowElement[]} by layer; made when they are needed */
    this.rows = []
    /** @type {Layer[]} */
    this.order = layers
    this.laid = 0 // how many of them are in the table
    this.heads = this.columns.map((column, i) =>
      h(
        "th",
        { scope: "col", class: column.number ? "number" : null, title: column.help, "aria-sort": "none" },
        h("button", { type: "button", onclick: () => this.sort(i) }, column.label, h("span", { class: "way", "aria-hidden": "true" })),
      ),
    )
    this.body = h("tbody")
    const total = h(
      "tr",
      null,
      this.columns.map((c, i) => {
        const value = c.figure && net.totals[c.figure.key]
        const text = i === 0 ? "Total" : c.figure && value !== undefined ? short(c.figure, value) : ""
        return h("td", { class: c.number ? "number" : null, title: c.figure ? full(c.figure, value) : null }, text)
      }),
    )
    element.replaceChildren(
      h(
        "table",
        { "aria-rowcount": layers.length + 2 },
        h("caption", { class: "unseen" }, `Figures of the layers of ${net.name || "the net"}`),
        h("colgroup", null, this.columns.map(({ kind }) => h("col", { class: kind }))),
        h("thead", null, h("tr", null, this.heads)),
        this.body,
        h("tfoot", null, total),
      ),
    )
    this.lay(layers)
    this.body.addEventListener("click", (event) => {
      const row = event.target instanceof Element && event.target.closest("tr")
      if (row) choose(Number(row.dataset.layer))
    })
  }

  /**
   * Show the layers in this order: those that are seen at once, the others when there is time.
   * @param {Layer[]} order
   */
  lay(order) {
    this.order = order
    this.laid = 0
    this.body.replaceChildren()
    this.more(order, ROWS)
  }

  /**
   * @param {Layer[]} order
   * @param {number} count
   */
  more(order, count) {
    if (order !== this.order || this.laid >= order.length) return
    const next = order.slice(this.laid, this.laid + count)
    this.laid += next.length
    this.body.append(...next.map((layer) => this.row(layer)))
    setTimeout(() => this.more(order, ROWS), 30)
  }

  /** Lay all rows now. */
  all() {
    this.more(this.order, Infinity)
  }

  /** @param {Layer} layer */
  row(layer) {
    this.rows[layer.index] ??= this.made(layer)
    return this.rows[layer.index]
  }

  /** @param {Layer} layer */
  made(layer) {
    return h(
      "tr",
      { "data-layer": layer.index },
      this.columns.map((column, i) => {
        const props = { class: column.number ? "number" : null, title: column.figure ? full(column.figure, layer.member.figures[column.figure.key]) : null }
        const text = column.text(layer)
        if (!column.figure && text.length > 12) props.title = text
        return i ? h("td", props, text) : h("th", { ...props, scope: "row" }, h("button", { type: "button" }, text || "(no name)"))
      }),
    )
  }

  /**
   * By a column: numbers largest first, then the other way, then as the net is written.
   * @param {number} i
   */
  sort(i) {
    const { number, value } = this.columns[i]
    const again = this.sorted.column === i
    const over = again && this.sorted.down !== number
    this.sorted = over ? { column: -1, down: false } : { column: i, down: again ? !this.sorted.down : number }
    const order = [...this.layers]
    if (!over) {
      const sign = this.sorted.down ? -1 : 1
      order.sort((p, q) => compare(value(p), value(q), sign) || p.index - q.index)
    }
    this.lay(order)
    this.heads.forEach((head, k) => {
      head.setAttribute("aria-sort", k !== this.sorted.column ? "none" : this.sorted.down ? "descending" : "ascending")
    })
  }

  /** @param {Layer | null} layer */
  select(layer) {
    this.body.querySelector(".selected")?.classList.remove("selected")
    if (layer && this.order.indexOf(layer) >= this.laid) this.all()
    const row = layer && this.row(layer)
    row?.classList.add("selected")
    if (row?.offsetParent) row.scrollIntoView({ block: "nearest" })
  }
}

/**
 * @param {Net} net
 * @param {Layer[]} layers
 * @returns {Column[]}
 */
function columnsOf(net, layers) {
  /** @type {Column[]} */
  const columns = [
    { label: "Layer", help: "its name", kind: "name", number: false, value: (l) => l.member.name, text: (l) => l.member.name },
    { label: "Type", help: "Caffe's layer type", kind: "type", number: false, value: (l) => l.member.type, text: (l) => l.member.type },
    {
      label: "Output",
      kind: "shape",
      help: "the shape of each top; sorted by how many values they hold",
      number: false,
      value: (l) => l.member.tops.reduce((sum, { shape }) => sum + (shape ?? []).reduce((p, d) => p * d, shape ? 1 : 0), 0),
      text: (l) => l.member.tops.map(({ shape }) => dims(shape)).join(", "),
    },
  ]
  for (const figure of net.figures) {
    if (!figure.table || !layers.some((l) => l.member.figures[figure.key] !== undefined)) continue
    columns.push({
      label: figure.label,
      help: figure.help,
      number: true,
      kind: "figure",
      figure,
      value: (l) => l.member.figures[figure.key],
      text: (l) => {
        const value = l.member.figures[figure.key]
        return value === 0 ? "" : short(figure, value)
      },
    })
  }
  if (layers.some((l) => l.member.lines)) {
    const line = (/** @type {Layer} */ l) => l.member.lines?.[0]
    columns.push({ label: "Line", help: "where it is written", kind: "line", number: true, value: line, text: (l) => String(line(l) ?? "") })
  }
  return columns
}

/**
 * Names with numbers in them by the numbers; what is not known comes last either way.
 * @param {string | number | undefined} a
 * @param {string | number | undefined} b
 * @param {number} sign
 */
function compare(a, b, sign) {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined)
  if (typeof a === "number" && typeof b === "number") return sign * (a - b)
  return sign * words.compare(leading(a), leading(b))
}

const words = new Intl.Collator("en", { numeric: true })

/** @param {string | number} value */
function leading(value) {
  return String(value)
}
