/**
 * A prototxt -> its messages and values with their places, as far as they can be made out: a text that is being typed is
 * rarely whole. What is right and wrong with it is for the server to say.
 */

/**
 * @typedef {object} Value        a field that holds no message
 * @property {string} name
 * @property {string} text        as written, quotes included; "" where nothing is written yet
 * @property {number} from        of the name
 * @property {number} at          of the value
 * @property {number} to
 */

/**
 * @typedef {object} Message      a field that holds a message; the whole text is one without a name
 * @property {string} name
 * @property {number} from        of the name
 * @property {number} open        behind the opening mark
 * @property {number} close       of the closing mark, or where it should be
 * @property {number} to
 * @property {boolean} closed
 * @property {Message | null} parent
 * @property {Message[]} messages
 * @property {Value[]} values
 */

const TOKEN =
  /[\s,;]+|#[^\n]*|(?<word>[A-Za-z_]\w*)|(?<string>"(?:[^"\\\n]|\\[^\n])*"?|'(?:[^'\\\n]|\\[^\n])*'?)|(?<number>[-+]?\.?\d[\w.+-]*)|(?<mark>.)/gsy

/**
 * @param {string} text
 * @returns {Message}
 */
export function outline(text) {
  const root = message("", 0, 0, null)
  let here = root
  let field = ""
  let fieldFrom = 0
  let list = false
  /** @type {boolean[]} for each open message, whether it stands in a list */
  const inList = []
  /** @type {Value | null} the field that waits for its value */
  let waiting = null

  /** @param {number} at */
  const shut = (at) => {
    here.close = at
    here.to = at
  }
  TOKEN.lastIndex = 0
  for (let found = TOKEN.exec(text); found; found = TOKEN.exec(text)) {
    const from = found.index
    const to = TOKEN.lastIndex
    const { word, string, number, mark } = /** @type {Record<string, string | undefined>} */ (found.groups)
    const scalar = word ?? string ?? number
    if (waiting && scalar !== undefined) {
      const startsField = word !== undefined && /^\s*[:{<]/.test(text.slice(to, to + 40))
      if (!startsField) {
        if (waiting.text) {
          waiting = { name: field, text: "", from: fieldFrom, at: from, to }
          here.values.push(waiting)
        }
        Object.assign(waiting, { text: found[0], at: from, to })
        if (!list) waiting = null
        continue
      }
    }
    if (word !== undefined) {
      waiting = null
      list = false
      field = word
      fieldFrom = from
      if ((word === "layer" || word === "layers") && (from === 0 || text[from - 1] === "\n")) {
        // At the left edge a new layer begins, whatever was left open above.
        for (; here.parent && !isOldLayer(here, word); here = here.parent) {
          shut(from)
          inList.pop()
        }
      }
    } else if (mark === ":" && field) {
      waiting = { name: field, text: "", from: fieldFrom, at: to, to }
      here.values.push(waiting)
    } else if (mark === "[") {
      list = true
    } else if (mark === "]") {
      list = false
      waiting = null
    } else if (mark === "{" || mark === "<") {
      if (waiting) here.values.splice(here.values.indexOf(waiting), 1)
      waiting = null
      const inner = message(field, field ? fieldFrom : from, to, here)
      here.messages.push(inner)
      here = inner
      inList.push(list)
      list = false
      field = ""
    } else if ((mark === "}" || mark === ">") && here.parent) {
      waiting = null
      here.close = from
      here.to = to
      here.closed = true
      list = inList.pop() ?? false
      field = list ? here.name : ""
      fieldFrom = to
      here = here.parent
    }
  }
  for (; here.parent; here = here.parent) shut(text.length)
  shut(text.length)
  root.closed = true
  return root
}

/**
 * In the oldest nets `layer` stands inside of `layers`, perhaps at the left edge as well.
 * @param {Message} here
 * @param {string} word
 */
function isOldLayer(here, word) {
  return word === "layer" && here.name === "layers" && !here.messages.length
}

/**
 * @param {string} name
 * @param {number} from
 * @param {number} open
 * @param {Message | null} parent
 * @returns {Message}
 */
function message(name, from, open, parent) {
  return { name, from, open, close: open, to: open, closed: false, parent, messages: [], values: [] }
}

/**
 * The innermost message around a place.
 * @param {Message} root
 * @param {number} at
 * @returns {Message}
 */
export function messageAt(root, at) {
  let here = root
  for (;;) {
    const inner = here.messages.find((m) => m.open <= at && at <= m.close)
    if (!inner) return here
    here = inner
  }
}

/**
 * The layer, of whatever generation, around a place; the whole field counts, its name and its closing mark too.
 * @param {Message} root
 * @param {number} at
 * @returns {Message | null}
 */
export function layerAt(root, at) {
  return layers(root).find((m) => m.from <= at && at <= m.to) ?? null
}

/**
 * @param {Message} root
 * @returns {Message[]}
 */
export function layers(root) {
  return root.messages.filter((m) => m.name === "layer" || m.name === "layers")
}

/**
 * The text of a value, without its quotes.
 * @param {Message | undefined | null} message
 * @param {string} name
 * @returns {string}
 */
export function valueOf(message, name) {
  return plain(message?.values.find((v) => v.name === name)?.text ?? "")
}

/** @param {string} text */
export function plain(text) {
  return /^["']/.test(text) ? text.slice(1, text.length > 1 && text.endsWith(text[0]) ? -1 : undefined) : text
}

/**
 * The names of the messages from the outermost to this one, without the text itself.
 * @param {Message} message
 * @returns {string[]}
 */
export function pathOf(message) {
  const names = []
  for (let m = message; m.parent; m = m.parent) names.unshift(m.name)
  return names
}
