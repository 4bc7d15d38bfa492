/** The ways from a box to the inputs and to the outputs, along the edges that are drawn. */

/** @typedef {import("./scene.js").Scene} Scene */

export class Wiring {
  /** @param {Scene} scene */
  constructor(scene) {
    /** @type {Map<number, import("./scene.js").SceneEdge[]>} */
    this.into = new Map(scene.boxes.map((box) => [box, []]))
    /** @type {Map<number, import("./scene.js").SceneEdge[]>} */
    this.outOf = new Map(scene.boxes.map((box) => [box, []]))
    for (const edge of scene.edges) {
      this.into.get(edge.to)?.push(edge)
      this.outOf.get(edge.from)?.push(edge)
    }
  }

  /**
   * What lies before a box, or behind it.
   * @param {number} box
   * @param {"up" | "down"} way
   * @returns {{boxes: Set<number>, edges: Set<string>}}
   */
  reach(box, way) {
    const next = way === "up" ? this.into : this.outOf
    /** @type {Set<number>} */
    const boxes = new Set()
    /** @type {Set<string>} */
    const edges = new Set()
    const waiting = [box]
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
      for (const edge of next.get(at) ?? []) {
        edges.add(edge.key)
        const other = way === "up" ? edge.from : edge.to
        if (!boxes.has(other)) {
          boxes.add(other)
          waiting.push(other)
        }
      }
    }
    return { boxes, edges }
  }
}
