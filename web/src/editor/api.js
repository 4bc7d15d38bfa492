/** What the page asks of its server, netcompiler/serve/server.py. */

import { keep, kept } from "./ui.js"

/**
 * What went wrong with a request. status 0: the server did not answer.
 */
export class Fault extends Error {
  /**
   * @param {number} status
   * @param {{what: string, at?: string, expected?: string, got?: string, hint?: string}} fault
   * @param {{text: string, version: string, note: string}} [now]   what a file has become
   */
  constructor(status, fault, now) {
    const more = [fault.expected && `expected ${fault.expected}`, fault.got && `got ${fault.got}`, fault.hint]
    super([`${fault.at ? `${fault.at}: ` : ""}${fault.what}`, ...more.filter(Boolean)].join("; "))
    this.status = status
    this.now = now
  }
}

const KEY = "netcompile-token"

export class Api {
  /** @param {string} token */
  constructor(token) {
    this.token = token
  }

  /**
   * With the token of the address, which then leaves the address bar, or with that of an earlier visit of this tab.
   * @returns {Promise<Api>}
   */
  static async enter() {
    const given = new URLSearchParams(location.hash.slice(1))
    const api = new Api(given.get("token") ?? kept("sessionStorage", KEY) ?? "")
    history.replaceState(null, "", location.pathname)
    const visit = given.get("visit")
    if (visit) api.token = (await api.post("enter", { visit })).token
    keep("sessionStorage", KEY, api.token)
    return api
  }

  /**
   * @param {string} name
   * @param {Record<string, string>} [values]
   * @param {AbortSignal} [signal]
   */
  get(name, values = {}, signal) {
    return this.ask(`/api/${name}?${new URLSearchParams(values)}`, { method: "GET", signal })
  }

  /**
   * @param {string} name
   * @param {object} values
   * @param {AbortSignal} [signal]
   */
  post(name, values, signal) {
    return this.ask(`/api/${name}`, { method: "POST", body: JSON.stringify(values), signal })
  }

  /**
   * @param {string} address
   * @param {RequestInit} request
   * @returns {Promise<any>} Rejects with Fault, or with AbortError.
   */
  async ask(address, request) {
    let answer
    try {
      const headers = { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" }
      answer = await fetch(address, { ...request, headers, cache: "no-store", credentials: "omit" })
      if (answer.ok) return await answer.json()
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error
      throw new Fault(0, { what: "The editor's server does not answer" })
    }
    const { fault, now } = await answer.json().catch(() => ({ fault: { what: `the server says ${answer.status}` } }))
    throw new Fault(answer.status, fault, now)
  }
}
