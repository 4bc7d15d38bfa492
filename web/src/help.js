/** The sheet of keys. */

import { h } from "./dom.js"

const KEYS = [
  ["The diagram", [
    ["← ↑ ↓ →", "follow the edges, or go to what stands beside"],
    ["Shift ↑ ↓", "the layers stacked in one box"],
    ["Home  End", "first and last box"],
    ["u", "fold or unfold the repeated block here"],
    ["[  ]", "the block's previous or next copy"],
    ["Wheel, drag", "move"],
    ["Ctrl wheel, pinch", "zoom"],
  ]],
  ["The page", [
    ["/", "search; Enter jumps to a layer"],
    ["f", "see all of the net"],
    ["+  −  0", "zoom in, out, to life size"],
    ["c", "colour by the next figure"],
    ["e", "unfold all blocks, or fold them all"],
    ["r", "turn: top to bottom, left to right"],
    ["s  t  i", "show or hide source, table, details"],
    ["d", "light or dark"],
    ["p", "the net in its other phase"],
    ["Esc", "leave, deselect"],
    ["?", "this sheet"],
  ]],
]

/**
 * @param {boolean} phases   whether the page has the net in several
 * @returns {HTMLDialogElement}
 */
export function helpSheet(phases) {
  const dialog = h(
    "dialog",
    { class: "help", "aria-labelledby": "help-title" },
    h("h2", { id: "help-title" }, "Keys"),
    h(
      "div",
      { class: "columns" },
      KEYS.map(([title, keys]) =>
        h(
          "section",
          null,
          h("h3", null, /** @type {string} */ (title)),
          h("dl", null, /** @type {string[][]} */ (keys).filter(([key]) => phases || key !== "p").map(([key, what]) => [h("dt", null, h("kbd", null, key)), h("dd", null, what)]).flat()),
        ),
      ),
    ),
    h("form", { method: "dialog" }, h("button", { type: "submit" }, "Close")),
  )
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close()
  })
  return dialog
}
