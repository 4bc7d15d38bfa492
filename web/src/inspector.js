/** The pane that tells all about a layer; or, when none is selected, about the net. */

import { bar, histogram } from "./charts.js"
import { painter } from "./colours.js"
import { h, icon, ICONS } from "./dom.js"
import { full, short } from "./figures.js"
import { digits, dims, exact, percent, plural } from "./format.js"

/** @typedef {import("./types.js").Net} Net */
/** @typedef {import("./types.js").Blob} Blob */
/** @typedef {import("./diagram.js").Layer} Layer */
/** @typedef {import("./diagram.js").Diagram} Diagram */

export class Inspector {
  /**
   * @param {HTMLElement} element
   * @param {Diagram} diagram
   * @param {(line: number) => void} goToLine
   */
  constructor(element, diagram, goToLine) {
    this.element = element
    this.diagram = diagram
    this.goToLine = goToLine
    this.net = diagram.net
    /** @type {Map<number, Map<number, [number, number]>>} box -> bottom -> (source box, top) */
    this.makers = new Map()
    for (const [source, top, target, bottom] of this.net.edges) {
      const bottoms = this.makers.get(target) ?? new Map()
      this.makers.set(target, bottoms.set(bottom, [source, top]))
    }
  }

  /** @param {Layer | null} layer */
  select(layer) {
    this.element.replaceChildren(...(layer ? this.layer(layer) : this.overview()))
    this.element.scrollTop = 0
  }

  /** @param {Layer} layer */
  layer(layer) {
    const { member } = layer
    const box = this.net.boxes[layer.box]
    return [
      h(
        "header",
        null,
        h("button", { type: "button", class: "close", "aria-label": "Back to the net", title: "Back to the net (Esc)", onclick: () => this.diagram.select(null) }, icon(ICONS.close)),
        h("h2", null, member.name || "(no name)"),
        h("p", { class: "kind" }, this.swatch(member.category), `${member.type}`),
      ),
      member.fault ? h("p", { class: "fault", role: "alert" }, member.fault) : null,
      box.members.length > 1 ? this.stack(layer) : null,
      ...this.diagram.blocksOf(layer).map((block) => this.block(block)),
      this.shapes("Outputs", member.tops, null),
      member.bottoms.length ? this.shapes("Inputs", member.bottoms, layer) : null,
      this.settings(layer),
      this.figures(layer),
      ...member.blobs.map((blob) => this.blob(blob)),
      this.lines(layer),
    ].filter((part) => part !== null)
  }

  /** @param {string} category */
  swatch(category) {
    const swatch = h("span", { class: "swatch", "aria-hidden": "true" })
    const colours = painter(this.net, "kind", this.diagram.theme)(/** @type {any} */ ({ category }))
    swatch.style.background = colours.fill
    swatch.style.borderColor = colours.stroke
    return swatch
  }

  /**
   * The layers of the same box.
   * @param {Layer} layer
   */
  stack(layer) {
    const first = this.diagram.firstLayer[layer.box]
    return h(
      "div",
      { class: "chips", role: "group", "aria-label": "Layers of this box, in order" },
      this.net.boxes[layer.box].members.map((member, row) =>
        h(
          "button",
          { type: "button", "aria-pressed": row === layer.row ? "true" : "false", title: member.name, onclick: () => this.diagram.select(first + row, { reveal: false }) },
          this.swatch(member.category),
          member.type,
        ),
      ),
    )
  }

  /** @param {ReturnType<Diagram["blocksOf"]>[number]} block */
  block({ key, names, copy, copies, closed }) {
    const { diagram } = this
    const move = (/** @type {string} */ label, /** @type {string} */ text, /** @type {number} */ by) =>
      h("button", { type: "button", "aria-label": label, title: label, disabled: copy + by < 0 || copy + by >= copies, onclick: () => diagram.step(key, by) }, text)
    return h(
      "div",
      { class: "block" },
      h("span", { class: "what" }, h("b", null, names[copy]), ` copy ${copy + 1} of ${copies}`),
      h(
        "span",
        { class: "buttons" },
        closed && move("Previous copy", "‹", -1),
        closed && move("Next copy", "›", 1),
        h("button", { type: "button", onclick: () => diagram.fold(key) }, closed ? "Unfold" : "Fold"),
      ),
    )
  }

  /**
   * @param {string} title
   * @param {{blob: string, shape: import("./types.js").Shape}[]} values
   * @param {Layer | null} reader    whose bottoms they are
   */
  shapes(title, values, reader) {
    return section(
      title,
      values.length
        ? h(
            "ul",
            { class: "values" },
            values.map(({ blob, shape }, i) => {
              const maker = reader ? this.makerOf(reader, i) : null
              const name = maker
                ? h("button", { type: "button", class: "link", title: `made by ${maker.member.name}`, onclick: () => this.diagram.select(maker.index) }, blob)
                : h("span", null, blob)
              return h("li", null, name, h("span", { class: "dims" }, dims(shape)))
            }),
          )
        : h("p", { class: "quiet" }, "none"),
    )
  }

  /**
   * The layer that a bottom comes from.
   * @param {Layer} reader
   * @param {number} bottom
   * @returns {Layer | null}
   */
  makerOf(reader, bottom) {
    if (reader.row > 0) return this.diagram.layers[reader.index - 1]
    const [source] = this.makers.get(reader.box)?.get(bottom) ?? []
    if (source === undefined) return null
    return this.diagram.layers[this.diagram.firstLayer[source] + this.net.boxes[source].members.length - 1]
  }

  /** @param {Layer} layer */
  settings({ member }) {
    const given = member.settings.filter(([, , usual]) => !usual)
    const usual = member.settings.filter(([, , usual]) => usual)
    if (!member.settings.length) return null
    const list = (/** @type {[string, string, boolean][]} */ settings) =>
      h("dl", null, settings.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]).flat())
    return section(
      "Parameters",
      given.length ? list(given) : h("p", { class: "quiet" }, "all at their defaults"),
      usual.length ? h("details", null, h("summary", null, `${usual.length} more at default`), list(usual)) : null,
    )
  }

  /** @param {Layer} layer */
  figures({ member }) {
    const { figures, totals } = this.net
    const rows = figures
      .filter(({ key }) => member.figures[key] !== undefined && member.figures[key] !== 0)
      .map((figure) => {
        const value = member.figures[figure.key]
        const total = totals[figure.key]
        const share = typeof value === "number" && total && figure.unit !== "ratio" ? value / total : null
        return h(
          "tr",
          { title: figure.help },
          h("th", { scope: "row" }, figure.label),
          h("td", { class: "number", title: full(figure, value), colspan: share === null ? 2 : null }, short(figure, value)),
          share === null ? null : h("td", { class: "share" }, bar(share), h("span", null, percent(share, 1))),
        )
      })
    return rows.length ? section("Figures", h("table", { class: "figures" }, h("tbody", null, rows))) : null
  }

  /** @param {Blob} blob */
  blob({ name, shape, note, stats }) {
    return section(
      name,
      h("p", { class: "dims" }, dims(shape), note ? h("span", { class: "quiet" }, ` ${note}`) : null),
      stats
        ? [
            stats.count
              ? h(
                  "dl",
                  { class: "statistics" },
                  [
                    ["min", digits(stats.min)],
                    ["max", digits(stats.max)],
                    ["mean", digits(stats.mean)],
                    ["std", digits(stats.std)],
                    ["zeros", percent(stats.zeros, stats.count)],
                  ]
                    .map(([term, value]) => h("div", null, h("dt", null, term), h("dd", null, value)))
                    .flat(),
                )
              : null,
            stats.odd ? h("p", { class: "fault" }, `${plural(stats.odd, "value")} not finite`) : null,
            stats.bins.length ? histogram(stats) : null,
            stats.picture ? this.picture(stats.picture, name) : null,
          ]
            .flat()
            .filter((part) => part !== null)
        : null,
    )
  }

  /**
   * @param {import("./types.js").FilterPicture} picture
   * @param {string} name
   */
  picture({ png, width, height, note }, name) {
    const img = h("img", { src: png, width, height, alt: `The filters of ${name}, each as a picture` })
    return h("figure", { class: "filters" }, img, h("figcaption", null, note))
  }

  /** @param {Layer} layer */
  lines({ member }) {
    if (!member.lines || !this.net.text) return null
    const [first, last] = member.lines
    const text = this.net.text.split("\n").slice(first - 1, last).join("\n")
    return section(
      "Source",
      h("button", { type: "button", class: "link", onclick: () => this.goToLine(first) }, first === last ? `line ${first}` : `lines ${first} to ${last}`),
      h("pre", { class: "excerpt" }, text),
    )
  }

  overview() {
    const { net } = this
    const has = (/** @type {string} */ key) => net.figures.find((f) => f.key === key && net.totals[key] !== undefined)
    const big = net.figures.filter((f) => net.totals[f.key] !== undefined && f.unit !== "text" && f.unit !== "ratio")
    return [
      h("header", null, h("h2", null, net.name || "(no name)"), h("p", { class: "kind" }, `${net.phase} net, ${plural(net.totals.layers, "layer")}`)),
      net.faults.length ? this.faults() : null,
      h(
        "div",
        { class: "totals" },
        big.map((f) => h("div", { title: `${full(f, net.totals[f.key])}: ${f.help}` }, h("b", null, `${net.totals.unknown ? "≥ " : ""}${short(f, net.totals[f.key])}`), h("span", null, f.label))),
      ),
      this.ends("Inputs", (box) => box.category === "data", false),
      this.ends("Outputs", () => true, true),
      this.kinds(has("params") ? "params" : "", has("macs") ? "macs" : ""),
    ].filter((part) => part !== null)
  }

  faults() {
    return h(
      "section",
      { class: "faults" },
      h("h3", null, plural(this.net.faults.length, "fault")),
      h(
        "ul",
        null,
        this.net.faults.map(({ what, layer, more, line }) =>
          h(
            "li",
            null,
            line !== null && this.net.text ? h("button", { type: "button", class: "link", onclick: () => this.goToLine(line) }, `line ${line}`) : null,
            layer ? h("b", null, layer) : null,
            h("p", null, what),
            more.map(([word, text]) => h("p", { class: "more" }, `${word}: ${text}`)),
          ),
        ),
      ),
    )
  }

  /**
   * @param {string} title
   * @param {(box: import("./types.js").Box) => boolean} fits
   * @param {boolean} outputs
   */
  ends(title, fits, outputs) {
    const found = this.net.boxes.flatMap((box, i) =>
      fits(box) ? box.tops.filter((t) => t.output === outputs || !outputs).map((top) => ({ top, i })) : [],
    )
    if (!found.length) return null
    return section(
      title,
      h(
        "ul",
        { class: "values" },
        found.map(({ top, i }) =>
          h("li", null, h("button", { type: "button", class: "link", onclick: () => this.diagram.select(this.diagram.firstLayer[i]) }, top.blob), h("span", { class: "dims" }, dims(top.shape))),
        ),
      ),
    )
  }

  /**
   * How many layers there are of each kind, and what share of the figures is theirs.
   * @param {string} params
   * @param {string} macs
   */
  kinds(params, macs) {
    /** @type {Map<string, {count: number, params: number, macs: number}>} */
    const found = new Map()
    for (const { member } of this.diagram.layers) {
      const sum = found.get(member.category) ?? { count: 0, params: 0, macs: 0 }
      sum.count++
      sum.params += Number(member.figures[params] ?? 0)
      sum.macs += Number(member.figures[macs] ?? 0)
      found.set(member.category, sum)
    }
    const order = Object.keys(this.net.categories).filter((c) => found.has(c))
    return section(
      "Kinds of layers",
      h(
        "table",
        { class: "kinds" },
        h("thead", null, h("tr", null, h("th", { scope: "col" }, h("span", { class: "unseen" }, "Kind")), h("th", { scope: "col", class: "number" }, "Layers"), h("th", { scope: "col", class: "number" }, "Parameters"), h("th", { scope: "col", class: "number" }, "MACs"))),
        h(
          "tbody",
          null,
          order.map((category) => {
            const sum = /** @type {{count: number, params: number, macs: number}} */ (found.get(category))
            const share = (/** @type {number} */ part, /** @type {string} */ key) => (part ? percent(part, this.net.totals[key]) : "")
            return h(
              "tr",
              null,
              h("th", { scope: "row" }, this.swatch(category), this.net.categories[category].label),
              h("td", { class: "number" }, exact(sum.count)),
              h("td", { class: "number" }, share(sum.params, params)),
              h("td", { class: "number" }, share(sum.macs, macs)),
            )
          }),
        ),
      ),
    )
  }
}

/**
 * @param {string} title
 * @param {...(import("./dom.js").Child | import("./dom.js").Child[])} children
 */
function section(title, ...children) {
  return h("section", null, h("h3", null, title), ...children)
}
