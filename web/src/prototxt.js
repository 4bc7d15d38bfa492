/** prototxt, one line at a time -> pieces with a class each, for colouring. */

const TOKEN = /(#.*)|("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)|([-+]?\.?\d[\w.+-]*)|([A-Za-z_]\w*)(?=\s*[:{<])|([A-Za-z_]\w*)|([{}[\]<>:;,])|(\s+|.)/g
const CLASSES = ["", "comment", "string", "number", "field", "word", "mark", ""]

/**
 * @param {string} line
 * @returns {[string, string][]} class and text; an empty class is plain
 */
export function pieces(line) {
  /** @type {[string, string][]} */
  const found = []
  for (const match of line.matchAll(TOKEN)) {
    const which = match.findIndex((part, i) => i > 0 && part !== undefined)
    found.push([CLASSES[which] ?? "", match[0]])
  }
  return found
}
