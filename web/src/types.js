/**
 * The data of a page, as netcompiler/drawing/page.py writes it.
 *
 * @typedef {object} Net
 * @property {string} name
 * @property {string} phase            TRAIN or TEST
 * @property {string} file             the name of the file that the text is of; "" when there is none
 * @property {string} text             the prototxt; "" when there is none
 * @property {Box[]} boxes             in an order in which every edge points forward
 * @property {Edge[]} edges
 * @property {Fold[]} folds            inner ones before outer ones
 * @property {Figure[]} figures        what is known of layers, as columns
 * @property {Record<string, number>} totals    by Figure.key, and `layers`; `unknown`: layers that are not in the sums
 * @property {Record<string, Category>} categories
 * @property {Fault[]} faults          what is wrong with the net
 * @property {boolean} [expand]        whether folds are open at first
 * @property {"TB" | "LR"} [direction]  at first
 * @property {string} [theme]          light, dark, or auto: as the reader prefers
 *
 * @typedef {number[] | null} Shape    null: not known
 *
 * @typedef {object} Box               a layer, and the layers stacked onto it that work in place
 * @property {string} category
 * @property {boolean} loss            whether it counts in the loss
 * @property {Member[]} members
 * @property {Top[]} tops
 *
 * @typedef {{blob: string, shape: Shape, output: boolean}} Top
 *
 * @typedef {object} Member            a layer
 * @property {string} name
 * @property {string} type
 * @property {string} category
 * @property {string} brief            the settings that matter, in short
 * @property {[string, string, boolean][]} settings   name, value, and whether it is the default
 * @property {{blob: string, shape: Shape}[]} bottoms
 * @property {{blob: string, shape: Shape}[]} tops
 * @property {Blob[]} blobs            what it keeps
 * @property {Record<string, number | string>} figures   by Figure.key; one that is not known is left out
 * @property {[number, number] | null} lines   first and last, from 1
 * @property {string} fault            why it is not understood; "" where it is
 *
 * @typedef {object} Blob
 * @property {string} name
 * @property {number[]} shape
 * @property {string} note             how it trains, with whom it is shared
 * @property {Statistics} [stats]
 *
 * @typedef {object} Statistics        of a blob's values
 * @property {number} count
 * @property {number} min
 * @property {number} max
 * @property {number} mean
 * @property {number} std
 * @property {number} zeros
 * @property {number} odd              values that are no finite numbers
 * @property {number[]} bins           counts over equal parts of min .. max
 * @property {FilterPicture} [picture]
 *
 * @typedef {object} FilterPicture     a blob's filters, each as a small picture
 * @property {string} png              data: URL
 * @property {number} width
 * @property {number} height
 * @property {string} note             how to read it
 *
 * @typedef {[source: number, top: number, target: number, bottom: number]} Edge
 *
 * @typedef {object} Fold              equal structures, one after the other or side by side
 * @property {number[][]} copies       the indices of their boxes, alike place by place
 * @property {string[]} names          what the copies are called
 * @property {boolean} sideBySide
 *
 * @typedef {object} Figure
 * @property {string} key
 * @property {string} label
 * @property {"count" | "bytes" | "seconds" | "ratio" | "text"} unit
 * @property {string} help             what it means
 * @property {boolean} colour          whether boxes can be coloured by it
 * @property {boolean} table           whether it has a column in the table
 *
 * @typedef {object} Category
 * @property {string} label
 * @property {Paint} light
 * @property {Paint} dark
 *
 * @typedef {{fill: string, stroke: string}} Paint
 *
 * @typedef {object} Fault
 * @property {string} what
 * @property {string} layer
 * @property {[string, string][]} more   what was expected, what was found, what to try
 * @property {number | null} line
 */
export {}
