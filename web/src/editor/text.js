/** The text: CodeMirror with what prototxt needs, and nothing of files or servers. */

import { acceptCompletion } from "@codemirror/autocomplete"
import { indentWithTab } from "@codemirror/commands"
import { indentUnit } from "@codemirror/language"
import { Compartment, EditorState, StateField } from "@codemirror/state"
import { Decoration, EditorView, keymap } from "@codemirror/view"
import { basicSetup } from "codemirror"
import { outlineOf, prototxt } from "./language.js"
import { layerAt, layers, messageAt, plain } from "./outline.js"
import { marks } from "./problems.js"

/** @typedef {import("@codemirror/state").ChangeSet} ChangeSet */
/** @typedef {import("@codemirror/state").Extension} Extension */
/** @typedef {import("./outline.js").Message} Message */

const MONO = 'ui-monospace, "SF Mono", "Cascadia Code", "JetBrains Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace'

const look = EditorView.theme({
  "&": { height: "100%", fontSize: "13px", color: "var(--ink)", backgroundColor: "var(--paper)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: MONO, lineHeight: "1.55" },
  ".cm-content": { caretColor: "var(--ink)", padding: "8px 0 40vh" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-gutters": { backgroundColor: "var(--paper)", color: "var(--faint)", border: "none" },
  ".cm-lineNumbers .cm-gutterElement": { padding: "0 6px 0 10px" },
  ".cm-gutter-lint": { width: "14px" },
  ".cm-activeLine": { backgroundColor: "var(--line-here)" },
  ".cm-activeLineGutter": { backgroundColor: "var(--line-here)", color: "var(--ink)" },
  ".cm-here": { boxShadow: "inset 2px 0 var(--accent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--selection)",
  },
  ".cm-selectionMatch": { backgroundColor: "var(--match)" },
  ".cm-matchingBracket, &.cm-focused .cm-matchingBracket": { backgroundColor: "var(--match)", outline: "1px solid var(--rim)" },
  ".cm-foldPlaceholder": { backgroundColor: "var(--panel)", border: "1px solid var(--rim)", color: "var(--quiet)", padding: "0 6px" },
})

/** The lines of the layer that the cursor is in. */
const layerLines = StateField.define({
  create: around,
  update: (lines, transaction) => (transaction.docChanged || transaction.selection ? around(transaction.state) : lines),
  provide: (field) => EditorView.decorations.from(field),
})

/** @param {EditorState} state */
function around(state) {
  const layer = layerAt(outlineOf(state), state.selection.main.head)
  if (!layer) return Decoration.none
  const ranges = []
  for (let line = state.doc.lineAt(layer.from); ; line = state.doc.line(line.number + 1)) {
    ranges.push(Decoration.line({ class: "cm-here" }).range(line.from))
    if (line.to >= layer.to || line.number === state.doc.lines) break
  }
  return Decoration.set(ranges)
}

export class TextPane {
  /**
   * @param {HTMLElement} parent
   * @param {Extension} completion
   * @param {{changed: (changes: ChangeSet) => void, moved: () => void}} tell
   */
  constructor(parent, completion, tell) {
    this.dark = new Compartment()
    this.isDark = false
    /** @type {Extension[]} */
    this.extensions = [
      keymap.of([{ key: "Tab", run: acceptCompletion }, indentWithTab, { key: "F12", run: () => this.toMaker() }]),
      basicSetup,
      prototxt(),
      completion,
      marks,
      layerLines,
      look,
      indentUnit.of("  "),
      EditorState.tabSize.of(2),
      EditorView.contentAttributes.of({ "aria-label": "The net's prototxt", spellcheck: "false", autocapitalize: "off" }),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) tell.changed(update.changes)
        if (update.docChanged || update.selectionSet) tell.moved()
      }),
    ]
    const nonce = document.querySelector('meta[name="nonce"]')?.getAttribute("content")
    if (nonce) this.extensions.push(EditorView.cspNonce.of(nonce))
    this.view = new EditorView({ parent, state: this.fresh("") })
  }

  /** @param {string} text */
  fresh(text) {
    return EditorState.create({ doc: text, extensions: [...this.extensions, this.dark.of(EditorView.darkTheme.of(this.isDark))] })
  }

  get doc() {
    return this.view.state.doc
  }

  /**
   * Another text, without a way back.
   * @param {string} text
   */
  load(text) {
    this.view.setState(this.fresh(text))
  }

  /**
   * The same text in a newer form: only what differs is changed, so that the cursor and the way back stay.
   * @param {string} text
   */
  become(text) {
    const old = this.doc.toString()
    let from = 0
    while (from < old.length && from < text.length && old[from] === text[from]) from++
    let end = 0
    while (end < old.length - from && end < text.length - from && old[old.length - 1 - end] === text[text.length - 1 - end]) end++
    const changes = { from, to: old.length - end, insert: text.slice(from, text.length - end) }
    this.view.dispatch({ changes, userEvent: "input.reload" })
  }

  /** @param {boolean} dark */
  wear(dark) {
    this.isDark = dark
    this.view.dispatch({ effects: this.dark.reconfigure(EditorView.darkTheme.of(dark)) })
  }

  /**
   * The layer that the cursor is in.
   * @returns {Message | null}
   */
  layer() {
    return layerAt(outlineOf(this.view.state), this.view.state.selection.main.head)
  }

  /**
   * @param {number} at
   * @param {{focus?: boolean}} [how]
   */
  goTo(at, { focus = true } = {}) {
    const to = Math.min(at, this.doc.length)
    const rect = this.view.coordsAtPos(to)
    const box = this.view.scrollDOM.getBoundingClientRect()
    const seen = rect !== null && rect.top > box.top + 20 && rect.bottom < box.bottom - 60
    const effects = seen ? [] : EditorView.scrollIntoView(to, { y: "start", yMargin: 80 })
    this.view.dispatch({ selection: { anchor: to }, effects, userEvent: "select" })
    if (focus) this.view.focus()
  }

  /** From a layer's bottom to the layer that makes it. */
  toMaker() {
    const { state } = this.view
    const root = outlineOf(state)
    const at = state.selection.main.head
    const value = messageAt(root, at).values.find((v) => v.from <= at && at <= v.to)
    const layer = layerAt(root, at)
    if (!layer || value?.name !== "bottom") return false
    const isMaker = (/** @type {Message} */ m) => m.values.some((v) => v.name === "top" && plain(v.text) === plain(value.text))
    const maker = layers(root).findLast((m) => m.from < layer.from && isMaker(m))
    if (!maker) return false
    this.goTo(maker.from)
    return true
  }
}
