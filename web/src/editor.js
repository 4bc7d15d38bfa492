/** The editor: a prototxt on the left, what it means on the right. Its server is netcompiler/serve. */

import { redo, undo } from "@codemirror/commands"
import { nextDiagnostic, previousDiagnostic } from "@codemirror/lint"
import { openSearchPanel } from "@codemirror/search"
import { h, ICONS } from "./dom.js"
import { dims } from "./format.js"
import { Api, Fault } from "./editor/api.js"
import { completion } from "./editor/complete.js"
import { Files } from "./editor/files.js"
import { Follower } from "./editor/follow.js"
import { outlineOf } from "./editor/language.js"
import { NetView, tool } from "./editor/netview.js"
import { layers as layersOf, valueOf } from "./editor/outline.js"
import { ProblemList, mark, placed } from "./editor/problems.js"
import { TextPane } from "./editor/text.js"
import { ask, download, keep, kept, menu, notice, splitter } from "./editor/ui.js"

/** @typedef {import("./types.js").Net} Net */
/** @typedef {import("./editor/follow.js").Answer} Answer */
/** @typedef {import("./editor/problems.js").Problem} Problem */
/** @typedef {import("./editor/outline.js").Message} Message */

const KEYS = [
  ["Ctrl S", "save"],
  ["Ctrl Shift S", "save under another name"],
  ["Ctrl O", "open a file of the folder"],
  ["Ctrl Space", "what may stand here"],
  ["Ctrl F", "find and replace"],
  ["Ctrl Z, Ctrl Y", "undo, redo"],
  ["Ctrl /", "comment lines in or out"],
  ["F8, Shift F8", "next, previous problem"],
  ["F12", "from a bottom to the layer that makes it"],
  ["F6", "from pane to pane"],
  ["Alt ↑, Alt ↓", "move lines"],
  ["Esc, then Tab", "leave the text with the keyboard"],
]

/**
 * @param {Api} api
 * @param {any} begin   what Editor.start of the server tells
 */
function start(api, begin) {
  const root = document.documentElement
  const stored = kept("localStorage", "netcompiler-theme")
  const dark = stored ? stored === "dark" : matchMedia("(prefers-color-scheme: dark)").matches
  root.dataset.theme = dark ? "dark" : "light"

  /** @type {Map<string, string>} */
  const shapes = new Map()
  let kind = "net"
  /** @type {number[]} where the layers of the diagram stand in the text, by their index */
  let starts = []
  let fresh = true
  /** @type {import("./editor/follow.js").State} */
  const state = { phase: begin.state.phase, inputs: begin.state.inputs }

  // The page.

  const name = h("span", { class: "file-name" })
  const dot = h("span", { class: "dirty", title: "Unsaved changes", hidden: true }, "●")
  const banner = h("div", { class: "banner", role: "alert", hidden: true })
  const textBox = h("div", { class: "text" })
  const problems = new ProblemList((at) => text.goTo(at), askShapes)
  const place = h("span", { class: "place" })
  const given = h("span", { class: "given" })
  const health = h("span", { class: "health", role: "status" })
  const left = h("section", { class: "left", "aria-label": "Text" }, banner, textBox, problems.list, h("footer", { class: "status" }, problems.button, given, health, place, problems.spoken))
  const bar = h("div", { class: "splitter", role: "separator", tabindex: 0, "aria-label": "Width of the text", "aria-orientation": "vertical", "aria-valuemin": 15, "aria-valuemax": 85 })
  const right = h("section", { class: "right", "aria-label": "Diagram and figures" })
  const panes = h("main", { class: "panes" }, left, bar, right)
  const button = (/** @type {string} */ label, /** @type {(() => void) | null} */ act, title = label) =>
    h("button", { type: "button", class: "word", title, onclick: act ?? undefined }, label)
  const openButton = begin.only ? null : button("Open", () => void files.choose(), "Open a file of the folder (Ctrl O)")
  const presets = button("Presets", null, "Start from a published net")
  const share = button("Share", null, "Hand out as a file")
  const saveButton = button("Save", () => void files.save(), "Save (Ctrl S)")
  const phases = h(
    "fieldset",
    { class: "phases" },
    h("legend", { class: "unseen" }, "Phase"),
    ["TEST", "TRAIN"].map((phase) =>
      h("label", null, h("input", { type: "radio", name: "phase", value: phase, checked: phase === state.phase, onchange: () => turn(phase) }), h("span", null, phase)),
    ),
  )
  const top = h(
    "header",
    { class: "top" },
    h("div", { class: "title" }, h("h1", null, name, dot)),
    h("div", { class: "tools", role: "toolbar", "aria-label": "File" }, openButton, presets, saveButton, share),
    phases,
    h("div", { class: "tools" }, tool(ICONS.theme, "Light or dark", () => wear(root.dataset.theme !== "dark")), tool(ICONS.help, "Keys", help)),
  )
  document.body.replaceChildren(top, panes)

  const text = new TextPane(textBox, completion(begin.vocabulary, () => ({ kind, shapes })), {
    changed: (changes) => {
      starts = starts.map((at) => changes.mapPos(at))
      follower.changed(changes)
      showFile()
    },
    moved: () => {
      showPlace()
      clearTimeout(syncing)
      syncing = setTimeout(sync, 60)
    },
  })
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let syncing
  const files = new Files(api, text, begin, { opened, changed: showFile })
  const view = new NetView(right, dark ? "dark" : "light", {
    select: (layer) => {
      const at = placeOf(layer.index)
      if (at >= 0) text.goTo(at, { focus: false })
    },
    goToLine: (line) => text.goTo(text.doc.line(Math.min(line, text.doc.lines)).from),
  })
  const follower = new Follower(api, text.view, state, answered, lost)

  splitter(bar, panes, (share) => panes.style.setProperty("--share", `${share}%`), () => getComputedStyle(bar).cursor === "col-resize")
  menu(presets, () => [
    "Published nets",
    ...begin.presets.map((/** @type {string} */ preset) => ({ label: preset.replace(/\.prototxt$/, ""), act: () => void files.preset(preset) })),
    "Or",
    { label: "Empty text", act: () => void files.blank() },
  ])
  menu(share, () => [
    "Download",
    { label: "Prototxt", note: "the text as it is", act: () => download(files.title, text.doc.toString(), "text/plain") },
    { label: "Prototxt in today's form", note: "upgraded, without comments", act: () => void handOut("prototxt") },
    { label: "Page", note: "one HTML file, for any browser", act: () => void handOut("html") },
    { label: "Picture, SVG", act: () => void handOut("svg") },
    { label: "Picture, PNG", act: () => void handOut("png") },
    { label: "Figures, CSV", act: () => void handOut("csv") },
  ])

  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return
    const key = event.key.toLowerCase()
    if (key === "f6") [text.view.hasFocus ? () => view.focus() : () => text.view.focus()][0]()
    else if ((event.ctrlKey || event.metaKey) && !event.altKey && key === "s") void (event.shiftKey ? files.saveAs() : files.save())
    else if ((event.ctrlKey || event.metaKey) && !event.altKey && key === "o" && !begin.only) void files.choose()
    else if ((event.ctrlKey || event.metaKey) && !event.altKey && key === "f" && !text.view.hasFocus) {
      text.view.focus()
      openSearchPanel(text.view)
    } else if (key === "f8" && !text.view.hasFocus) (event.shiftKey ? previousDiagnostic : nextDiagnostic)(text.view)
    else return
    event.preventDefault()
  })

  // What happens.

  function opened() {
    fresh = true
    starts = []
    problems.show([])
    follower.restart()
    showFile()
    showPlace()
    text.view.focus()
  }

  /**
   * @param {Answer} answer
   * @param {import("@codemirror/state").Text} doc
   * @param {(at: number) => number} moved
   */
  function answered(answer, doc, moved) {
    kind = answer.kind
    const found = placed(answer.problems, doc, moved)
    mark(text.view, found, askShapes)
    problems.show(found)
    const broken = !answer.readable || answer.net === null
    if (answer.net && (answer.readable || !view.net || fresh)) {
      answer.net.text = doc.toString()
      view.show(answer.net, welcome(), { fresh })
      fresh = false
      starts = view.layers.map(({ member }) => (member.lines ? moved(doc.line(Math.min(member.lines[0], doc.lines)).from) : -1))
      shapes.clear()
      for (const { member } of view.layers) for (const top of member.tops) shapes.set(top.blob, dims(top.shape))
      sync()
    } else if (answer.net === null && (kind === "solver" || fresh)) {
      const why = kind === "solver" ? "These are a solver's settings: there is no net to draw." : "There is no net to draw yet: see the problems below the text."
      view.show(null, [h("p", null, why)])
    }
    const first = answer.problems.find((p) => p.severity === "error")
    view.keep(broken && view.net ? `As it was before the fault${first?.line ? ` in line ${first.line}` : ""}` : "")
    document.body.dataset.answered = String(Number(document.body.dataset.answered ?? 0) + 1)
  }

  /** Where to begin. */
  function welcome() {
    const links = (/** @type {string} */ title, /** @type {string[]} */ names, /** @type {(name: string) => void} */ act) =>
      names.length > 0 &&
      h("div", null, h("p", null, title), h("ul", null, names.map((one) => h("li", null, h("button", { type: "button", class: "link", onclick: () => act(one) }, one)))))
    const own = begin.only ? [] : begin.files.slice(0, 10)
    return [
      h("p", null, "There is no layer yet. Type ", h("code", null, "layer"), ", or the type of one."),
      links("Open a file of this folder", own, (one) => void files.open(one)),
      links("Start from a published net", begin.presets, (one) => void files.preset(one)),
    ].filter((part) => part !== false)
  }

  /** @param {Fault | null} fault */
  function lost(fault) {
    health.textContent = fault ? `${fault.message}. Your text is still here: Share hands it to you.` : ""
    document.body.classList.toggle("is-lost", fault !== null)
  }

  /** Select in the diagram what the cursor is in. */
  function sync() {
    const layer = text.layer()
    const line = text.doc.lineAt(text.view.state.selection.main.head)
    const here = starts.findIndex((at) => line.from <= at && at <= line.to) // such as an old net's input
    view.select(layer ? indexOf(layer) : here < 0 ? null : here)
  }

  /**
   * The layer of the diagram that a piece of text is; null when it is none.
   * @param {Message} layer
   */
  function indexOf(layer) {
    const { doc } = text
    const from = doc.lineAt(layer.from).from
    const found = starts.flatMap((at, i) => (from <= at && at <= layer.to ? [i] : []))
    const called = nameOf(layer)
    return found.find((i) => view.layers[i]?.member.name === called) ?? found[0] ?? null
  }

  /**
   * Where a layer of the diagram stands in the text; -1 when it is not there.
   * @param {number} index
   */
  function placeOf(index) {
    const at = starts[index] ?? -1
    if (at < 0) return -1
    const line = text.doc.lineAt(Math.min(at, text.doc.length))
    const near = layersOf(outlineOf(text.view.state)).filter((m) => line.from <= m.from && m.from <= line.to)
    return (near.find((m) => nameOf(m) === view.layers[index].member.name) ?? near[0])?.from ?? at
  }

  /** @param {Message} layer */
  function nameOf(layer) {
    const old = layer.messages.find((m) => m.name === "layer")
    return valueOf(layer, "name") || valueOf(old, "name")
  }

  function showFile() {
    const { dirty, other, path } = files
    name.textContent = files.title
    name.title = path === null ? "not saved in a file" : `${begin.folder}/${path}`
    dot.hidden = !dirty
    saveButton.disabled = !dirty && path !== null && other === null
    document.title = `${dirty ? "● " : ""}${files.title}`
    banner.hidden = other === null
    if (other === null) return
    banner.replaceChildren(
      h("span", null, other === "gone" ? "Another program has deleted this file." : "Another program has changed this file, and so have you."),
      h("button", { type: "button", onclick: () => void files.settleOther() }, other === "gone" ? "Settle…" : "Compare…"),
    )
  }

  function showPlace() {
    const { main, ranges } = text.view.state.selection
    const line = text.doc.lineAt(main.head)
    const chosen = ranges.reduce((sum, r) => sum + r.to - r.from, 0)
    place.textContent = `Line ${line.number}, column ${main.head - line.from + 1}${chosen ? ` (${chosen} selected)` : ""}`
  }

  /** @param {string} phase */
  function turn(phase) {
    state.phase = /** @type {"TRAIN" | "TEST"} */ (phase)
    follower.soon(0)
  }

  /** @param {boolean} on */
  function wear(on) {
    root.dataset.theme = on ? "dark" : "light"
    keep("localStorage", "netcompiler-theme", on ? "dark" : "light")
    text.wear(on)
    view.wear(on ? "dark" : "light")
  }

  /**
   * Fields for the shapes of inputs that the net does not tell.
   * @param {Problem} problem
   */
  function askShapes(problem) {
    if (!problem.asks?.length) return null
    const [blob] = problem.asks
    const field = h("input", { type: "text", placeholder: "1,3,224,224", "aria-label": `Shape of ${blob}`, spellcheck: "false", size: 16 })
    return h(
      "form",
      {
        class: "shape-form",
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault()
          const shape = field.value.split(/[\s,x×]+/).filter(Boolean).map(Number)
          if (shape.length && shape.every((d) => Number.isInteger(d) && d > 0)) give(blob, shape)
          else notice("A shape is whole numbers with commas between, such as 1,3,224,224", { bad: true })
        },
      },
      h("label", null, `${blob}: `, field),
      h("button", { type: "submit" }, "Use"),
    )
  }

  /**
   * @param {string} blob
   * @param {number[] | null} shape
   */
  function give(blob, shape) {
    const { [blob]: _, ...others } = state.inputs
    state.inputs = shape ? { ...others, [blob]: shape } : others
    showGiven()
    follower.soon(0)
  }

  function showGiven() {
    given.replaceChildren(
      ...Object.entries(state.inputs).map(([blob, shape]) =>
        h("button", { type: "button", class: "chip", title: `Take the given shape of ${blob} away`, onclick: () => give(blob, null) }, `${blob}: ${dims(shape)}`, h("span", { "aria-hidden": "true" }, " ✕")),
      ),
    )
  }

  /** @param {"prototxt" | "html" | "svg" | "png" | "csv"} what */
  async function handOut(what) {
    const base = files.title.replace(/^.*\//, "").replace(/\.\w+$/, "") || "net"
    try {
      if (what === "prototxt" || what === "html") {
        const file = await api.post("share", { kind: what, text: text.doc.toString(), title: files.title, ...state })
        download(what === "html" ? `${base}.html` : `${base}-upgraded.prototxt`, file.text, what === "html" ? "text/html" : "text/plain")
        return
      }
      const file = await view.file(what)
      if (file === null) notice("There is no diagram to hand out yet", { bad: true })
      else download(`${base}.${what}`, file, { svg: "image/svg+xml", png: "image/png", csv: "text/csv" }[what])
    } catch (error) {
      notice(error instanceof Error ? error.message : String(error), { bad: true })
    }
  }

  function help() {
    const mac = /Mac|iPhone|iPad/.test(navigator.platform)
    const keys = KEYS.flatMap(([key, what]) => [h("dt", null, h("kbd", null, mac ? key.replaceAll("Ctrl", "⌘") : key)), h("dd", null, what)])
    void ask("Keys", [h("dl", { class: "keys" }, keys), h("p", { class: "quiet" }, `netcompiler ${begin.version}, ${begin.folder}`)], [{ label: "Close", value: "" }])
  }

  text.wear(dark)
  showGiven()
  if (begin.only) void files.open(begin.only)
  else files.take(null, "untitled.prototxt", { text: "", version: "" })
  Object.assign(window, { netcompiler: { text, files, view, follower, undo, redo } }) // for scripts, and for tests
}

/** @param {unknown} error */
function failed(error) {
  const unknown = error instanceof Fault && error.status === 401
  document.body.replaceChildren(
    h(
      "main",
      { class: "failed" },
      h("h1", null, unknown ? "This page needs its address" : "The editor cannot start"),
      h("p", null, unknown ? "Open the whole address that netcompile serve has printed, with the part behind #." : String(error instanceof Error ? error.message : error)),
    ),
  )
}

Api.enter()
  .then(async (api) => start(api, await api.get("start")))
  .catch(failed)
