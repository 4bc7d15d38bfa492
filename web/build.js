/**
 * Bundle src/ into netcompiler/drawing/assets/, where Python finds it:  node build.js [--out FOLDER]
 *
 * The same sources give the same bytes. The licences of what is bundled stand at the head of each script.
 */

import { copyFileSync, readFileSync } from "node:fs"
import { build } from "esbuild"

const PAGES = ["page", "editor"] // each is src/NAME.js with src/NAME.css

const at = process.argv.indexOf("--out")
const outdir = at > 0 ? process.argv[at + 1] : "../netcompiler/drawing/assets"
const options = { bundle: true, minify: true, target: "es2022", charset: "utf8", logLevel: "warning", legalComments: "none" }

for (const page of PAGES) {
  const script = { ...options, entryPoints: { [page]: `src/${page}.js` }, format: "iife", outdir }
  const { metafile } = await build({ ...script, write: false, metafile: true })
  await build({ ...script, banner: { js: licences(Object.keys(metafile.inputs)) } })
  await build({ ...options, entryPoints: { [page]: `src/${page}.css` }, outdir })
}

copyFileSync("src/editor.html", `${outdir}/editor.html`)

/** A comment with the licences of the packages that these files come from. */
function licences(files) {
  const names = files.map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean)
  const texts = [...new Set(names)].sort().map((name) => {
    const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"))
    return `${name} ${version}\n\n${readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim()}`
  })
  return `/* Built by web/build.js from web/src. It contains:\n\n${texts.join("\n\n---\n\n").replaceAll("*/", "* /")}\n*/`
}
