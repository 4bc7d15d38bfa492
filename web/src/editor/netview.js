/** The pane beside the text: the diagram, the table of figures, and what is selected. */

import { mount } from "../diagram.js"
import { h, icon, ICONS } from "../dom.js"
import { csvOf, pngOf, svgOf } from "../export.js"
import { short } from "../figures.js"
import { dims, plural } from "../format.js"
import { Inspector } from "../inspector.js"
import { drawLegend } from "../legend.js"
import { Table } from "../table.js"

/** @typedef {import("../types.js").Net} Net */
/** @typedef {import("../diagram.js").Layer} Layer */
/** @typedef {"diagram" | "table"} Tab */

const TOLD = ["params", "macs", "activation_bytes", "peak_activation_bytes"]

export class NetView {
  /**
   * @param {HTMLElement} root
   * @param {"light" | "dark"} theme
   * @param {{select: (layer: Layer) => void, goToLine: (line: number) => void}} tell   of what the user does here
   */
  constructor(root, theme, tell) {
    this.root = root
    this.theme = theme
    this.told = tell
    /** @type {Net | null} */
    this.net = null
    /** @type {import("../diagram.js").Diagram | null} */
    this.diagram = null
    this.colour = "kind"
    /** @type {Tab} */
    this.tab = "diagram"
    this.quiet = false
    this.tableIsOf = /** @type {Net | null} */ (null)
    this.detailsAreOf = /** @type {unknown} */ (null)
    /** @type {Table | null} */
    this.figures = null

    this.canvas = h("div", { class: "canvas", id: "diagram", role: "tabpanel", "aria-label": "Diagram" })
    this.table = h("div", { class: "pane table", id: "table", role: "tabpanel", "aria-label": "Figures", hidden: true })
    this.details = h("aside", { class: "pane details", "aria-label": "Details", hidden: true })
    this.empty = h("div", { class: "empty" })
    this.legend = h("div", { class: "legend", "aria-hidden": "true" })
    this.percent = h("span", { class: "percent", "aria-hidden": "true" })
    this.spoken = h("div", { class: "unseen", role: "status", "aria-live": "polite" })
    this.sums = h("div", { class: "figures-line", role: "status", "aria-label": "Figures" })
    this.stale = h("div", { class: "stale", hidden: true })
    this.tabs = {
      diagram: this.tabButton("diagram", "Diagram"),
      table: this.tabButton("table", "Figures"),
    }
    this.colours = h("select", { class: "colours", "aria-label": "Colour the diagram by", onchange: () => this.paint(this.colours.value) })
    this.folds = tool(ICONS.unfold, "Unfold all blocks", () => this.diagram?.foldAll(!this.diagram.state.closed.size))
    this.detailsButton = tool(ICONS.panel, "Details", () => this.showDetails(Boolean(this.details.hidden)))
    const zoom = h(
      "div",
      { class: "zoom", role: "group", "aria-label": "Zoom" },
      tool(ICONS.minus, "Zoom out", () => this.diagram?.scaleBy(1 / 1.3)),
      this.percent,
      tool(ICONS.plus, "Zoom in", () => this.diagram?.scaleBy(1.3)),
      tool(ICONS.fit, "See all", () => this.diagram?.fit()),
    )
    const bar = h(
      "div",
      { class: "view-bar" },
      h("div", { class: "tabs", role: "tablist", "aria-label": "Views of the net" }, this.tabs.diagram, this.tabs.table),
      h(
        "div",
        { class: "tools" },
        this.colours,
        this.folds,
        tool(ICONS.turn, "Turn the diagram", () => this.diagram?.turn(this.diagram.direction === "TB" ? "LR" : "TB")),
        this.detailsButton,
      ),
    )
    this.canvas.append(this.legend, zoom)
    const stage = h("div", { class: "stage" }, h("div", { class: "middle" }, this.canvas, this.table, this.empty, this.stale), this.details)
    root.append(bar, stage, this.sums, this.spoken)
    this.showTab("diagram")
    this.show(null, [])
  }

  /**
   * @param {Tab} tab
   * @param {string} label
   */
  tabButton(tab, label) {
    const turn = (/** @type {KeyboardEvent} */ event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return
      const other = tab === "diagram" ? "table" : "diagram"
      this.showTab(other)
      this.tabs[other].focus()
    }
    return h("button", { type: "button", role: "tab", "aria-controls": tab, onclick: () => this.showTab(tab), onkeydown: turn }, label)
  }

  /** @param {Tab} tab */
  showTab(tab) {
    this.tab = tab
    for (const name of /** @type {Tab[]} */ (["diagram", "table"])) {
      this.tabs[name].setAttribute("aria-selected", String(name === tab))
      this.tabs[name].tabIndex = name === tab ? 0 : -1
    }
    this.canvas.hidden = tab !== "diagram" || !this.net
    this.table.hidden = tab !== "table" || !this.net
    this.fill()
  }

  /** @param {boolean} on */
  showDetails(on) {
    this.details.hidden = !on
    this.detailsButton.setAttribute("aria-pressed", String(on))
    this.fill()
    if (!this.diagram?.selected || this.tab !== "diagram") return
    this.diagram.resized() // now, and not when the browser tells of it: it would move what has been revealed
    this.diagram.reveal(this.diagram.selected.box)
  }

  /**
   * Show a net; null: none, and what to say in its place.
   * @param {Net | null} net
   * @param {(Node | string)[]} instead
   * @param {{fresh?: boolean}} [how]    fresh: it is of another file than the one before
   */
  show(net, instead, { fresh = false } = {}) {
    const before = this.net
    this.net = net && net.boxes.length ? net : null
    this.empty.hidden = this.net !== null
    this.empty.replaceChildren(...instead)
    this.root.classList.toggle("is-empty", !this.net)
    this.keep("")
    this.quietly(() => this.draw(before, fresh))
    this.showTab(this.tab)
    this.tell()
  }

  /**
   * @param {Net | null} before
   * @param {boolean} fresh
   */
  draw(before, fresh) {
    if (!this.net) {
      this.diagram?.destroy()
      this.diagram = null
      return
    }
    if (this.diagram && !fresh) {
      this.diagram.net = { ...this.diagram.net, name: this.net.name } // an edit of the name makes no other net of it
      this.diagram.update(this.net)
    } else {
      this.canvas.hidden = false
      this.diagram?.destroy()
      this.diagram = mount(this.canvas, this.net, { theme: this.theme, colour: this.colour })
        .on("select", (layer) => this.selected(layer))
        .on("fold", () => this.folded())
        .on("zoom", (k) => (this.percent.textContent = `${Math.round(100 * k)} %`))
        .on("say", (text) => (this.spoken.textContent = text))
      this.canvas.prepend(this.diagram.svg)
      this.percent.textContent = `${Math.round(100 * this.diagram.transform().k)} %`
    }
    const keys = (/** @type {Net | null} */ net) => net?.figures.map((f) => f.key).join()
    if (keys(before) !== keys(this.net)) {
      this.colours.replaceChildren(
        h("option", { value: "kind" }, "Colour: kind"),
        ...this.net.figures.filter((f) => f.colour).map((f) => h("option", { value: f.key, title: f.help }, `Colour: ${f.label}`)),
      )
      this.colours.value = this.colour
    }
    drawLegend(this.legend, this.diagram)
    this.folded()
  }

  /**
   * What is shown is not of the text as it stands, for a reason; "": it is.
   * @param {string} why
   */
  keep(why) {
    this.stale.hidden = !why || !this.net
    this.stale.textContent = why
    this.root.classList.toggle("is-stale", !this.stale.hidden)
  }

  /** @returns {Layer[]} */
  get layers() {
    return this.diagram?.layers ?? []
  }

  /**
   * Select a layer, for the text's sake.
   * @param {number | null} index
   */
  select(index) {
    if (!this.diagram || (this.diagram.selected?.index ?? null) === index) return
    this.quietly(() => this.diagram?.select(index))
    this.fill()
    this.tell()
  }

  /** @param {Layer | null} layer */
  selected(layer) {
    if (this.quiet) return
    this.fill()
    this.tell()
    if (layer) this.told.select(layer)
  }

  /** @param {() => void} act */
  quietly(act) {
    this.quiet = true
    try {
      act()
    } finally {
      this.quiet = false
    }
  }

  folded() {
    if (!this.diagram) return
    const some = this.diagram.state.closed.size > 0
    this.folds.hidden = !this.diagram.foldable
    this.folds.replaceChildren(icon(some ? ICONS.unfold : ICONS.fold))
    this.folds.title = some ? "Unfold all blocks" : "Fold repeated blocks"
    this.folds.setAttribute("aria-label", this.folds.title)
    this.detailsAreOf = null
    this.fill()
  }

  /** Bring the table and the details up to date, where they are seen. */
  fill() {
    const { net, diagram } = this
    if (!net || !diagram) {
      this.details.replaceChildren()
      return
    }
    if (this.tab === "table") {
      if (this.tableIsOf !== net) {
        const { scrollTop, scrollLeft } = this.table
        const sorted = this.figures?.sorted
        this.figures = new Table(this.table, net, diagram.layers, (layer) => diagram.select(layer))
        if (sorted && sorted.column >= 0) {
          this.figures.sort(sorted.column)
          if (this.figures.sorted.down !== sorted.down) this.figures.sort(sorted.column)
        }
        this.table.scrollTo(scrollLeft, scrollTop)
        this.tableIsOf = net
      }
      this.figures?.select(diagram.selected)
    }
    const wanted = diagram.selected ?? net
    if (!this.details.hidden && this.detailsAreOf !== wanted) {
      const { scrollTop } = this.details
      new Inspector(this.details, diagram, (line) => this.told.goToLine(line)).select(diagram.selected)
      if (this.detailsAreOf === null) this.details.scrollTop = scrollTop
      this.detailsAreOf = wanted
    }
  }

  /** The lines of figures: of the net, and of the selected layer. */
  tell() {
    const { net, diagram } = this
    this.sums.replaceChildren()
    if (!net || !diagram) return
    const parts = (/** @type {Record<string, number | string>} */ values, /** @type {boolean} */ zeros) =>
      net.figures
        .filter((f) => TOLD.includes(f.key) && values[f.key] !== undefined && (zeros || values[f.key] !== 0))
        .map((f) => h("span", { title: f.help }, h("b", null, short(f, values[f.key])), ` ${f.label}`))
    const layer = diagram.selected?.member
    const tops = layer?.tops.map((top) => dims(top.shape)).join(", ")
    this.sums.append(
      h("div", { class: "of-net" }, h("b", null, plural(net.totals.layers, "layer")), parts(net.totals, true)),
      layer
        ? h("div", { class: "of-layer" }, h("b", null, layer.name || "(no name)"), h("span", null, layer.type), h("span", null, `→ ${tops || "nothing"}`), parts(layer.figures, false))
        : h("div", { class: "of-layer quiet" }, "Put the cursor into a layer, or click one in the diagram"),
    )
  }

  /** @param {string} key */
  paint(key) {
    this.colour = key
    this.colours.value = key
    this.diagram?.colourBy(key)
    if (this.diagram) drawLegend(this.legend, this.diagram)
  }

  /** @param {"light" | "dark"} theme */
  wear(theme) {
    this.theme = theme
    this.diagram?.wear(theme)
    if (this.diagram) drawLegend(this.legend, this.diagram)
    this.detailsAreOf = null
    this.fill()
  }

  /**
   * What is shown as a file.
   * @param {"svg" | "png" | "csv"} kind
   * @returns {Promise<string | Blob | null>}
   */
  async file(kind) {
    if (!this.net || !this.diagram) return null
    if (kind === "csv") return csvOf(this.net, this.layers)
    return kind === "svg" ? svgOf(this.diagram).text : pngOf(this.diagram)
  }

  focus() {
    if (this.tab === "diagram" && this.diagram) this.diagram.focus(Math.max(this.diagram.focused, 0))
    else this.tabs[this.tab].focus()
  }
}

/**
 * @param {string} path
 * @param {string} label
 * @param {() => void} act
 */
export function tool(path, label, act) {
  return h("button", { type: "button", class: "tool", title: label, "aria-label": label, onclick: act }, icon(path))
}
