/* What came back: status, headers, body, and what may be done next. */

import { el, setText } from "../dom.js";
import { bytes } from "../format.js";
import { resolved } from "./fields.js";

/** More than a person reads, and as much as a browser lays out without stalling. */
const SHOWN = 100_000;

export class Answer {
  #api;
  #responses;

  constructor(api, responses) {
    this.#api = api;
    this.#responses = responses;
    this.status = el("p", { class: "answer__status", role: "status" });
    this.root = el("div", { class: "answer" }, this.status);
    this.root.hidden = true;
  }

  /** Send a request and show what comes, event streams as they come. */
  async show(request, options) {
    const began = performance.now();
    const body = el("pre", { class: "answer__body", tabindex: "0", role: "region", "aria-label": "Body of the answer" });
    this.root.hidden = false;
    this.root.dataset.kind = "";
    setText(this.status, "Waiting");
    this.root.replaceChildren(this.status, el("pre", { class: "answer__curl", tabindex: "0", role: "region", "aria-label": "As a command" }, curl(request, options)));
    try {
      const response = await fetch(request.address, options);
      this.root.dataset.kind = response.ok || response.status === 304 ? "good" : "bad";
      const head = `${response.status} ${response.statusText}, ${Math.round(performance.now() - began)} ms`;
      setText(this.status, head);
      this.root.append(headersOf(response), body);
      const text = await readInto(body, response, (size) => setText(this.status, `${head}, ${bytes(size)}`));
      this.#next(response, text, request);
    } catch (error) {
      setText(this.status, error.name === "AbortError" ? "Stopped" : `No answer: ${error.message}`);
    }
  }

  /** Buttons for the links of the answer's description, and for the value of a job that has one. */
  #next(response, text, request) {
    const value = parsed(text);
    const described = resolved(this.#responses[response.status], this.#api.description);
    const links = Object.entries(described.links ?? {}).map(([name, link]) => [name, resolved(link, this.#api.description)]);
    const buttons = links.map(([name, { operationId, parameters, description }]) => {
      const values = Object.fromEntries(Object.entries(parameters).map(([key, from]) => [key.replace(/^(query|path|header)\./, ""), evaluated(from, response, value, request)]));
      return this.#button(name, description, operationId, values);
    });
    if (typeof value?.result_url === "string" && !links.some(([name]) => name === "value")) {
      const [path, query] = value.result_url.split("?");
      const found = this.#api.description.paths[path]?.get;
      if (found) buttons.push(this.#button("value", "The value.", found.operationId, Object.fromEntries(new URLSearchParams(query))));
    }
    if (buttons.length) this.root.append(el("p", { class: "answer__next" }, "Next: ", ...buttons));
  }

  #button(name, description, operationId, values) {
    const button = el("button", { class: "button button--quiet", type: "button", title: description }, name);
    button.addEventListener("click", () => this.#api.open(operationId, values));
    return button;
  }
}

function headersOf(response) {
  const rows = [...response.headers].flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
  return el("details", { class: "answer__headers", open: true }, el("summary", {}, "Headers"), el("dl", {}, ...rows));
}

/** The whole text of the body, shown while it comes; `told` hears of its size. */
async function readInto(element, response, told) {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let piece = await reader?.read(); piece && !piece.done; piece = await reader.read()) {
    text += piece.value;
    if (text.length <= SHOWN) setText(element, text);
    told(text.length);
  }
  const value = parsed(text);
  const shown = value === undefined ? text : JSON.stringify(value, null, 2);
  setText(element, shown.length > SHOWN ? `${shown.slice(0, SHOWN)}\n… ${bytes(shown.length - SHOWN)} more` : shown);
  element.hidden = !text;
  return text;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A runtime expression of OpenAPI: `$response.body#/id`, `$response.header.X`, `$request.query.x`. */
function evaluated(expression, response, value, { sent }) {
  const [, side, place, rest] = /^\$(request|response)\.(body|header|query|path)[.#]\/?(.*)$/.exec(expression) ?? [];
  if (side === "request") return sent[place]?.[rest];
  if (place === "header") return response.headers.get(rest) ?? undefined;
  return place === "body" ? rest.split("/").reduce((here, part) => here?.[part], value) : undefined;
}

/** The same as a command; a token is named, never shown. */
function curl({ address, headers, body }, { method, headers: all }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const told = Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  const bearer = all.Authorization ? ['-H "Authorization: Bearer $TOKEN"'] : [];
  const data = body ? [`-d ${quoted(body)}`] : [];
  return ["curl -i", ...(method === "GET" ? [] : [`-X ${method}`]), ...bearer, ...told, ...data, quoted(location.origin + address)].join(" ");
}
