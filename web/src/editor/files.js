/** What file the text is of: opened, saved, watched. Nobody's work is lost without a question. */

import { Fault } from "./api.js"
import { compare } from "./compare.js"
import { h } from "../dom.js"
import { ask, download, notice } from "./ui.js"

/** @typedef {import("./api.js").Api} Api */
/** @typedef {import("./text.js").TextPane} TextPane */
/** @typedef {{text: string, version: string, note?: string}} Content */

const AGAIN = 2000 // milliseconds

export class Files {
  /**
   * @param {Api} api
   * @param {TextPane} text
   * @param {{only: string | null, files: string[], more: boolean}} folder   only: the one file that may be edited
   * @param {{opened: () => void, changed: () => void}} tell   opened: there is another text;  changed: what is told of it
   */
  constructor(api, text, { only, files, more }, tell) {
    this.api = api
    this.text = text
    this.only = only
    this.listed = { files, more }
    this.tell = tell
    /** @type {string | null} where the text is saved */
    this.path = null
    this.title = "untitled.prototxt"
    /** @type {string | null} of the file, as it was read or written last */
    this.version = null
    this.saved = text.doc
    /** @type {Content | "gone" | null} what another program has made of the file */
    this.other = null
    this.saving = false
    this.watching = new AbortController()
    document.addEventListener("visibilitychange", () => this.watch())
    addEventListener("beforeunload", (event) => {
      if (this.dirty) event.preventDefault()
    })
  }

  get dirty() {
    return !this.text.doc.eq(this.saved)
  }

  /**
   * @param {string | null} path
   * @param {string} title
   * @param {Content} content
   */
  take(path, title, { text, version, note }) {
    this.path = path
    this.title = title
    this.version = version || null
    this.other = null
    this.text.load(text)
    this.saved = this.text.doc
    if (note) notice(note)
    this.tell.opened()
    this.watch()
  }

  /**
   * Whether the text may be put away: it is saved, or the user says so.
   * @returns {Promise<boolean>}
   */
  async mayLeave() {
    if (!this.dirty) return true
    const answer = await ask(
      `Save the changes to ${this.title}?`,
      [h("p", null, "They are lost otherwise.")],
      [
        { label: "Save", value: "save" },
        { label: "Discard", value: "discard" },
        { label: "Cancel", value: "", plain: true },
      ],
    )
    return answer === "discard" || (answer === "save" && (await this.save()))
  }

  /** @param {string} path */
  async open(path) {
    if (!(await this.mayLeave())) return
    await this.telling(async () => this.take(path, path, await this.api.get("file", { path })))
  }

  /** @param {string} name */
  async preset(name) {
    if (!(await this.mayLeave())) return
    await this.telling(async () => {
      const { text } = await this.api.get("preset", { name })
      this.take(null, name, { text, version: "" })
    })
  }

  async blank() {
    if (await this.mayLeave()) this.take(null, "untitled.prototxt", { text: "", version: "" })
  }

  /** Choose a file of the folder. */
  async choose() {
    const list = h("ul", { class: "files", "aria-label": "Files" })
    const filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter the files", oninput: () => show() })
    const note = h("p", { class: "quiet" }, "There are more files than are listed here.")
    const show = () => {
      const { files, more } = this.listed
      note.hidden = !more
      const words = filter.value.toLowerCase().split(/\s+/)
      const fits = files.filter((f) => words.every((w) => f.toLowerCase().includes(w)))
      list.replaceChildren(
        ...fits.slice(0, 300).map((file) => {
          const at = file.lastIndexOf("/") + 1
          return h(
            "li",
            null,
            h("button", { class: "plain", value: file, "aria-current": file === this.path ? "true" : null }, h("span", { class: "quiet" }, file.slice(0, at)), file.slice(at)),
          )
        }),
      )
      if (!fits.length) list.append(h("li", { class: "quiet" }, files.length ? "No file fits." : "This folder has no prototxt."))
    }
    show() // what was there last time, at once: the keyboard does not wait
    void this.telling(async () => {
      const now = await this.api.get("files")
      if (now.files.join() === this.listed.files.join()) return
      this.listed = now
      show()
    })
    const first = { label: "Cancel", value: "" }
    const file = await ask("Open", [filter, list, note], [first], { focus: filter })
    if (file) await this.open(file)
  }

  /**
   * @returns {Promise<boolean>} whether the text is saved
   */
  async save() {
    if (this.path === null) return this.saveAs()
    if (!this.dirty && this.other === null && this.version !== null) {
      notice("Nothing to save: the file has this text already")
      return true
    }
    return this.write(this.path, this.version)
  }

  async saveAs() {
    if (this.only !== null) {
      notice(`The editor was started for ${this.only} alone: this text is handed to you as a download`)
      download(this.title, this.text.doc.toString(), "text/plain")
      return false
    }
    const name = h("input", { type: "text", value: this.path ?? this.title, "aria-label": "Name", spellcheck: "false" })
    name.addEventListener("focus", () => name.setSelectionRange(name.value.lastIndexOf("/") + 1, Math.max(name.value.lastIndexOf("."), 0)))
    const answer = await ask(
      "Save as",
      [h("label", null, "Name, from the folder that the editor was started for", name)],
      [
        { label: "Save", value: "save" },
        { label: "Cancel", value: "", plain: true },
      ],
      { focus: name, check: () => (/\.(prototxt|pbtxt|prototext|txtpb)$/.test(name.value) ? "" : "The name must end in .prototxt") },
    )
    return answer === "save" && this.write(name.value, name.value === this.path ? this.version : null)
  }

  /**
   * @param {string} path
   * @param {string | null} version    of what may be written over; null: nothing
   * @returns {Promise<boolean>}
   */
  async write(path, version) {
    if (this.saving) return false
    this.saving = true
    this.watching.abort() // or it would tell of our own change
    const { doc } = this.text
    try {
      const saved = await this.api.post("save", { path, text: doc.toString(), version: version ?? "" })
      Object.assign(this, { path, title: path, version: saved.version, saved: doc, other: null })
      this.tell.changed()
      return true
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      this.saving = false
      if (error.status === 409) return await this.settle(path, error.now ?? "gone")
      notice(`Not saved: ${error.message}`, { bad: true })
      return false
    } finally {
      this.saving = false
      this.watch()
    }
  }

  /**
   * The file is not what was read: whose text shall it be?
   * @param {string} path
   * @param {Content | "gone"} now
   * @returns {Promise<boolean>} whether this text is saved
   */
  async settle(path, now) {
    if (now === "gone") {
      const answer = await ask(
        `${path} has been deleted`,
        [h("p", null, "Another program has deleted the file since it was read.")],
        [
          { label: "Write it again", value: "write" },
          { label: "Cancel", value: "", plain: true },
        ],
      )
      return answer === "write" && this.write(path, null)
    }
    const isOurs = path === this.path
    const mine = this.text.doc.toString()
    const { root, destroy } = compare(now.text, mine)
    const answer = await ask(
      isOurs ? `${path} has been changed by another program` : `${path} exists already`,
      [h("div", { class: "sides", "aria-hidden": "true" }, h("span", null, "In the file"), h("span", null, "In this editor")), root],
      [
        { label: "Keep mine", value: "mine" },
        ...(isOurs ? [{ label: "Take the file's", value: "theirs" }] : []),
        { label: "Save mine as…", value: "as" },
        { label: "Cancel", value: "", plain: true },
      ],
      { wide: true, focus: root },
    )
    destroy()
    if (answer === "mine") return this.write(path, now.version)
    if (answer === "as") return this.saveAs()
    if (answer === "theirs") this.reload(now)
    return false
  }

  /**
   * Take over what another program has written.
   * @param {Content} now
   */
  reload(now) {
    this.text.become(now.text)
    this.version = now.version
    this.saved = this.text.doc
    this.other = null
    this.tell.changed()
    this.watch()
  }

  /** Look at what another program has made of the file. */
  async settleOther() {
    if (this.other !== null && this.path !== null) await this.settle(this.path, this.other)
  }

  /** Ask for changes by other programs, as long as somebody looks. */
  async watch() {
    this.watching.abort()
    const watching = new AbortController()
    this.watching = watching
    while (!document.hidden && this.path !== null && !watching.signal.aborted) {
      const version = this.other === null ? (this.version ?? "") : this.other === "gone" ? "" : this.other.version
      try {
        const { state, ...now } = await this.api.get("watch", { path: this.path, version }, watching.signal)
        if (watching.signal.aborted) return
        if (state !== "same") this.noticed(state === "gone" ? "gone" : now)
      } catch (error) {
        if (!(error instanceof Fault)) return // aborted
        await new Promise((resolve) => setTimeout(resolve, AGAIN))
      }
    }
  }

  /** @param {Content | "gone"} now */
  noticed(now) {
    if (now !== "gone" && now.version === this.version) this.other = null
    else if (now !== "gone" && (!this.dirty || now.text === this.text.doc.toString())) {
      this.text.become(now.text)
      Object.assign(this, { version: now.version, saved: this.text.doc, other: null })
      notice("Another program has changed the file: its text is shown")
    } else this.other = now
    this.tell.changed()
  }

  /**
   * @template T
   * @param {() => Promise<T>} act
   * @returns {Promise<T | null>}
   */
  async telling(act) {
    try {
      return await act()
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      notice(error.message, { bad: true })
      return null
    }
  }
}

