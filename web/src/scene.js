/** A net and which of its folds are closed -> the boxes and frames to draw, and the edges between them. */

/** @typedef {import("./types.js").Net} Net */
/** @typedef {import("./types.js").Fold} Fold */

/**
 * A fold with its place in the net. Folds that are each other's likes in the copies of an outer fold have one `key`, and
 * are opened and closed together.
 * @typedef {object} Frame
 * @property {number} id             index in Net.folds
 * @property {string} key
 * @property {Fold} fold
 * @property {Frame | null} parent
 */

/**
 * What is open and which copy is shown, by Frame.key.
 * @typedef {{closed: Set<string>, shown: Map<string, number>}} FoldState
 */

/**
 * @typedef {object} SceneEdge
 * @property {number} from       box
 * @property {number} top
 * @property {number} to         box
 * @property {string} key
 */

/**
 * @typedef {object} Scene
 * @property {number[]} boxes            those to draw
 * @property {Frame[]} frames            those to draw, outer ones first
 * @property {SceneEdge[]} edges
 */

export class Structure {
  /** @param {Net} net */
  constructor(net) {
    this.net = net
    /** @type {{frame: Frame, copy: number, place: number}[][]} for each box, the folds around it, outermost first */
    this.around = net.boxes.map(() => [])
    /** @type {Frame[]} outer ones first */
    this.frames = []
    const bySize = net.folds.map((fold, id) => ({ fold, id }))
    bySize.sort((a, b) => boxesIn(b.fold) - boxesIn(a.fold))
    for (const { fold, id } of bySize) {
      const parent = this.around[fold.copies[0][0]].at(-1)?.frame ?? null
      const key = `${this.likeIn(fold.copies[0][0])}:${fold.copies[0].length}:${fold.copies.length}`
      const frame = { id, key, fold, parent }
      this.frames.push(frame)
      fold.copies.forEach((boxes, copy) => {
        boxes.forEach((box, place) => this.around[box].push({ frame, copy, place }))
      })
    }
  }

  /**
   * The box that stands for this one when every fold shows its first copy: the same for all boxes that are alike.
   * @param {number} box
   * @returns {number}
   */
  likeIn(box) {
    for (let i = 0; i < this.around[box].length; i++) {
      const { frame, place } = this.around[box][i]
      box = frame.fold.copies[0][place]
    }
    return box
  }

  /**
   * The box that is drawn where this one belongs.
   * @param {number} box
   * @param {FoldState} state
   * @returns {number}
   */
  shownFor(box, state) {
    for (let i = 0; i < this.around[box].length; i++) {
      const { frame, place } = this.around[box][i]
      if (state.closed.has(frame.key)) box = frame.fold.copies[shownCopy(frame, state)][place]
    }
    return box
  }

  /**
   * The state in which a box is drawn itself, with no fold opened: each closed fold around it shows its copy.
   * @param {number} box
   * @param {FoldState} state
   * @returns {FoldState}
   */
  showing(box, state) {
    const shown = new Map(state.shown)
    for (const { frame, copy } of this.around[box]) if (state.closed.has(frame.key)) shown.set(frame.key, copy)
    return { closed: state.closed, shown }
  }

  /**
   * @param {FoldState} state
   * @returns {Scene}
   */
  scene(state) {
    const shown = this.net.boxes.map((_, box) => this.shownFor(box, state))
    const boxes = [...new Set(shown)].sort((a, b) => a - b)
    const frames = new Set(boxes.flatMap((box) => this.around[box].map(({ frame }) => frame)))
    /** @type {Map<string, SceneEdge>} */
    const edges = new Map()
    for (const [source, top, target] of this.net.edges) {
      if (this.betweenCopies(source, target, state)) continue
      const key = `${shown[source]}.${top}-${shown[target]}`
      edges.set(key, { from: shown[source], top, to: shown[target], key })
    }
    return { boxes, frames: this.frames.filter((f) => frames.has(f)), edges: [...edges.values()] }
  }

  /**
   * Whether an edge leads from one copy of a closed fold to another, so that it is not seen.
   * @param {number} source
   * @param {number} target
   * @param {FoldState} state
   */
  betweenCopies(source, target, state) {
    return this.around[source].some(
      ({ frame, copy }) =>
        state.closed.has(frame.key) && this.around[target].some((other) => other.frame === frame && other.copy !== copy),
    )
  }

  /**
   * The frames around a drawn box, outermost first.
   * @param {number} box
   * @returns {Frame[]}
   */
  framesAround(box) {
    return this.around[box].map(({ frame }) => frame)
  }
}

/**
 * @param {Frame} frame
 * @param {FoldState} state
 * @returns {number}
 */
export function shownCopy(frame, state) {
  return Math.min(state.shown.get(frame.key) ?? 0, frame.fold.copies.length - 1)
}

/** @param {Fold} fold */
function boxesIn(fold) {
  return fold.copies.length * fold.copies[0].length
}
