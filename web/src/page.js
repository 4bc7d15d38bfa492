/** The page: the diagram, and around it the source, the details, the table and the tools. */

import { mount } from "./diagram.js"
import { h, icon, ICONS } from "./dom.js"
import { csvOf, pngOf, save, svgOf } from "./export.js"
import { short } from "./figures.js"
import { plural } from "./format.js"
import { helpSheet } from "./help.js"
import { Inspector } from "./inspector.js"
import { drawLegend } from "./legend.js"
import { Search } from "./search.js"
import { Source } from "./source.js"
import { Table } from "./table.js"

/** @typedef {import("./types.js").Net} Net */

/**
 * What stays when the net is shown in another phase.
 * @typedef {object} Kept
 * @property {string | null} layer               the name of the selected layer
 * @property {string} colour
 * @property {string[]} panes                    those that are shown
 * @property {"TB" | "LR"} direction
 * @property {ReturnType<import("./diagram.js").Diagram["seenAt"]>} seen
 */

const NARROW = 900

/**
 * @param {Net[]} nets   one, or the same net in several phases
 * @param {number} at    which of them is shown
 * @param {Kept} [kept]
 */
function start(nets, at, kept) {
  const net = nets[at]
  const root = document.documentElement
  const narrow = innerWidth < NARROW
  const hidden = (/** @type {string} */ id, /** @type {boolean} */ usual) => (kept ? !kept.panes.includes(id) : usual)
  const live = h("div", { class: "unseen", "aria-live": "polite", role: "status" })
  const canvas = h("div", { class: "canvas" })
  const legend = h("div", { class: "legend", "aria-hidden": "true" })
  const scale = h("span", { class: "percent", "aria-hidden": "true" })
  const source = h("aside", { id: "source", class: "pane source", "aria-label": "Source", hidden: hidden("source", narrow || innerWidth < 1200) || !net.text })
  const details = h("aside", { id: "details", class: "pane details", "aria-label": "Details", hidden: hidden("details", narrow) })
  const table = h("section", { id: "table", class: "pane table", "aria-label": "Table of figures", hidden: hidden("table", true) })
  const help = helpSheet(nets.length > 1)

  const wanted = net.theme === "light" || net.theme === "dark" ? net.theme : storedTheme()
  if (!kept) root.dataset.theme = wanted ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")
  const theme = () => /** @type {"light" | "dark"} */ (root.dataset.theme)

  const main = h("main", null, h("div", { class: "middle" }, source, canvas, details), table)
  const header = h("header", { class: "top" })
  document.body.append(header, main, help, live)

  const diagram = mount(canvas, net, { theme: theme(), folded: !net.expand, direction: kept?.direction ?? net.direction })
  const inspector = new Inspector(details, diagram, (line) => {
    show(source, true)
    text?.goTo(line)
  })
  const text = net.text ? new Source(source, net, diagram.layers, (layer) => diagram.select(layer)) : null
  /** @type {Table | null} */
  let figures = null // made when it is first shown
  const search = new Search(diagram.layers, {
    go: (layer) => diagram.select(layer, { reveal: true, focus: true }),
    mark: (layers) => diagram.mark(layers),
    leave: () => diagram.focus(Math.max(diagram.focused, 0)),
  })

  const colour = h("select", { id: "colour", "aria-label": "Colour by", onchange: () => paint(colour.value) }, [
    h("option", { value: "kind" }, "Colour: kind"),
    ...net.figures.filter((f) => f.colour && net.totals[f.key]).map((f) => h("option", { value: f.key, title: f.help }, `Colour: ${f.label}`)),
  ])
  const folds = tool("fold-all", ICONS.unfold, "Unfold all blocks (e)", () => foldAll())
  const toggles = {
    source: tool("show-source", ICONS.source, "Source (s)", () => toggle(source)),
    table: tool("show-table", ICONS.table, "Table of figures (t)", () => toggle(table)),
    details: tool("show-details", ICONS.panel, "Details (i)", () => toggle(details)),
  }
  const menu = h(
    "details",
    { class: "menu" },
    h("summary", { title: "Save as a file", "aria-label": "Save as a file", role: "button" }, icon(ICONS.share), h("span", { class: "word" }, "Export")),
    h("div", { class: "items" }, [
      ["svg", "Picture, SVG"],
      ["png", "Picture, PNG"],
      ["csv", "Figures, CSV"],
    ].map(([kind, label]) => h("button", { type: "button", id: `export-${kind}`, onclick: () => exportAs(kind) }, label))),
  )
  const ending = new AbortController()
  const { signal } = ending
  document.addEventListener("pointerdown", (event) => {
    if (event.target instanceof Node && !menu.contains(event.target)) menu.open = false
  }, { signal })

  header.append(
    h("div", { class: "title" }, h("h1", { title: net.file || null }, net.name || net.file || "net"), phases(), h("span", { class: "sums" }, sums(net))),
    search.root,
    h(
      "div",
      { class: "tools", role: "toolbar", "aria-label": "Tools" },
      colour,
      diagram.foldable && folds,
      tool("turn", ICONS.turn, "Turn (r)", turn),
      h("span", { class: "gap" }),
      net.text ? toggles.source : null,
      toggles.table,
      toggles.details,
      h("span", { class: "gap" }),
      menu,
      tool("theme", ICONS.theme, "Light or dark (d)", () => wear(theme() === "dark" ? "light" : "dark")),
      tool("help", ICONS.help, "Keys (?)", () => help.showModal()),
    ),
  )
  canvas.append(
    legend,
    h(
      "div",
      { class: "zoom", role: "group", "aria-label": "Zoom" },
      tool("zoom-out", ICONS.minus, "Zoom out (−)", () => diagram.scaleBy(1 / 1.3)),
      scale,
      tool("zoom-in", ICONS.plus, "Zoom in (+)", () => diagram.scaleBy(1.3)),
      tool("fit", ICONS.fit, "See all (f)", () => diagram.fit()),
    ),
  )

  diagram
    .on("select", (layer) => {
      inspector.select(layer)
      text?.select(layer)
      figures?.select(layer)
      if (layer && innerWidth >= NARROW) show(details, true)
      history.replaceState(null, "", layer ? `#${encodeURIComponent(layer.member.name)}` : "#")
    })
    .on("fold", () => {
      inspector.select(diagram.selected)
      showFolds()
    })
    .on("zoom", (k) => (scale.textContent = `${Math.round(100 * k)} %`))
    .on("say", (what) => (live.textContent = what))
  inspector.select(null)
  for (const pane of [source, details, table]) show(pane, !pane.hasAttribute("hidden"))
  showFolds()
  const usual = net.totals.time ? "time" : "kind" // who has measured a net wants to see that
  paint([...colour.options].some((o) => o.value === kept?.colour) ? /** @type {Kept} */ (kept).colour : usual)
  if (kept) {
    diagram.resume(kept.seen)
    diagram.select(kept.layer, { reveal: false })
  } else {
    diagram.start()
    diagram.select(asked() || null)
  }
  scale.textContent = `${Math.round(100 * diagram.transform().k)} %`

  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLElement && event.target.matches("input, select, textarea")
    if (typing || help.open || event.ctrlKey || event.metaKey || event.altKey) return
    const act = keys[event.key]
    if (!act) return
    act()
    event.preventDefault()
  }, { signal })
  addEventListener("hashchange", () => diagram.select(asked() || null), { signal })
  let tableWas = false
  let themeWas = theme()
  addEventListener("beforeprint", () => {
    tableWas = !table.hasAttribute("hidden")
    show(table, true)
    figures?.all()
    const { x, y, width, height } = diagram.placed.bounds
    diagram.svg.setAttribute("viewBox", `${x - 16} ${y - 80} ${width + 32} ${height + 96}`) // the head stands above
    diagram.svg.style.width = `${Math.ceil(0.8 * (width + 32))}px`
    diagram.world.removeAttribute("transform")
    themeWas = theme()
    root.dataset.theme = "light"
    diagram.wear("light")
  }, { signal })
  addEventListener("afterprint", () => {
    show(table, tableWas)
    diagram.svg.removeAttribute("viewBox")
    diagram.svg.style.width = ""
    root.dataset.theme = themeWas
    diagram.wear(theme())
    diagram.moved(diagram.transform())
  }, { signal })

  /** @type {Record<string, () => void>} */
  const keys = {
    "/": () => search.input.select(),
    f: () => diagram.fit(),
    "?": () => help.showModal(),
    Escape: () => (menu.open ? (menu.open = false) : diagram.select(null)),
    "+": () => diagram.scaleBy(1.3),
    "=": () => diagram.scaleBy(1.3),
    "-": () => diagram.scaleBy(1 / 1.3),
    0: () => diagram.lifeSize(),
    c: () => paint(colour.options[(colour.selectedIndex + 1) % colour.options.length].value),
    e: () => foldAll(),
    r: () => turn(),
    s: () => net.text && toggle(source),
    t: () => toggle(table),
    i: () => toggle(details),
    d: () => wear(theme() === "dark" ? "light" : "dark"),
    p: () => nets.length > 1 && change((at + 1) % nets.length),
  }

  /** What phase the net is in; where the page has several, a button for each. */
  function phases() {
    if (nets.length < 2) return h("span", { class: "phase" }, net.phase)
    const differ = new Set(nets.map((n) => n.phase)).size === nets.length
    const button = (/** @type {Net} */ { name, phase }, /** @type {number} */ i) =>
      h("button", { type: "button", class: "phase", title: "Show this one (p)", "aria-pressed": String(i === at), onclick: () => change(i) }, differ ? phase : `${name || "net"} ${i + 1}`)
    return h("span", { class: "phases", role: "group", "aria-label": "Phase" }, nets.map(button))
  }

  /**
   * Show the net in another phase, at the same place.
   * @param {number} to
   */
  function change(to) {
    if (to === at) return
    const focused = document.activeElement?.classList.contains("phase")
    const shown = [source, details, table].filter((pane) => !pane.hidden).map((pane) => pane.id)
    const layer = diagram.selected?.member.name ?? null
    const next = { layer, colour: diagram.colour, panes: shown, direction: diagram.direction, seen: diagram.seenAt() }
    ending.abort()
    diagram.destroy()
    for (const part of [header, main, help, live]) part.remove()
    open(nets, to, next)
    if (focused) /** @type {HTMLElement} */ (document.querySelector('.phase[aria-pressed="true"]')).focus()
  }

  /**
   * @param {HTMLElement} pane
   * @param {boolean} on
   */
  function show(pane, on) {
    pane.hidden = !on
    if (on && pane === table && !figures) {
      figures = new Table(table, net, diagram.layers, (layer) => diagram.select(layer))
      figures.select(diagram.selected)
    }
    if (on && pane === source) text?.select(diagram.selected)
    if (pane === details) showLegend()
    if (pane === source) root.dataset.source = on ? "shown" : "hidden"
    toggles[/** @type {"source"} */ (pane.id)].setAttribute("aria-pressed", String(on))
  }

  /** @param {HTMLElement} pane */
  function toggle(pane) {
    show(pane, pane.hasAttribute("hidden"))
  }

  /** @param {string} key */
  function paint(key) {
    colour.value = key
    diagram.colourBy(key)
    showLegend()
    live.textContent = colour.selectedOptions[0]?.textContent ?? ""
  }

  /** @param {"light" | "dark"} name */
  function wear(name) {
    root.dataset.theme = name
    try {
      localStorage.setItem("netcompiler-theme", name)
    } catch {
      // a page from a file may have no storage
    }
    diagram.wear(name)
    showLegend()
    inspector.select(diagram.selected)
  }

  /** The details tell of the kinds by themselves. */
  function showLegend() {
    drawLegend(legend, diagram)
    legend.hidden = diagram.colour === "kind" && !details.hasAttribute("hidden")
  }

  function turn() {
    diagram.turn(diagram.direction === "TB" ? "LR" : "TB")
  }

  function foldAll() {
    diagram.foldAll(!diagram.state.closed.size)
  }

  function showFolds() {
    const some = diagram.state.closed.size > 0
    folds.replaceChildren(icon(some ? ICONS.unfold : ICONS.fold))
    folds.title = some ? "Unfold all blocks (e)" : "Fold repeated blocks (e)"
    folds.setAttribute("aria-label", folds.title)
  }

  /** @param {string} kind */
  async function exportAs(kind) {
    menu.open = false
    const name = (net.name || "net").replace(/[^\w.-]+/g, "_")
    try {
      if (kind === "svg") save(svgOf(diagram).text, `${name}.svg`, "image/svg+xml")
      else if (kind === "png") save(await pngOf(diagram), `${name}.png`, "image/png")
      else save(csvOf(net, diagram.layers), `${name}.csv`, "text/csv")
      live.textContent = `Saved ${name}.${kind}`
    } catch (e) {
      live.textContent = `Not saved: ${e instanceof Error ? e.message : e}`
    }
  }

  return { diagram, net }
}

/**
 * @param {string} id
 * @param {string} path
 * @param {string} label
 * @param {() => void} act
 */
function tool(id, path, label, act) {
  return h("button", { type: "button", id, class: "tool", title: label, "aria-label": label, onclick: act }, icon(path))
}

/** @param {Net} net */
function sums(net) {
  const parts = [plural(net.totals.layers, "layer")]
  for (const figure of net.figures) {
    const total = net.totals[figure.key]
    if (["params", "macs"].includes(figure.key) && total !== undefined) parts.push(`${net.totals.unknown ? "≥ " : ""}${short(figure, total)} ${figure.key === "macs" ? "MACs" : "parameters"}`)
  }
  return parts.join(" · ")
}

/** @returns {"light" | "dark" | null} */
function storedTheme() {
  try {
    const found = localStorage.getItem("netcompiler-theme")
    return found === "light" || found === "dark" ? found : null
  } catch {
    return null
  }
}

/** The layer that the address names. */
function asked() {
  try {
    return decodeURIComponent(location.hash.slice(1))
  } catch {
    return "" // no address that this page has made
  }
}

/**
 * @param {Net[]} nets
 * @param {number} at
 * @param {Kept} [kept]
 */
function open(nets, at, kept) {
  Object.assign(window, { netcompiler: start(nets, at, kept) }) // for scripts, and for tests
}

const data = document.getElementById("net")
if (data) {
  open([JSON.parse(data.textContent ?? "null")].flat(), 0)
  performance.mark("drawn")
}
