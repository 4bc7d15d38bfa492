/** Menus, dialogs, notices and a splitter: the parts of a page that are not about nets. */

import { h } from "../dom.js"

/**
 * @typedef {object} Choice
 * @property {string} label
 * @property {string} [note]
 * @property {() => void} act
 */

/**
 * Give a button a menu, opened by a press or an arrow key.
 * @param {HTMLButtonElement} button
 * @param {() => (Choice | string)[]} choices    a text is a heading
 */
export function menu(button, choices) {
  const list = h("div", { class: "popup", role: "menu", popover: "auto", "aria-label": button.textContent })
  button.setAttribute("aria-haspopup", "menu")
  button.setAttribute("aria-expanded", "false")
  button.popoverTargetElement = list
  button.after(list)
  const items = () => /** @type {HTMLElement[]} */ ([...list.querySelectorAll("[role=menuitem]")])

  list.addEventListener("beforetoggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "open") return
    list.replaceChildren(
      ...choices().map((choice) =>
        typeof choice === "string"
          ? h("div", { class: "heading", role: "presentation" }, choice)
          : h(
              "button",
              {
                role: "menuitem",
                type: "button",
                tabindex: -1,
                onclick: () => {
                  list.hidePopover()
                  choice.act()
                },
              },
              h("span", null, choice.label),
              choice.note && h("small", null, choice.note),
            ),
      ),
    )
    const at = button.getBoundingClientRect()
    list.style.top = `${at.bottom + 4}px`
    list.style.left = `${Math.max(8, Math.min(at.left, innerWidth - 300))}px`
  })
  list.addEventListener("toggle", (event) => {
    const isOpen = /** @type {ToggleEvent} */ (event).newState === "open"
    button.setAttribute("aria-expanded", String(isOpen))
    if (isOpen) items()[0]?.focus()
  })
  button.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown") return
    event.preventDefault()
    list.showPopover()
  })
  list.addEventListener("keydown", (event) => {
    const all = items()
    const here = all.indexOf(/** @type {HTMLElement} */ (document.activeElement))
    const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: all.length - 1 }[event.key]
    if (event.key === "Tab") list.hidePopover()
    if (to === undefined) return
    event.preventDefault()
    all[(to + all.length) % all.length]?.focus()
  })
}

/**
 * Ask something in a dialog. Its buttons are the answers; the first one is the default, Escape is null.
 * @param {string} title
 * @param {(Node | string | null)[]} content
 * @param {{label: string, value: string, plain?: boolean}[]} buttons
 * @param {{wide?: boolean, focus?: HTMLElement, check?: () => string}} [how]   focus: where the keyboard starts, or else at
 *   the default;  check: why the default answer cannot be given
 * @returns {Promise<string | null>}
 */
export function ask(title, content, buttons, { wide = false, focus, check } = {}) {
  return new Promise((resolve) => {
    const wrong = h("p", { class: "wrong", role: "alert" })
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "dialog-title" }, title),
      ...content.filter((part) => part !== null),
      wrong,
      h(
        "div",
        { class: "buttons" },
        buttons.map(({ label, value, plain }, i) => h("button", { value, class: i ? (plain ? "plain" : "") : "main" }, label)),
      ),
    )
    const dialog = h("dialog", { "aria-labelledby": "dialog-title", class: wide ? "wide" : "" }, form)
    form.addEventListener("submit", (event) => {
      const value = /** @type {HTMLButtonElement | null} */ (event.submitter)?.value ?? buttons[0].value
      const why = value === buttons[0].value && check ? check() : ""
      wrong.textContent = why
      if (why) event.preventDefault()
    })
    dialog.addEventListener("close", () => {
      dialog.remove()
      resolve(dialog.returnValue || null)
    })
    document.body.append(dialog)
    dialog.showModal()
    const start = focus ?? form.querySelector("button.main")
    if (start instanceof HTMLElement) start.focus()
  })
}

const notices = h("div", { class: "notices", role: "status", "aria-live": "polite" })

/**
 * Tell something in passing.
 * @param {string} text
 * @param {{bad?: boolean}} [how]
 */
export function notice(text, { bad = false } = {}) {
  if (!notices.isConnected) document.body.append(notices)
  const shown = h("div", { class: bad ? "notice bad" : "notice" }, text)
  notices.append(shown)
  setTimeout(() => shown.remove(), bad ? 9000 : 3500)
}

/**
 * Make a separator drag the border between two panes, by pointer or arrow keys. `share` is the first one's, in percent.
 * @param {HTMLElement} bar
 * @param {HTMLElement} around
 * @param {(share: number) => void} set
 * @param {() => boolean} upright   whether the panes stand side by side
 */
export function splitter(bar, around, set, upright) {
  let share = 46
  const move = (/** @type {number} */ to) => {
    share = Math.min(Math.max(to, 15), 85)
    bar.setAttribute("aria-valuenow", String(Math.round(share)))
    set(share)
  }
  bar.addEventListener("pointerdown", (event) => {
    bar.setPointerCapture(event.pointerId)
    event.preventDefault()
  })
  bar.addEventListener("pointermove", (event) => {
    if (!bar.hasPointerCapture(event.pointerId)) return
    const at = around.getBoundingClientRect()
    move(upright() ? (100 * (event.clientX - at.left)) / at.width : (100 * (event.clientY - at.top)) / at.height)
  })
  bar.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -2, ArrowUp: -2, ArrowRight: 2, ArrowDown: 2 }[event.key]
    if (!step) return
    event.preventDefault()
    move(share + step)
  })
  bar.addEventListener("dblclick", () => move(46))
  move(share)
}

/**
 * Hand a file to the user.
 * @param {string} name
 * @param {string | Blob} content
 * @param {string} type
 */
export function download(name, content, type) {
  const address = URL.createObjectURL(new Blob([content], { type }))
  h("a", { href: address, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(address), 10_000)
}

/**
 * What the browser keeps for us; null where it keeps nothing, or may not.
 * @param {"localStorage" | "sessionStorage"} where
 * @param {string} key
 * @returns {string | null}
 */
export function kept(where, key) {
  try {
    return window[where].getItem(key)
  } catch {
    return null
  }
}

/**
 * @param {"localStorage" | "sessionStorage"} where
 * @param {string} key
 * @param {string} value
 */
export function keep(where, key, value) {
  try {
    window[where].setItem(key, value)
  } catch {
    // then the next visit starts afresh
  }
}
