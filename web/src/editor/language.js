/** Prototxt for CodeMirror: colours, brackets, folding, indentation. */

import { HighlightStyle, StreamLanguage, foldService, indentService, syntaxHighlighting } from "@codemirror/language"
import { StateField } from "@codemirror/state"
import { tags } from "@lezer/highlight"
import { messageAt, outline } from "./outline.js"

/** @typedef {import("./outline.js").Message} Message */
/** @typedef {import("@codemirror/state").EditorState} EditorState */

const STRING = /^("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)/
const NUMBER = /^[-+]?\.?\d[\w.+-]*/
const WORD = /^[A-Za-z_]\w*/

const language = StreamLanguage.define({
  name: "prototxt",
  token(stream) {
    if (stream.eatSpace()) return null
    if (stream.match("#")) {
      stream.skipToEnd()
      return "comment"
    }
    if (stream.match(STRING)) return "string"
    if (stream.match(NUMBER)) return "number"
    if (stream.match(WORD)) {
      if (stream.match(/^\s*:?\s*[{<]/, false)) return /^layers?$/.test(stream.current()) ? "keyword" : "typeName"
      if (stream.match(/^\s*:/, false)) return "propertyName"
      return /^(true|false|inf|nan)$/i.test(stream.current()) ? "bool" : "atom"
    }
    return /[{}[\]<>]/.test(stream.next() ?? "") ? "bracket" : "punctuation"
  },
  languageData: {
    commentTokens: { line: "#" },
    closeBrackets: { brackets: ["{", "[", '"', "'"] },
    indentOnInput: /^\s*[}>\]]$/,
  },
})

// The colours themselves are in editor.css, as variables of its light and its dark side.
const colours = HighlightStyle.define([
  { tag: tags.keyword, class: "tok-layer" },
  { tag: tags.typeName, class: "tok-message" },
  { tag: tags.propertyName, class: "tok-field" },
  { tag: tags.string, class: "tok-string" },
  { tag: tags.number, class: "tok-number" },
  { tag: [tags.bool, tags.atom], class: "tok-enum" },
  { tag: tags.comment, class: "tok-comment" },
  { tag: [tags.bracket, tags.punctuation], class: "tok-mark" },
])

/** The outline of a text, made when it is first asked for. */
class Lazy {
  /** @param {import("@codemirror/state").Text} doc */
  constructor(doc) {
    this.doc = doc
    /** @type {Message | null} */
    this.known = null
  }

  get root() {
    this.known ??= outline(this.doc.toString())
    return this.known
  }
}

const outlines = StateField.define({
  create: (state) => new Lazy(state.doc),
  update: (lazy, transaction) => (transaction.docChanged ? new Lazy(transaction.newDoc) : lazy),
})

/**
 * @param {EditorState} state
 * @returns {Message}
 */
export function outlineOf(state) {
  return state.field(outlines).root
}

/**
 * The inside of the outermost message that opens on a line and ends below it.
 * @param {EditorState} state
 * @param {number} from
 * @param {number} to
 */
function foldOn(state, from, to) {
  let here = outlineOf(state)
  for (;;) {
    const opens = here.messages.find((m) => m.open > from && m.open <= to && m.close > to && m.closed)
    if (opens) return { from: opens.open, to: opens.close }
    const around = here.messages.find((m) => m.open <= from && from <= m.close)
    if (!around) return null
    here = around
  }
}

/**
 * @param {import("@codemirror/language").IndentContext} context
 * @param {number} at
 */
function indentAt(context, at) {
  let depth = 0
  for (let m = messageAt(outlineOf(context.state), at); m.parent; m = m.parent) depth++
  if (/^\s*[}>]/.test(context.textAfterPos(at))) depth--
  return Math.max(depth, 0) * context.unit
}

/** @returns {import("@codemirror/state").Extension} */
export function prototxt() {
  return [language, outlines, syntaxHighlighting(colours), foldService.of(foldOn), indentService.of(indentAt)]
}
