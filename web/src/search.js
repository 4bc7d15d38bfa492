/** The search field: layers by name, type, or a blob that they make. */

import { h } from "./dom.js"

/** @typedef {import("./diagram.js").Layer} Layer */

const SHOWN = 60

/**
 * The layers that fit, the best first.
 * @param {Layer[]} layers
 * @param {string} text
 * @returns {Layer[]}
 */
export function find(layers, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean)
  if (!words.length) return []
  /** @type {[number, Layer][]} */
  const found = []
  for (const layer of layers) {
    let sum = 0
    for (const word of words) {
      const rank = rankOf(layer, word)
      if (rank === 0) {
        sum = 0
        break
      }
      sum += rank
    }
    if (sum) found.push([sum, layer])
  }
  return found.sort((a, b) => b[0] - a[0] || a[1].index - b[1].index).map(([, layer]) => layer)
}

/**
 * @param {Layer} layer
 * @param {string} word
 * @returns {number} 0: it does not fit
 */
function rankOf({ member }, word) {
  const name = member.name.toLowerCase()
  const type = member.type.toLowerCase()
  if (name === word) return 100
  if (name.startsWith(word)) return 60
  if (type === word) return 50
  if (name.includes(word)) return 40
  if (type.startsWith(word)) return 30
  if (type.includes(word)) return 20
  if (member.tops.some(({ blob }) => blob.toLowerCase().includes(word))) return 10
  return 0
}

export class Search {
  /**
   * @param {Layer[]} layers
   * @param {{go: (layer: number) => void, mark: (layers: number[]) => void, leave: () => void}} then
   */
  constructor(layers, then) {
    this.layers = layers
    this.then = then
    /** @type {Layer[]} */
    this.found = []
    this.active = 0
    this.input = h("input", {
      id: "search",
      type: "search",
      placeholder: "Search layers",
      autocomplete: "off",
      spellcheck: "false",
      role: "combobox",
      "aria-label": "Search layers by name, type or blob",
      "aria-expanded": "false",
      "aria-controls": "found",
      "aria-autocomplete": "list",
      oninput: () => this.look(),
      onfocus: () => this.look(),
      onblur: () => this.close(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.pressed(event),
    })
    this.list = h("ul", { id: "found", role: "listbox", "aria-label": "Layers found", hidden: true })
    this.list.addEventListener("pointerdown", (event) => {
      const item = event.target instanceof Element && event.target.closest("li")
      event.preventDefault() // the field keeps the keyboard
      if (item && item.dataset.at) this.choose(Number(item.dataset.at))
    })
    this.root = h("div", { class: "search" }, this.input, h("kbd", { "aria-hidden": "true" }, "/"), this.list)
  }

  look() {
    this.found = find(this.layers, this.input.value)
    this.active = 0
    this.then.mark(this.found.map((l) => l.index))
    this.draw()
  }

  draw() {
    const typed = this.input.value.trim() !== ""
    const items = this.found.slice(0, SHOWN).map(({ member }, i) =>
      h(
        "li",
        { id: `found-${i}`, role: "option", "data-at": i, "aria-selected": i === this.active ? "true" : "false" },
        h("span", { class: "name" }, member.name || "(no name)"),
        h("span", { class: "type" }, member.type),
      ),
    )
    if (typed && !items.length) items.push(h("li", { class: "none", role: "option", "aria-disabled": "true" }, "No layer fits"))
    if (this.found.length > SHOWN) items.push(h("li", { class: "none", role: "option", "aria-disabled": "true" }, `and ${this.found.length - SHOWN} more`))
    this.list.replaceChildren(...items)
    this.list.hidden = !typed
    this.input.setAttribute("aria-expanded", String(typed))
    if (this.found.length) this.input.setAttribute("aria-activedescendant", `found-${this.active}`)
    else this.input.removeAttribute("aria-activedescendant")
    this.list.children[this.active]?.scrollIntoView?.({ block: "nearest" })
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const last = Math.min(this.found.length, SHOWN) - 1
    if (event.key === "ArrowDown") this.active = Math.min(this.active + 1, last)
    else if (event.key === "ArrowUp") this.active = Math.max(this.active - 1, 0)
    else if (event.key === "Enter") {
      if (this.found.length) this.choose(this.active)
    } else if (event.key === "Escape") {
      if (this.input.value) {
        this.input.value = ""
        this.look()
      } else {
        this.then.leave()
      }
    } else return
    event.preventDefault()
    event.stopPropagation()
    if (event.key.startsWith("Arrow")) this.draw()
  }

  /** @param {number} at */
  choose(at) {
    const { index } = this.found[at]
    this.close()
    this.then.go(index)
  }

  close() {
    this.list.hidden = true
    this.input.setAttribute("aria-expanded", "false")
    this.then.mark([])
  }
}
