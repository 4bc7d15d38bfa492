/** Two texts side by side, to choose between. */

import { EditorState } from "@codemirror/state"
import { EditorView, lineNumbers } from "@codemirror/view"
import { MergeView } from "@codemirror/merge"
import { h } from "../dom.js"
import { prototxt } from "./language.js"

/**
 * @param {string} theirs
 * @param {string} mine
 * @returns {{root: HTMLElement, destroy: () => void}}
 */
export function compare(theirs, mine) {
  const root = h("div", { class: "compare", tabindex: 0, role: "group", "aria-label": "Both texts" })
  const nonce = document.querySelector('meta[name="nonce"]')?.getAttribute("content") ?? ""
  const side = (/** @type {string} */ label) => [
    prototxt(),
    lineNumbers(),
    EditorState.readOnly.of(true),
    EditorView.cspNonce.of(nonce),
    EditorView.contentAttributes.of({ "aria-label": label }),
  ]
  const merge = new MergeView({
    a: { doc: theirs, extensions: side("In the file") },
    b: { doc: mine, extensions: side("In this editor") },
    parent: root,
    collapseUnchanged: { margin: 3, minSize: 6 },
  })
  return { root, destroy: () => merge.destroy() }
}
