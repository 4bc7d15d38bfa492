/**
 * Bundle src/ into netcompiler/drawing/assets/, where Python finds it:  node build.js [--out FOLDER]
 *
 * The same sources give the same bytes. The licences of what is bundled stand at the head of each script. built.json tells
 * which sources they were built from, so that a test sees without node whether they are still those.
 */

import { createHash } from "node:crypto"
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
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

const sources = readdirSync("src", { recursive: true, withFileTypes: true }).filter((f) => f.isFile()).map((f) => `${f.parentPath}/${f.name}`.replaceAll("\\", "/"))
const digest = createHash("sha256")
for (const path of ["build.js", "package-lock.json", "package.json", ...sources].sort()) digest.update(`${path}\n${sha256(path)}\n`)
const assets = ["editor.css", "editor.html", "editor.js", "page.css", "page.js"]
const built = { sources: digest.digest("hex"), assets: Object.fromEntries(assets.map((name) => [name, sha256(`${outdir}/${name}`)])) }
writeFileSync(`${outdir}/built.json`, `${JSON.stringify(built, null, 1)}\n`)

/** The digest of a text file, whatever ends its lines. */
function sha256(path) {
  return createHash("sha256").update(readFileSync(path, "utf8").replaceAll("\r\n", "\n")).digest("hex")
}

/** A comment with the licences of the packages that these files come from. */
function licences(files) {
  const names = files.map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean)
  const texts = [...new Set(names)].sort().map((name) => {
    const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"))
    return `${name} ${version}\n\n${readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim()}`
  })
  return `/* Built by web/build.js from web/src. It contains:\n\n${texts.join("\n\n---\n\n").replaceAll("*/", "* /")}\n*/`
}
