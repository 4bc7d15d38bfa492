/** What may stand at a place of a prototxt: fields and values from the schema, layer types, blobs from the text. */

import { autocompletion, insertCompletionText, pickedCompletion, snippet, startCompletion } from "@codemirror/autocomplete"
import { syntaxTree } from "@codemirror/language"
import { h } from "../dom.js"
import { layerAt, layers, messageAt, pathOf, plain, valueOf } from "./outline.js"
import { outlineOf } from "./language.js"

/** @typedef {import("./outline.js").Message} Message */
/** @typedef {import("./outline.js").Value} Value */
/** @typedef {import("@codemirror/autocomplete").Completion} Completion */
/** @typedef {import("@codemirror/autocomplete").CompletionContext} CompletionContext */
/** @typedef {import("@codemirror/autocomplete").CompletionResult} CompletionResult */
/** @typedef {import("@codemirror/view").EditorView} EditorView */

/**
 * What netcompiler/serve/vocabulary.py tells.
 * @typedef {object} Vocabulary
 * @property {Record<string, Record<string, Field>>} messages
 * @property {Record<string, LayerType>} layers
 *
 * @typedef {object} Field
 * @property {boolean} repeated
 * @property {string} [type]         what it holds, in words
 * @property {string} [message]      or the message that it holds
 * @property {string[]} [values]
 * @property {string} [default]
 * @property {string} [doc]
 *
 * @typedef {object} LayerType
 * @property {string} doc
 * @property {string[]} settings     the fields with its settings
 * @property {boolean} needs         whether it cannot do without them
 * @property {[number, number | null]} bottoms
 * @property {[number, number | null]} tops
 */

const FORK = /^(NVCaffe|Intel Caffe)/

/**
 * @param {Vocabulary} vocabulary
 * @param {() => {kind: string, shapes: Map<string, string>}} known   the kind of the text, and the shapes of its blobs
 * @returns {import("@codemirror/state").Extension}
 */
export function completion(vocabulary, known) {
  const source = (/** @type {CompletionContext} */ context) => complete(context, vocabulary, known())
  return autocompletion({ override: [source], icons: false, closeOnBlur: true, maxRenderedOptions: 120 })
}

/**
 * @param {CompletionContext} context
 * @param {Vocabulary} vocabulary
 * @param {{kind: string, shapes: Map<string, string>}} known
 * @returns {CompletionResult | null}
 */
function complete(context, vocabulary, known) {
  const { state, pos } = context
  if (syntaxTree(state).resolveInner(pos, -1).name === "comment") return null
  const root = outlineOf(state)
  const here = messageAt(root, pos)
  const fields = fieldsAt(here, vocabulary, known.kind)
  if (!fields) return null
  const value = here.values.findLast((v) => v.at <= pos && isIn(v, context))
  if (value) return valueOptions(value, own(fields, value.name), here, root, context, vocabulary, known)
  const word = context.matchBefore(/[A-Za-z_]\w*/)
  if (!word && !context.explicit) return null
  return { from: word?.from ?? pos, options: fieldOptions(here, fields, root, vocabulary), validFor: /^\w*$/ }
}

/**
 * What a table has under a word of the text, which may be "constructor" as well.
 * @template T
 * @param {Record<string, T>} table
 * @param {string} word
 * @returns {T | undefined}
 */
function own(table, word) {
  return Object.hasOwn(table, word) ? table[word] : undefined
}

/**
 * Whether the cursor is in a value, or where the value is to be written.
 * @param {Value} value
 * @param {CompletionContext} context
 */
function isIn(value, { state, pos }) {
  if (value.text) return pos <= value.to
  return /^[ \t]*$/.test(state.sliceDoc(value.at, pos))
}

/**
 * The fields of a message; null where the schema does not know it.
 * @param {Message} here
 * @param {Vocabulary} vocabulary
 * @param {string} kind
 */
function fieldsAt(here, vocabulary, kind) {
  let type = kind === "solver" ? "SolverParameter" : "NetParameter"
  for (const name of pathOf(here)) {
    const inner = own(vocabulary.messages[type], name)?.message
    if (!inner) return null
    type = inner
  }
  return vocabulary.messages[type]
}

/**
 * @param {Message} here
 * @param {Record<string, Field>} fields
 * @param {Message} root
 * @param {Vocabulary} vocabulary
 * @returns {Completion[]}
 */
function fieldOptions(here, fields, root, vocabulary) {
  const isLayer = here.name === "layer" && here.parent === root
  const layer = isLayer ? own(vocabulary.layers, valueOf(here, "type")) : undefined
  const present = new Set([...here.values, ...here.messages].map((f) => f.name))
  const options = Object.entries(fields)
    .filter(([name, field]) => field.repeated || !present.has(name))
    .map(([name, field], i) => fieldOption(name, field, (layer ? boostIn(name, layer) : 0) - Math.min(i, 90) / 10))
  if (here === root && fields.layer) options.push(...layerOptions(root, vocabulary))
  return options
}

/**
 * A layer's own settings first, those of other types last.
 * @param {string} name
 * @param {LayerType} layer
 */
function boostIn(name, layer) {
  if (layer.settings.includes(name)) return 50
  return name.endsWith("_param") ? -60 : 0
}

/**
 * @param {string} name
 * @param {Field} field
 * @param {number} boost
 * @returns {Completion}
 */
function fieldOption(name, field, boost) {
  const detail = field.message ? "{ }" : `${field.type}${field.default ? ` = ${field.default}` : ""}`
  return {
    label: name,
    type: field.message ? "class" : "property",
    detail,
    boost: boost + (FORK.test(field.doc ?? "") ? -30 : 0),
    info: () => about(name, field),
    apply: (view, option, from, to) => {
      const written = /^\s*[:{]/.test(view.state.sliceDoc(to, to + 20))
      if (written) put(view, option, name, from, to)
      else if (field.message) snippet(`${name} {\n\t\${}\n}`)(view, option, from, to)
      else if (field.type === "text") snippet(`${name}: "\${}"`)(view, option, from, to)
      else put(view, option, `${name}: `, from, to)
      if (!written && (field.values || field.type !== "whole number")) startCompletion(view)
    },
  }
}

/**
 * @param {EditorView} view
 * @param {Completion} option
 * @param {string} text
 * @param {number} from
 * @param {number} to
 */
function put(view, option, text, from, to) {
  view.dispatch({ ...insertCompletionText(view.state, text, from, to), annotations: pickedCompletion.of(option) })
}

/**
 * @param {string} name
 * @param {Field} field
 */
function about(name, field) {
  const holds = field.message ?? field.type ?? ""
  return h(
    "div",
    { class: "about" },
    h("p", null, h("b", null, name), ` ${field.repeated ? "any number of: " : ""}${holds}`),
    field.doc && h("p", null, field.doc),
    field.values && h("p", null, field.values.join(" · ")),
    field.default && h("p", null, "default ", h("code", null, field.default)),
  )
}

/**
 * Whole layers, to be written at the outermost level.
 * @param {Message} root
 * @param {Vocabulary} vocabulary
 * @returns {Completion[]}
 */
function layerOptions(root, vocabulary) {
  const before = layers(root)
  const blob = before.flatMap((m) => m.values.filter((v) => v.name === "top")).at(-1)
  return Object.entries(vocabulary.layers).map(([kind, layer]) => ({
    label: kind,
    type: "function",
    detail: "layer",
    boost: -5,
    info: () => aboutLayer(kind, layer),
    apply: snippet(layerText(kind, layer, plain(blob?.text ?? ""), before.length)),
  }))
}

/**
 * @param {string} kind
 * @param {LayerType} layer
 * @param {string} blob    the last one so far
 * @param {number} count   layers so far
 */
function layerText(kind, layer, blob, count) {
  const name = `${kind.toLowerCase()}${count + 1}`
  const lines = [`name: "\${1:${name}}"`, `type: "${kind}"`]
  for (let i = 0; i < layer.bottoms[0]; i++) lines.push(`bottom: "\${${i + 2}:${blob || "data"}}"`)
  for (let i = 0; i < layer.tops[0]; i++) lines.push(i ? `top: "\${${i + 12}:label}"` : `top: "\${1:${name}}"`)
  if (layer.needs && layer.settings.length) lines.push(`${layer.settings[0]} {`, "\t${}", "}")
  return ["layer {", ...lines.map((line) => `\t${line}`), "}"].join("\n")
}

/**
 * @param {string} kind
 * @param {LayerType} layer
 */
function aboutLayer(kind, layer) {
  const range = (/** @type {[number, number | null]} */ [least, most]) =>
    least === most ? String(least) : most === null ? `${least} or more` : `${least} to ${most}`
  return h(
    "div",
    { class: "about" },
    h("p", null, h("b", null, kind)),
    h("p", null, layer.doc),
    h("p", null, `bottoms: ${range(layer.bottoms)} · tops: ${range(layer.tops)}`),
    layer.settings.length > 0 && h("p", null, h("code", null, layer.settings.join(", "))),
  )
}

/**
 * @param {Value} value
 * @param {Field | undefined} field
 * @param {Message} here
 * @param {Message} root
 * @param {CompletionContext} context
 * @param {Vocabulary} vocabulary
 * @param {{kind: string, shapes: Map<string, string>}} known
 * @returns {CompletionResult | null}
 */
function valueOptions(value, field, here, root, context, vocabulary, known) {
  if (!field || field.message) return null
  const { state, pos } = context
  const options = valuesOf(value, field, here, root, pos, vocabulary, known)
  if (!options.length) return null
  const quoted = /^["']/.test(value.text)
  const from = value.text ? value.at + (quoted ? 1 : 0) : pos
  if (pos < from) return null
  const rest = /^[\w./-]*/.exec(state.sliceDoc(pos, pos + 200))?.[0] ?? ""
  const end = pos + rest.length
  const shut = quoted && state.sliceDoc(end, end + 1) === value.text[0]
  const isText = field.type === "text"
  const isOne = (/** @type {string} */ text) => options.some(({ label }) => label === text)
  const isAll = (/** @type {string} */ text) => isOne(text) && !options.some(({ label }) => label !== text && label.startsWith(text))
  const written = state.sliceDoc(from, end)
  if (!context.explicit && isAll(written)) return null // or Enter would write it again
  const done = context.explicit && isOne(written) // then all are offered, what is written first
  if (done) options.sort((a, b) => Number(b.label === written) - Number(a.label === written))
  return {
    from,
    to: end,
    ...(done ? { filter: false } : { validFor: (text) => /^[\w./-]*$/.test(text) && !isAll(text) }),
    options: options.map((option) => ({
      ...option,
      apply: (view, completion, start, stop) => {
        const first = quoted ? start - 1 : start
        const last = shut ? stop + 1 : stop
        const gap = /\s/.test(view.state.sliceDoc(first - 1, first)) ? "" : " "
        put(view, completion, gap + (isText ? `"${option.label}"` : option.label), first, last)
      },
    })),
  }
}

/**
 * @param {Value} value
 * @param {Field} field
 * @param {Message} here
 * @param {Message} root
 * @param {number} pos
 * @param {Vocabulary} vocabulary
 * @param {{shapes: Map<string, string>}} known
 * @returns {Completion[]}
 */
function valuesOf(value, field, here, root, pos, vocabulary, known) {
  const layer = layerAt(root, pos)
  if (here.name === "layer" && layer === here) {
    if (value.name === "type") {
      return Object.entries(vocabulary.layers).map(([kind, type]) => ({
        label: kind,
        type: "class",
        detail: type.doc.length > 46 ? `${type.doc.slice(0, 44)}…` : type.doc,
        info: () => aboutLayer(kind, type),
      }))
    }
    if (value.name === "top") return topOptions(here)
  }
  if (layer && value.name === "bottom") return blobOptions(root, layer, known.shapes)
  const values = field.type === "true or false" ? ["true", "false"] : (field.values ?? [])
  return values.map((label) => ({ label, type: "enum", detail: label === field.default ? "default" : "" }))
}

/**
 * The blobs that layers above make, the nearest first.
 * @param {Message} root
 * @param {Message} layer
 * @param {Map<string, string>} shapes
 * @returns {Completion[]}
 */
function blobOptions(root, layer, shapes) {
  /** @type {Map<string, string>} */
  const makers = new Map()
  for (const { name, text } of root.values) if (name === "input") makers.set(plain(text), "input")
  for (const m of layers(root)) {
    if (m.from >= layer.from) break
    for (const { name, text } of m.values) {
      if (name !== "top") continue
      makers.delete(plain(text))
      makers.set(plain(text), valueOf(m, "name"))
    }
  }
  makers.delete("")
  const names = [...makers.keys()].reverse()
  return names.map((label, i) => ({
    label,
    type: "variable",
    detail: shapes.get(label) ?? "",
    boost: Math.max(99 - i, -99),
  }))
}

/**
 * A top has the layer's name, or that of a bottom, for a layer in place.
 * @param {Message} layer
 * @returns {Completion[]}
 */
function topOptions(layer) {
  const name = valueOf(layer, "name")
  const bottoms = layer.values.filter((v) => v.name === "bottom").map((v) => plain(v.text))
  const options = [...new Set([name, ...bottoms].filter(Boolean))]
  return options.map((label) => ({
    label,
    type: "variable",
    detail: bottoms.includes(label) ? "in place" : "the layer's name",
    boost: label === name ? 2 : 1,
  }))
}
