/** Keeps the server's view of the text up to date: one question at a time, the newest text each time. */

import { ChangeSet } from "@codemirror/state"
import { Fault } from "./api.js"

/** @typedef {import("@codemirror/state").Text} Text */
/** @typedef {import("@codemirror/view").EditorView} EditorView */

/**
 * What is known of a text.
 * @typedef {object} Answer
 * @property {"net" | "solver"} kind
 * @property {boolean} readable
 * @property {import("./problems.js").Problem[]} problems
 * @property {import("../types.js").Net | null} [net]    left out where it is that of the last answer
 * @property {string} id                                 names the net; "" where there is none
 */

/**
 * What the net is looked at as.
 * @typedef {object} State
 * @property {"TRAIN" | "TEST"} phase
 * @property {Record<string, number[]>} inputs
 */

// Milliseconds without a key, before anything is asked. Where answers take long a question between two keys of a word would
// only be in the way of that after the last one; the first key after a pause may be the only one.
const REST = 30
const LONG_REST = 100
const LONG = 80 // milliseconds that an answer takes
const PAUSE = 400
const AGAIN = 1500 // milliseconds, when the server did not answer

export class Follower {
  /**
   * @param {import("./api.js").Api} api
   * @param {EditorView} view
   * @param {State} state
   * @param {(answer: Answer, doc: Text, moved: (at: number) => number) => void} then   doc: the text that was asked about;
   *   moved: where its places are now
   * @param {(fault: Fault | null) => void} lost    whether the server answers
   */
  constructor(api, view, state, then, lost) {
    this.api = api
    this.view = view
    this.state = state
    this.then = then
    this.lost = lost
    this.id = ""
    this.asking = false
    this.stale = false
    this.round = 0
    this.took = 0 // milliseconds, the last answer
    this.key = -Infinity // when the last key was pressed
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined
    /** @type {ChangeSet} what has been typed since the last question */
    this.since = ChangeSet.empty(view.state.doc.length)
  }

  /**
   * To be told of every change of the text.
   * @param {ChangeSet} changes
   */
  changed(changes) {
    this.since = this.since.compose(changes)
    const now = performance.now()
    this.soon(this.took > LONG && now - this.key < PAUSE ? LONG_REST : REST)
    this.key = now
  }

  /** There is another text. */
  restart() {
    this.since = ChangeSet.empty(this.view.state.doc.length)
    this.round++
    this.id = ""
    this.soon(0)
  }

  /** @param {number} wait */
  soon(wait) {
    this.stale = true
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.ask(), wait)
  }

  async ask() {
    if (this.asking || !this.stale) return
    this.asking = true
    this.stale = false
    const { round } = this
    const { doc } = this.view.state
    this.since = ChangeSet.empty(doc.length)
    const asked = performance.now()
    try {
      const answer = await this.api.post("analyse", { text: doc.toString(), ...this.state, have: this.id })
      this.took = performance.now() - asked
      this.lost(null)
      if (round !== this.round) return
      this.id = answer.id
      this.then(answer, doc, (at) => this.since.mapPos(Math.min(at, doc.length)))
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      this.lost(error)
      if (error.status === 0) this.soon(AGAIN)
    } finally {
      this.asking = false
      if (this.stale) this.soon(0)
    }
  }
}
